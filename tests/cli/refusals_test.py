"""Every command shows its help, and refuses what can't be, without TensorFlow, which takes seconds
to load.
"""

import os
import signal
import subprocess
import sys

from tests.support import forked
from tests.support.processes import ROOT

# By module, arguments that it refuses, and a word of the refusal.
REFUSED = [
  ('run_experiment', '', '--level_name'),
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
  ('impala_tf.curves', '--logdirs= --output={empty}/a.png', '--logdirs'),
  ('impala_tf.evaluation', '', '--logdir'),
  ('impala_tf.launch', '', '--level_name'),
  ('impala_tf.sweeps', '', '--logdir'),
  ('impala_tf.pbt', '', '--logdir'),
  ('impala_tf.paper', '', ''),
  ('impala_tf.benchmark', '', ''),
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


def test_refusals_come_before_tensorflow_is_loaded(tmp_path):
  lines = [(module, *arguments.format(empty=tmp_path).split()) for module, arguments, _ in REFUSED]
  for end, (*_, word) in zip(forked.run(lines, tmp_path), REFUSED, strict=True):
    assert end.code == 1, end
    assert end.text.startswith(('Error: ', 'FATAL Flags parsing error')), end
    assert word in end.text, end
  assert not list(tmp_path.iterdir())


def test_a_variable_of_the_environment_that_is_wrong_is_no_traceback(tmp_path, monkeypatch):
  monkeypatch.setenv('IMPALA_TF_CORES', 'many')
  modules = dict.fromkeys(module for module, *_ in REFUSED)
  lines = [(module, flag) for module in modules for flag in ('--help', '--level_name=pong')]
  for end in forked.run(lines, tmp_path):
    assert 'Traceback' not in end.text, end
    assert end.arguments != ('--help',) or end.code in (0, 1), end


def test_help_comes_without_tensorflow(tmp_path):
  modules = dict.fromkeys(module for module, *_ in REFUSED)
  for end in forked.run([(module, '--help') for module in modules], tmp_path):
    assert end.code in (0, 1), end  # Those of absl's own end with 1.
    assert '--logdir' in end.text or '--output' in end.text, end
    assert 'Traceback' not in end.text, end


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
