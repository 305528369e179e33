"""The network: torso, instruction encoder, LSTM and heads."""
