"""The benchmark: how it measures, what it counts, and its commands."""

import dataclasses
import itertools
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from atari57 import suite as atari57_suite
from impala_tf.agent import agents
from impala_tf.benchmark import __main__ as command
from impala_tf.benchmark import fake_environment, measurement, parts
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.environments.base import EnvironmentBatch
from impala_tf.system import machine
from tests.support import catch, own_flags


class FakeTree:
  """A process tree that uses a processor second and a half for each step of `Steps`."""

  def __init__(self, steps):
    self._steps = steps

  def cpu_seconds(self):
    return 1.5 * self._steps.done

  def memory_mebibytes(self):
    """Most in the second of the three windows, which end at steps 5, 8 and 11."""
    return 100.0 + min(self._steps.done, 16 - self._steps.done)


class Steps:
  """Steps of 40 frames that take two seconds each by a clock of their own."""

  done = 0

  def __next__(self):
    self.done += 1
    return 40

  def clock(self):
    return 2.0 * self.done


def test_a_training_that_ends_within_the_measurement_is_told_of():
  with pytest.raises(ConfigurationError, match='--total_environment_frames'):
    measurement.measure('train', iter([160, 160]), seconds=1000.0, repeats=1, warm_up_seconds=0.0)


def test_rates_processor_time_and_memory_by_hand():
  steps = Steps()
  shares = itertools.count()
  result = measurement.measure(
    'work',
    steps,
    seconds=6.0,
    repeats=3,
    warm_up_seconds=3.0,
    readers={'group': lambda: {'stage': next(shares)}},
    clock=steps.clock,
    tree=FakeTree(steps),
  )
  assert steps.done == 2 + 3 * 3
  assert result.frames_per_second_windows == [20.0] * 3
  assert result.cpu_seconds_per_1000_frames == pytest.approx(1000 * 1.5 / 40)
  assert result.cores == pytest.approx(0.75)
  assert result.peak_memory_mebibytes == 108.0
  assert result.stages == {
    'group': {'stage': 1}
  }  # what was before the first window was thrown away
  assert '20 frames/s' in str(result)


def test_the_bound_is_the_sum_of_the_parts():
  part = measurement.Result('part', 1.0, [1.0], 0.25, 1.0, 1.0, {}, {})
  parts = (part, dataclasses.replace(part, cpu_seconds_per_1000_frames=0.5), part)
  assert measurement.bound(*parts) == pytest.approx(1.0)


@pytest.mark.parametrize(
  ('agent', 'forward_and_backward'),
  [
    # The kernels' products at each position, for all but the first convolution three times, for
    # that one twice.
    (
      'shallow',
      2 * 20 * 20 * 32 * 8 * 8 * 4
      + 3 * (9 * 9 * 64 * 4 * 4 * 32 + 7 * 7 * 64 * 3 * 3 * 64 + 3136 * 512 + 512 * 7),
    ),
    (
      'deep',
      2 * 84 * 84 * 16 * 9 * 4
      + 3 * (4 * 42 * 42 * 16 * 9 * 16)
      + 3 * (42 * 42 * 32 * 9 * 16 + 4 * 21 * 21 * 32 * 9 * 32)
      + 3 * (21 * 21 * 32 * 9 * 32 + 4 * 11 * 11 * 32 * 9 * 32)
      + 3 * (3872 * 256 + 256 * 7),
    ),
  ],
)
def test_operations_of_an_update_by_hand(agent, forward_and_backward):
  config = dataclasses.replace(
    atari57_suite.SUITE.configure('pong', agent=agent), batch_size=2, unroll_length=3
  )
  suite = atari57_suite.AtariSuite()
  flops = parts.update_flops(
    agents.for_suite(suite, config), suite.observation_spec(config), config
  )
  assert flops == 2 * forward_and_backward * 2 * 4


