"""The paper's tables and figures as data: what is run for each, and what the paper found."""

import dataclasses
import math
import os

from impala_tf.config import ConfigurationError
from impala_tf.paper.kinds import (
  KEYS_DOORS,
  SEEKAVOID,
  TASKS,
  Agents,
  Experiment,
  Method,
  Sweeps,
  Throughput,
)

WORKERS = 32  # Of A3C and A2C on a single machine (Figure 4).
ACTORS = 200  # Of IMPALA, for a single level (Figure 4).
# The lags of Figure E.1 are printed nowhere but in its image; these are this project's.
LAGS = (0, 1, 10, 100)
LAG_FOLDER = r'lag_(\d+)_'  # How the folders of methods with a lag begin.


def _slug(*parts):
  return '_'.join(str(part) for part in parts if part != '')


_IMPALA = Method('IMPALA', 'impala', environments=ACTORS)
# With as many environments as the methods that it is compared with.
_SMALL_IMPALA = dataclasses.replace(
  _IMPALA, label=f'IMPALA, {WORKERS} actors', folder=f'impala_{WORKERS}', environments=WORKERS
)
_A2C = Method('Batched A2C', 'a2c', {'architecture': 'a2c_sync_trajectories'}, environments='batch')
_A3C_GIVEN = {'architecture': 'a3c', 'batch_size': 1, 'envs_per_actor': 1, 'num_actors': WORKERS}
_A3C = Method(f'A3C, single machine, {WORKERS} workers', 'a3c', _A3C_GIVEN)

_CORRECTIONS = {
  'V-trace': 'vtrace',
  '1-step IS': 'one_step_is',
  'epsilon-correction': 'epsilon',
  'No correction': 'none',
}
# Table 2, average final return over the three best, by correction and replay, in the order of
# TASKS.
_TABLE_2 = {
  ('vtrace', False): (46.8, 32.9, 31.3, 229.2, 43.8),
  ('one_step_is', False): (51.8, 35.9, 25.4, 215.8, 43.7),
  ('epsilon', False): (44.2, 27.3, 4.3, 107.7, 41.5),
  ('none', False): (40.3, 29.1, 5.0, 94.9, 16.1),
  ('vtrace', True): (47.1, 35.8, 34.5, 250.8, 46.9),
  ('one_step_is', True): (54.7, 34.4, 26.4, 204.8, 41.6),
  ('epsilon', True): (30.4, 30.2, 3.9, 101.5, 37.6),
  ('none', True): (35.0, 21.1, 2.8, 85.0, 11.2),
}


def _corrections(replay):
  for label, correction in _CORRECTIONS.items():
    given = {'correction': correction} if correction != 'vtrace' else {}
    # Equal runs have equal folders: V-trace without replay is IMPALA, whichever table it is run
    # for.
    folder = _slug(
      'impala', correction if correction != 'vtrace' else '', 'replay' if replay else ''
    )
    yield Method(
      label,
      folder,
      given | ({'replay_fraction': 0.5} if replay else {}),
      environments=ACTORS,
      group='with replay' if replay else 'without replay',
      paper=dict(zip(TASKS, _TABLE_2[correction, replay], strict=True)),
    )


def _lagging(lags):
  for replay in (False, True):
    for lag in lags:
      for label, correction in _CORRECTIONS.items():
        yield Method(
          label,
          _slug('lag', lag, correction, 'replay' if replay else ''),
          # Where nobody waits, so that the lag is what it is said to be.
          {'architecture': 'a2c_sync_trajectories', 'policy_lag': lag, 'correction': correction}
          | ({'replay_fraction': 0.5} if replay else {}),
          environments='batch',
          group=f'lag {lag}, {"with" if replay else "without"} replay',
        )


def _rates(cpus, gpus, *rates):
  return {'CPUs': cpus, 'GPUs': gpus} | dict(zip((SEEKAVOID, KEYS_DOORS), rates, strict=False))


# With a graphics card the default is dynamic batching, which not all rows have.
_OWN, _DYNAMIC = {'inference': 'own'}, {'inference': 'shared'}
_TABLE_1 = (
  dataclasses.replace(_A3C, label=f'A3C, {WORKERS} workers', paper=_rates(64, 0, 6500, 9000)),
  Method(
    'Batched A2C (sync step)',
    'a2c_sync_step',
    {'architecture': 'a2c_sync_step'},
    'batch',
    paper=_rates(48, 0, 9000, 5000),
  ),
  Method(
    'Batched A2C (sync step)',
    'a2c_sync_step_gpu',
    {'architecture': 'a2c_sync_step'},
    'batch',
    paper=_rates(48, 1, 13000, 5500),
  ),
  dataclasses.replace(
    _A2C,
    label='Batched A2C (sync traj.)',
    given=_A2C.given | _OWN,
    paper=_rates(48, 0, 16000, 17500),
  ),
  Method(
    'Batched A2C (dyn. batch)',
    'a2c_dynamic',
    _A2C.given | _DYNAMIC,
    'batch',
    paper=_rates(48, 1, 16000, 13000),
  ),
  Method('IMPALA, 48 actors', 'impala_48', _OWN, 48, paper=_rates(48, 0, 17000, 20500)),
  Method(
    'IMPALA (dyn. batch), 48 actors',
    'impala_48_dynamic',
    _DYNAMIC,
    48,
    paper=_rates(48, 1, 21000, 24000),
  ),
)
# Rows of Table 1 that need many machines.
TABLE_1_ELSEWHERE = (
  Method('Distributed A3C', '', paper=_rates(200, 0, 46000, 50000)),
  Method('Distributed IMPALA', '', paper=_rates(150, 1, 80000)),
  Method('IMPALA (optimised)', '', paper=_rates(375, 1, 200000)),
  Method('IMPALA (optimised), batch 128', '', paper=_rates(500, 1, 250000)),
)

