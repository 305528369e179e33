"""One update: V-trace, losses, optimizer, and the learner."""
