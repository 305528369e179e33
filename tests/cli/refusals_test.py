"""Every command shows its help, and refuses what can't be, without TensorFlow, which takes seconds
to load.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]

# By module, arguments that it refuses, and a word of the refusal.
REFUSED = [
  ('run_experiment', '--level_name=ponk', 'pong'),
  ('run_experiment', '--level_name=pong --batch_size=0', 'batch_size'),
  ('run_experiment', '--level_name=pong --mode=test --logdir={empty}', 'config.json'),
  ('run_experiment', '--level_name=pong --mode=export --logdir={empty}', 'config.json'),
  ('run_experiment', '--level_name=pong --logdir=/dev/null/below', 'logdir'),
  ('impala_tf.evaluation', '--logdir={empty}', 'config.json'),
  ('atari57.evaluate', '--logdir={empty}', 'config.json'),
  ('dmlab30.evaluate', '--logdir={empty}', 'config.json'),
  ('atari57.report', '--evaluations={empty} --output={empty}', 'results.json'),
  ('dmlab30.report', '--evaluations={empty} --output={empty}', 'results.json'),
  ('impala_tf.curves', '--logdirs={empty} --output={empty}/a.png', 'episodes.csv'),
  ('impala_tf.sweeps', '--level_name=ponk --logdir={empty}', 'pong'),
  ('impala_tf.sweeps', '--status --logdir={empty}', 'sweep.json'),
  ('impala_tf.sweeps', 'report --logdirs={empty} --output={empty}', 'sweep.json'),
  ('impala_tf.pbt', '--level_name=ponk --logdir={empty}', 'pong'),
  ('impala_tf.pbt', 'report --logdir={empty}', 'population.json'),
  ('impala_tf.paper', 'run table1 --levels=ponk --logdir={empty}', 'pong'),
  ('impala_tf.paper', 'report --logdir={empty}', '--logdir'),
  ('impala_tf.benchmark', 'train --level_name=ponk', 'pong'),
  ('impala_tf.launch', '--level_name=ponk', 'pong'),
]

# Runs each command line in a fork of a process that cannot import TensorFlow.
PROGRAM = """
import json, os, runpy, sys

class Refuse:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in ('tensorflow', 'sonnet', 'tensorflow_probability', 'tensorboard'):
      raise ModuleNotFoundError(f'{name} was to be loaded')

sys.meta_path.insert(0, Refuse())
from impala_tf.environments import suites
suites.registered()

ends = []
for module, *arguments in json.load(sys.stdin):
  read, write = os.pipe()
  if not os.fork():
    os.dup2(write, 1)
    os.dup2(write, 2)
    os.close(read)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name='__main__', alter_sys=True)
  os.close(write)
  with open(read, errors='replace') as file:
    text = file.read()
  ends.append((os.waitstatus_to_exitcode(os.wait()[1]), text))
json.dump(ends, sys.stdout)
"""


def run(lines):
  """Returns exit code and output of each command line, a list of a module and its arguments."""
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM],
    input=json.dumps(lines),
    stdout=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    check=True,
  )
  return json.loads(done.stdout)


def test_refusals_come_before_tensorflow_is_loaded(tmp_path):
  lines = [[module, *arguments.format(empty=tmp_path).split()] for module, arguments, _ in REFUSED]
  for (code, text), line, (*_, word) in zip(run(lines), lines, REFUSED, strict=True):
    assert code == 1, (line, text)
    assert text.startswith(('Error: ', 'FATAL Flags parsing error')), (line, text)
    assert word in text, (line, text)
  assert not list(tmp_path.iterdir())


def test_help_comes_without_tensorflow():
  modules = sorted({module for module, *_ in REFUSED})
  for (code, text), module in zip(run([[m, '--help'] for m in modules]), modules, strict=True):
    # Those of absl's own end with 1.
    assert code in (0, 1), (module, text)
    assert '--logdir' in text or '--output' in text, (module, text)
    assert 'Traceback' not in text, module


def test_help_says_nothing_to_a_reader_that_has_gone():
  ours, theirs = os.pipe()
  os.close(ours)
  done = subprocess.run(
    [sys.executable, '-m', 'impala_tf.curves', '--help'],
    stdout=theirs,
    stderr=subprocess.PIPE,
    cwd=ROOT,
    check=False,
  )
  os.close(theirs)
  assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b'')
