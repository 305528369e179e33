"""A run: the loop, where its batches come from, checkpoints, episodes, and what is logged."""
