"""The same over many machines: roles, the connection, the learner's and the actors' side."""
