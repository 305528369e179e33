"""What a worker makes of the end of a trial's process; study and process are stand-ins."""

import pytest

from impala_tf import episode_log, hparams, sweep_worker
from impala_tf.hparams import ConfigurationError
from impala_tf.study import Trial
from tests import catch


class Study:
  """Writes down what it is told, and whether the HParams page was told before."""

  def __init__(self, folder):
    self.tape = []
    self._folder = folder

  def __getattr__(self, name):
    return lambda trial, *args, **kwargs: self.tape.append(
      (name, *args, *kwargs.values(), len(list(self._folder.glob('*.hparams'))))
    )


class Process:
  def __init__(self, code, logdir):
    self._code = code
    self.logdir = str(logdir)

  def poll(self):
    return self._code

  def last_lines(self):
    return 'Error: why'


@pytest.mark.parametrize(
  ('code', 'kills', 'has_episodes', 'bad', 'told'),
  [
    (0, 0, True, False, ('finish', 2.0, 1)),
    (0, 0, True, True, ('finish', 2.0, 1)),  # It was faster than the request to stop.
    (0, 0, False, False, ('fail', 'It ended before any episode did.', 1)),
    (1, 0, True, False, ('fail', 'Error: why', 1)),
    (143, 0, True, True, ('prune', 2.0, 1)),
    (143, 0, True, False, ('release', True, 0)),
    (-9, 2, True, False, ('release', True, 0)),
    (-9, 3, True, False, ('fail', 'Error: why', 1)),
  ],
)
def test_the_end_of_a_trial(tmp_path, code, kills, has_episodes, bad, told):
  trial = Trial(0, {'learning_rate': 0.1}, 'running', None, '', kills, 0)
  folder = tmp_path / trial.name
  folder.mkdir()
  hparams.save(str(folder), catch.HPARAMS)
  if has_episodes:
    (folder / episode_log.FILE_NAME).write_text(','.join(episode_log.COLUMNS) + '\n5,catch,1.0,7\n9,catch,3.0,7\n')
  study = Study(folder)
  worker = sweep_worker.Worker(study, str(tmp_path), {}, parallel=1, heartbeat_seconds=1)
  worker._processes[trial] = Process(code, folder)
  if bad:
    worker._to_prune.add(trial)
  worker._conclude()
  assert study.tape == [told]
  assert worker._processes == {}


def test_a_trial_that_is_refused_ends_the_sweep(tmp_path):
  trial = Trial(0, {'learning_rate': 0.1}, 'running', None, '', 0, 0)
  study = Study(tmp_path)
  worker = sweep_worker.Worker(study, str(tmp_path), {}, parallel=1, heartbeat_seconds=1)
  worker._processes[trial] = Process(1, tmp_path / trial.name)
  with pytest.raises(ConfigurationError, match='trial_000 was refused:\nError: why'):
    worker._conclude()
  assert study.tape == [('release', 0)]