def test_operations_of_an_lstm_are_counted_but_for_those_of_its_state():
  suite, config = suites.resolve('gymnasium:CartPole-v1', batch_size=2, unroll_length=3)
  flops = []
  for use_lstm in (True, False):
    changed = dataclasses.replace(config, use_lstm=use_lstm)
    agent = agents.for_suite(suite, changed)
    flops.append(parts.update_flops(agent, suite.observation_spec(changed), changed))
  # Its input: 64 features of the torso, the last reward and action; forward and two ways back.
  assert flops[0] - flops[1] > 2 * 3 * 64 * 4 * 256 * 2 * 4


def test_operations_of_instructions_are_left_out():
  suite, config = suites.resolve('rooms_watermaze', batch_size=2, unroll_length=3)
  counts = []
  for use_instruction in (True, False):
    agent = agents.make_agent(
      9,
      network='shallow',
      use_lstm=False,
      use_last_action_and_reward=False,
      use_instruction=use_instruction,
    )
    counts.append(parts.update_flops(agent, suite.observation_spec(config), config))
  # The heads see 64 numbers more of them: 9 logits and a value, forward and two ways back.
  assert counts[0] - counts[1] == 2 * 3 * 64 * (9 + 1) * 2 * 4


def test_the_fake_environment_is_one():
  config = atari57_suite.SUITE.configure('pong', agent='shallow')
  suite = fake_environment.FakeSuite(atari57_suite.AtariSuite())
  batch = EnvironmentBatch([suite.make_environment('pong', seed, False, config) for seed in (1, 2)])
  first = batch.initial().observation.frame.copy()
  assert first.shape == (2, 84, 84, 4)
  assert first.std() > 50
  assert np.any(first[0] != first[1])
  for _ in range(1000):
    output = batch.step(np.zeros(2, np.int32))
  assert output.info.finished.all()
  assert output.info.episode_steps.tolist() == [1000, 1000]


def test_each_step_of_a_part_says_its_frames():
  config = dataclasses.replace(
    catch.CONFIG,
    envs_per_actor=5,
    unroll_length=3,
    num_action_repeats=4,
    batch_size=2,
    replay_fraction=0.5,
  )
  suite = fake_environment.FakeSuite(catch.CatchSuite())
  for part, frames in (
    (parts.env, 5 * 4),
    (parts.infer, 5 * 3 * 4),
    (parts.queue, 2 * 3 * 4),
    # The replayed one of the two was counted before.
    (parts.learn, 1 * 3 * 4),
    (parts.act, 1 * 3 * 4),
  ):
    with part(suite, config) as (steps, _, _):
      assert [next(steps) for _ in range(2)] == [frames] * 2


def run(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'impala_tf.benchmark', *arguments],
    capture_output=True,
    text=True,
    check=False,
  )


SHORT = (
  '--seconds=0.2',
  '--repeats=1',
  '--warm_up_seconds=0.1',
  '--batch_size=2',
  '--unroll_length=3',
)


def test_training_and_its_bound_as_a_command(tmp_path):
  path = tmp_path / 'found.json'
  done = run(
    'train',
    '--compare',
    '--level_name=tests.support.catch:catch',
    '--fake_environment',
    '--num_actors=1',
    '--envs_per_actor=2',
    f'--output={path}',
    *SHORT,
  )
  assert done.returncode == 0, done.stderr
  assert 'CPU-second' in done.stdout
  report = json.loads(path.read_text())
  assert [result['name'] for result in report['results']] == ['train', 'env', 'infer', 'learn']
  whole, *parts = (result['cpu_seconds_per_1000_frames'] for result in report['results'])
  assert report['share_of_bound'] == pytest.approx(sum(parts) / whole)
  assert set(report['results'][0]['stages']) == {'learner', 'actors'}
  assert report['machine']['tensorflow']
  assert report['config']['batch_size'] == 2


