"""The way from actors to the learner: the bounded queue, packing, and the replay."""
