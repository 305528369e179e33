"""Every file that commands read, with any damage: each is refused in a few words that name it, or
costs no more than what it is about. Those of checkpoints are in `training/checkpoints_test.py`.
"""

import copy
import itertools
import json
import os

import pytest

from atari57 import suite as atari57_suite
from impala_tf import saved_config
from impala_tf.evaluation import results
from impala_tf.paper import experiments
from impala_tf.pbt import folder as population_folder
from impala_tf.pbt import lineage
from impala_tf.pbt.population import Population
from impala_tf.sweeps import definition, search_space
from impala_tf.sweeps.study import Study
from tests.support import evaluations, forked, run_files

SCORE = {'frames': 100, 'name': 'score', 'score': 1.0}
TEXTS = [
  b'',
  b'\xff\xfe',
  b'[]',
  b'{}',
  b'null',
  b'3',
  b'"x"',
  b'[' * 100_000,
  b'{"a": 1',
  b'1,2\n,',
]
VALUES = [None, 'x', [], {}, -1, 1.5, float('inf'), float('nan'), 10**30, True, [[]], {'': None}]
NUM_VALUES = len(VALUES) if forked.EXHAUSTIVE else 2  # At each place in a file, in turn.


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
  """A folder with a sound file of each kind."""
  folder = tmp_path_factory.mktemp('sound')
  config = atari57_suite.SUITE.configure('pong')
  space = search_space.parse(['seed=uniform(1,9)'])
  sweep = definition.Sweep({'level_name': 'pong'}, space, 2, 1)
  for name in ('run', 'sweep/trial_000'):
    (folder / name).mkdir(parents=True)
    saved_config.save(str(folder / name), config)
    run_files.write_episodes(folder / name, [(100, 'pong', 1.5)] * 3)
  (folder / 'sweep' / 'trial_000' / 'score.json').write_text(json.dumps(SCORE))
  definition.check_or_save(str(folder / 'sweep'), sweep)
  Study(str(folder / 'sweep'), sweep).claim().finish(1.0)

  members = Population(population=2, given={'level_name': 'pong'}, space={})
  population_folder.define(str(folder / 'population'), members)
  member = folder / 'population' / 'member_000'
  member.mkdir()
  rate = {'learning_rate': 0.1}
  published = {'member': 'member_000', 'frames': 9, 'evaluation': 1, 'fitness': 2.0}
  (member / 'member.json').write_text(json.dumps(published | {'hyper_parameters': rate}))
  for number in (0, 1):
    fitness = 2.0 if number else None
    event = lineage.Event(
      evaluation=number, frames=9 * number, hyper_parameters=rate, fitness=fitness
    )
    lineage.append(str(member), event)

  results.Evaluation({'seed': 1}, {'pong': evaluations.result('pong', [2.5])}).save(
    str(folder / 'evaluation'), {}
  )
  method = experiments.EXPERIMENTS['table1'].methods[0]
  path = experiments.rate_file(str(folder / 'paper'), 'pong', method, False)
  os.makedirs(os.path.dirname(path))
  machine = {'cores': 2, 'processor': 'Z80', 'tensorflow': '2.0'}
  speed = {'frames_per_second': 1.0, 'cpu_seconds_per_1000_frames': 1.0}
  with open(path, 'w') as file:
    json.dump({'machine': machine, 'config': {}, 'results': [speed]}, file)
  (folder / 'space.yaml').write_text('seed: uniform(1, 9)\n')
  return folder


def damages(data):
  """Yields contents that a file of some sound contents may have instead."""
  yield from TEXTS
  yield data[: len(data) // 2]
  yield data[:-3] + b'\x00\xff'
  try:
    value = json.loads(data)
  except ValueError:
    return
  others = itertools.cycle(VALUES)
  for place in _places(value):
    for other in [*itertools.islice(others, NUM_VALUES), ...]:
      changed = copy.deepcopy(value)
      around = changed
      for key in place[:-1]:
        around = around[key]
      if other is ...:
        del around[place[-1]]
      else:
        around[place[-1]] = other
      yield json.dumps(changed).encode()


def _places(value, depth=3):
  """Yields the keys by which values are found in a value, at most so many one below the other."""
  keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
  for key in keys:
    yield (key,)
    if depth > 1:
      yield from ((key, *below) for below in _places(value[key], depth - 1))


READERS = {
  'run/config.json': 'impala_tf --mode=test --level_name=pong --logdir=run',
  'run/episodes.csv': 'impala_tf.curves --logdirs=run --output=curve.png',
  'sweep/sweep.json': 'impala_tf.sweeps --status --logdir=sweep',
  'sweep/journal.log': 'impala_tf.sweeps --status --logdir=sweep',
  'sweep/trial_000/episodes.csv': 'impala_tf.sweeps report --logdirs=sweep --output=report',
  'sweep/trial_000/score.json': 'impala_tf.sweeps --status --logdir=sweep',
  'population/population.json': 'impala_tf.pbt report --logdir=population',
  'population/member_000/lineage.jsonl': 'impala_tf.pbt report --logdir=population',
  'evaluation/results.json': 'atari57.report --evaluations=evaluation --output=report',
  'paper/rates/pong': 'impala_tf.paper report --logdir=paper',
  'space.yaml': 'impala_tf.sweeps --level_name=pong --logdir=new --space=space.yaml',
}


def test_damage_is_named(sound):
  lines, contents, paths = [], [], []
  for name, command in READERS.items():
    path = sound / name
    if path.is_dir():
      (path,) = path.iterdir()
    data = path.read_bytes()
    for content in [data, *dict.fromkeys(damages(data))]:
      lines.append(command.split())
      contents.append({path: content})
      paths.append(path)
  ends = forked.run(lines, sound, contents)
  problems = []
  for path, content, end in zip(paths, contents, ends, strict=True):
    if content[path] == path.read_bytes():
      assert end.code in (0, forked.BEGUN), end.text
    elif problem := end.problem(path.name, 'has run', 'evaluated yet'):
      problems.append(f'{content[path][:200]!r}: {problem}')
  assert not problems, '\n'.join(problems[:5])