def test_a_comparison_is_with_what_the_parts_need_together(monkeypatch, tmp_path, capsys):
  seconds = {'train': 0.8, 'env': 0.1, 'infer': 0.1, 'learn': 0.2}
  measured = []

  def measure_all(suite, config, names):
    measured.extend(names)
    return [measurement.Result(name, 0.0, [], seconds[name], 0.0, 0.0, {}, {}) for name in names]

  monkeypatch.setattr(command, '_measure_all', measure_all)
  monkeypatch.setattr(machine, 'cores', lambda: 4)
  path = tmp_path / 'found.json'
  flags = ('--compare', '--level_name=pong', f'--output={path}')
  own_flags.parse(monkeypatch, command.define_flags, *flags)
  assert command.main(['benchmark', 'train']) == 0
  assert measured == ['train', 'env', 'infer', 'learn']
  report = json.loads(path.read_text())
  assert report['bound_cpu_seconds_per_1000_frames'] == pytest.approx(0.4)
  assert report['share_of_bound'] == pytest.approx(0.5)
  printed = capsys.readouterr().out
  assert all(number in printed for number in (' 0.4000 ', ' 10,000 ', ' 4 cores', ' 50 %'))


def test_parts_without_environments_do_not_need_the_engine():
  level = ('--level_name=rooms_watermaze', '--agent=shallow')
  done = run('infer', *level, '--envs_per_actor=2', *SHORT)
  assert done.returncode == 0, done.stderr


def test_bytes_between_processes():
  done = run(
    'cluster',
    '--level_name=pong',
    '--actor_processes=2',
    '--envs_per_actor=2',
    *SHORT,
    '--unroll_length=20',
  )
  assert done.returncode == 0, done.stderr
  number = lambda name: float(
    re.search(rf'{re.escape(name)}: ([\d.,e+]+)', done.stdout)[1].replace(',', '')
  )
  # Of a stack of four frames the oldest three only in row 0; reward, ends, episode and agent's
  # output of each row; level, version and sender.
  assert (
    number('bytes of an unroll')
    == 24 * 84 * 84 + 21 * (4 + 1 + 1 + 4 + 4 + 1 + 4 + 6 * 4 + 4) + 3 * 4
  )
  assert number('bytes of a pull') == 4 * (atari57_parameters() + 1)
  # A pull comes with two unrolls. Other programs may use the loopback meanwhile.
  expected = number('bytes of an unroll') + number('bytes of a pull') / 2
  assert number('bytes sent for each unroll') > 0.9 * expected


def test_a_process_speaks_for_many_actors_by_connections_of_their_own():
  done = run('cluster', '--level_name=pong', '--connections=5', '--envs_per_actor=2', *SHORT)
  assert done.returncode == 0, done.stderr
  number = lambda name: float(
    re.search(rf'{re.escape(name)}: ([\d.,e+]+)', done.stdout)[1].replace(',', '')
  )
  assert number('actors') == 5
  # Each has one to the learner, and the learner one to each. That of the actor which was overheard
  # may not be broken off yet.
  assert 2 * 5 <= number("learner's connections") <= 2 * 5 + 2
  expected = number('bytes of an unroll') + number('bytes of a pull') / 2
  assert number('bytes sent for each unroll') > 0.9 * expected
  assert number('pull ms, median') > 0


def atari57_parameters():
  agent = agents.for_suite(
    atari57_suite.SUITE, atari57_suite.SUITE.configure('pong', agent='shallow')
  )
  return sum(variable.shape.num_elements() for variable in agent.trainable_variables)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['cluster', '--level_name=pong', '--actor_processes=2,1,2'], '--actor_processes=2,1,2 '),
    (['cluster', '--level_name=pong', '--connections=64,0'], '--connections=64,0 '),
    (['cluster', '--level_name=pong', '--connections=9001'], '--connections=9001 '),
    (['cluster', '--level_name=pong', '--actor_processes=1,x'], '--actor_processes=1,x '),
    (['learn'], '--level_name '),
    (['learn', '--level_name=pnog'], ' pong'),
    (['learn', '--level_name=pong', '--compare'], '--compare '),
    (['lern', '--level_name=pong'], 'lern'),
    ([], 'train, act, infer'),
  ],
)
def test_bad_input(arguments, message):
  done = run(*arguments, *SHORT)  # Short if it is not refused.
  assert done.returncode == 1
  assert message in done.stderr + done.stdout
