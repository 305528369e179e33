"""Small environments of Gymnasium, as people write them,
`--level_name=gymnasium:tests.support.gymnasium_tasks:OneState-v0`.

Each but the first two has something that a program should cope with.
"""

import gymnasium
import numpy as np

MODULE = __name__
TASKS = f'gymnasium:{MODULE}'  # What the names of levels begin with.

_NUMBER = gymnasium.spaces.Box(-1, 1, (1,))


class OneState(gymnasium.Env):
  """One state, reward 1 for each step, without an end: its value is 1 / (1 - discount). Registered
  with a time limit of 10 steps.
  """

  observation_space = _NUMBER
  action_space = gymnasium.spaces.Discrete(2)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return np.ones(1, np.float32), {}

  def step(self, action):
    return np.ones(1, np.float32), 1.0, False, False, {}


class TwoArms(OneState):
  """An episode of one step: arm 0 pays 1, arm 1 pays 10 half of the time."""

  def step(self, action):
    reward = 10.0 * self.np_random.integers(2) if action else 1.0
    return np.ones(1, np.float32), reward, True, False, {}


class Seeing(OneState):
  """An image, numbers and a text at once, and a reward for an action that the text names."""

  observation_space = gymnasium.spaces.Dict(
    {
      'image': gymnasium.spaces.Box(0, 1, (3, 40, 50)),
      'number': gymnasium.spaces.Box(0.0, 8.0, (1,)),
      'text': gymnasium.spaces.Text(10),
    }
  )

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._steps, self._wanted = 0, int(self.np_random.integers(2))
    return self._observe(), {}

  def step(self, action):
    self._steps += 1
    return self._observe(), float(action == self._wanted), self._steps == 5, False, {}

  def render(self):
    return np.full((41, 50, 3), 9 * self._steps, np.uint8)

  def _observe(self):
    image = np.full((3, 40, 50), self._steps / 10, np.float32)
    number = np.array([4.0 + self._steps / 2], np.float32)
    return {'image': image, 'number': number, 'text': ('left', 'right')[self._wanted]}


class Pictured(Seeing):
  """The same, with pictures for films."""

  metadata = {'render_modes': ['rgb_array'], 'render_fps': 10}  # noqa: RUF012

  def __init__(self, render_mode=None):
    self.render_mode = render_mode

  def render(self):
    return super().render() if self.render_mode == 'rgb_array' else None


class Odd(OneState):
  """What `trouble` says happens at step `at`; before that rewards are 1, of the type given."""

  def __init__(self, trouble='', at=3, reward=1.0):
    self._trouble, self._at, self._reward = trouble, at, reward
    if trouble == 'constructor':
      raise ValueError('No such map.')

  def reset(self, *, seed=None, options=None):
    observation, info = super().reset(seed=seed)
    self._steps = 0
    return observation if self._trouble == 'old reset' else (observation, info)

  def step(self, action):
    self._steps += 1
    observation, reward = np.ones(1, np.float32), self._reward
    if self._trouble == 'prints':
      print(f'step {self._steps}')
    if self._steps >= self._at:
      if self._trouble == 'observation':
        observation = np.full(1, np.nan, np.float32)
      if self._trouble == 'reward':
        reward = float('inf')
      if self._trouble == 'old step':
        return observation, reward, False, {}
    return observation, reward, False, False, {}


class Echo(gymnasium.Env):
  """Actions 5, 6 and 7; the reward is the action. Pictures of random noise. Ends with the fourth
  step.
  """

  action_space = gymnasium.spaces.Discrete(3, start=5)

  def __init__(self, shape=(20, 30, 3)):
    self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._steps = 0
    return self._picture(), {}

  def step(self, action):
    self._steps += 1
    return self._picture(), action, self._steps == 4, False, {}

  def _picture(self):
    return self.np_random.integers(0, 256, self.observation_space.shape, np.uint8)


class Sentences(gymnasium.Env):
  """Observations of a space that nobody knows."""

  action_space = gymnasium.spaces.Discrete(2)
  observation_space = gymnasium.spaces.Dict({'mission': gymnasium.Space()})


for _class in (TwoArms, Seeing, Pictured, Odd, Echo, Sentences):
  gymnasium.register(f'{_class.__name__}-v0', f'{__name__}:{_class.__name__}')
gymnasium.register('OneState-v0', f'{__name__}:OneState', max_episode_steps=10)
gymnasium.register('GreyEcho-v0', f'{__name__}:Echo', kwargs={'shape': (20, 30)})
