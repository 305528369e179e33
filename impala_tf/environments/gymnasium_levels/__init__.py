"""Any Gymnasium environment with discrete actions, as a level: `gymnasium:CartPole-v1`."""
