"""The way from actors to the learner: the bounded queue, packed unrolls, and the replay."""
