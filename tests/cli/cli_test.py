"""The parts that the main functions of all commands share."""

import pytest
from absl import app

from impala_tf import cli, config, errors, files


def _raising(error, *further):
  @cli.report_user_errors(*further)
  def command():
    raise error

  return command


@pytest.mark.parametrize(
  'error',
  [
    errors.UserError('mend it'),
    config.ConfigurationError('mend it'),
    files.StorageError('mend it'),
  ],
)
def test_an_error_that_users_can_mend_is_one_line(error, capsys):
  assert _raising(error)() == 1
  assert capsys.readouterr() == ('', 'Error: mend it\n')


def test_other_errors_keep_their_traceback_unless_they_are_named():
  with pytest.raises(OSError, match='a defect'):
    _raising(OSError('a defect'))()
  assert _raising(OSError('a full disk'), OSError)() == 1


def test_exit_code_and_arguments_go_through():
  @cli.report_user_errors()
  def command(argv, *, code):
    """Does something."""
    return code + len(argv)

  assert command(['a'], code=2) == 3
  assert command.__doc__ == 'Does something.'


def test_words_are_not_flags():
  cli.no_positional_arguments(['command'])
  with pytest.raises(app.UsageError, match='seed=1'):
    cli.no_positional_arguments(['command', 'seed=1', 'more'])


def test_a_label_precedes_a_path_that_may_have_an_equals_sign_itself(tmp_path, monkeypatch):
  split = lambda text: cli.split_label(text, cli.last_part)
  assert split('runs/pong/') == ('pong', 'runs/pong/')
  assert split('ours=runs/pong') == ('ours', 'runs/pong')
  assert split('ours=runs/lr=0.1') == ('ours', 'runs/lr=0.1')
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'lr=0.1').mkdir()
  assert split('lr=0.1') == ('lr=0.1', 'lr=0.1')


def test_folders_of_other_file_systems_are_refused():
  cli.check_local('runs/a')
  with pytest.raises(config.ConfigurationError, match='gs://bucket/runs'):
    cli.check_local('gs://bucket/runs')
