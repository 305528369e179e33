"""The suite of 30 DeepMind Lab levels."""
