"""Playing T steps under one policy: inference, unrolls, and the learner's published weights."""