_TABLE_3 = (
  Method('A3C, deep', 'a3c_deep', {'agent': 'deep', **_A3C_GIVEN, 'num_actors': 210}),
  Method('IMPALA, shallow', 'impala_shallow', {'agent': 'shallow'}, 210),
  Method(
    'IMPALA-Experts, deep',
    'experts_deep',
    {'agent': 'deep', 'reward_clipping': 'optimistic_asymmetric'},
    environments=150,
    trainer='experts',
  ),
  Method('IMPALA, deep', 'impala_deep', {'agent': 'deep'}, 150),
  Method('IMPALA, deep, PBT', 'impala_deep_pbt', {'agent': 'deep'}, 150, trainer='population'),
  Method(
    'IMPALA, deep, PBT, 8 learners',
    'impala_deep_pbt_8',
    {'agent': 'deep', 'num_learners': 8},
    environments=150,
    trainer='population',
  ),
)
# Experts have no score of all levels while they learn.
_OF_ALL_LEVELS = tuple(method for method in _TABLE_3 if method.trainer != 'experts')
# The paper has no numbers of actors on Atari. These are equal, but for the 57 games of one agent,
# of which each has as many.
_TABLE_4 = (
  Method(
    'A3C, shallow, experts', 'a3c_shallow', {'agent': 'shallow', **_A3C_GIVEN}, trainer='experts'
  ),
  Method('A3C, deep, experts', 'a3c_deep', {'agent': 'deep', **_A3C_GIVEN}, trainer='experts'),
  Method(
    'IMPALA, shallow, experts', 'impala_shallow', {'agent': 'shallow'}, WORKERS, trainer='experts'
  ),
  Method('IMPALA, deep, experts', 'impala_deep', {'agent': 'deep'}, WORKERS, trainer='experts'),
  Method(
    'IMPALA, deep, multi-task', 'impala_multitask', {'agent': 'deep'}, 57, trainer='population'
  ),
)

EXPERIMENTS: dict[str, Experiment] = {
  experiment.name: experiment
  for experiment in (
    Throughput('table1', 'Table 1: frames per second', _TABLE_1, (SEEKAVOID, KEYS_DOORS)),
    Sweeps(
      'table2',
      'Table 2: final return of the best three by correction, without and with replay',
      (*_corrections(replay=False), *_corrections(replay=True)),
    ),
    Agents('table3', 'Tables 3 and B.1: DMLab-30', _TABLE_3, ()),
    Agents(
      'table4',
      'Tables 4 and C.1: Atari-57',
      _TABLE_4,
      (),
      'atari57',
      57 * 200_000_000,
      200_000_000,
      'the paper',
    ),
    Sweeps(
      'figure4',
      'Figure 4: single tasks, IMPALA and the baselines',
      (_IMPALA, _SMALL_IMPALA, _A2C, _A3C),
    ),
    Agents('figure5', 'Figure 5: DMLab-30, score over frames', _OF_ALL_LEVELS, ()),
    Agents(
      'figure6',
      'Figure 6: DMLab-30, score over hours, deep networks',
      tuple(method for method in _OF_ALL_LEVELS if method.given['agent'] == 'deep'),
      (),
    ),
    Sweeps('figureE1', 'Figure E.1: learning under a controlled policy lag', tuple(_lagging(LAGS))),
    Sweeps(
      'figureE2',
      'Figure E.2: all hyper-parameter combinations by correction, with replay',
      tuple(_corrections(replay=True)),
    ),
    Sweeps(
      'figureE3',
      "Figures E.3 and E.4: q_s of the policy's gradient from the target of the next state, or "
      'from its baseline',
      (
        dataclasses.replace(_IMPALA, label='r + gamma v(s+1)'),
        Method('r + gamma V(x(s+1))', 'impala_q_baseline', {'q_estimate': 'baseline'}, ACTORS),
      ),
    ),
  )
}


def with_lags(experiment: Experiment, lags: list[int] | None) -> Experiment:
  """Returns Figure E.1's experiment with other lags; None for those that it has."""
  if lags is None:
    return experiment
  return dataclasses.replace(experiment, methods=tuple(_lagging(lags)))


def with_methods(experiment: Experiment, folders: list[str]) -> Experiment:
  """Returns an experiment with some of its methods only, named by their folders; all if none is.

  Raises:
    ConfigurationError: if one of them is not a method of the experiment.
  """
  known = [method.folder for method in experiment.methods]
  for folder in folders:
    if folder not in known:
      raise ConfigurationError(
        f'--methods has {folder!r}, but those of {experiment.name} are {", ".join(known)}.'
      )
  methods = tuple(
    method for method in experiment.methods if not folders or method.folder in folders
  )
  return dataclasses.replace(experiment, methods=methods)


def scaled(frames: int, scale: float) -> int:
  """Returns the frames of a run at a scale, one at least."""
  return max(1, math.floor(frames * scale))


def sweep_folder(logdir: str, level: str, method: Method) -> str:
  """Returns where the sweep of a method on a level is kept, the same for all experiments."""
  return os.path.join(logdir, 'sweeps', *level.strip('/').split('/'), method.folder)


def agents_folder(logdir: str, experiment: Agents, method: Method) -> str:
  """Returns where the runs of a method are kept, the same for a table and its figures."""
  return os.path.join(logdir, experiment.suite, method.folder)


def rate_file(logdir: str, level: str, method: Method, is_fake: bool = False) -> str:
  """Returns where a method's throughput is kept; `is_fake` if its environments cost nothing."""
  folder = 'rates_fake' if is_fake else 'rates'
  return os.path.join(logdir, folder, *level.strip('/').split('/'), method.folder + '.json')
