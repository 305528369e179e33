"""The way from actors to the learner: the bounded queue, smaller forms of unrolls, and the replay."""
