"""The Arcade Learning Environment, for tests of what is made of it."""

import ale_py
import numpy as np


def random_actions(atari, steps, seed=7):
  return np.random.default_rng(seed).integers(atari.num_actions, size=steps).tolist()


def emulator(game, **settings):
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
  ale = ale_py.ALEInterface()
  ale.setFloat('repeat_action_probability', 0.0)
  for name, value in settings.items():
    ale.setInt(name, value)
  ale.loadROM(ale_py.roms.get_rom_path(game))
  ale.reset_game()
  return ale
