"""The suite of 57 Atari 2600 games."""
