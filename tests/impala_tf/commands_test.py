"""Tests of commands."""

import pytest
from absl import app

from impala_tf import commands, errors, hparams, storage


def _raising(error, *further):
  @commands.refusing(*further)
  def command():
    raise error

  return command


@pytest.mark.parametrize(
  'error', [errors.UserError('mend it'), hparams.ConfigurationError('mend it'), storage.StorageError('mend it')]
)
def test_what_its_user_can_mend_is_one_line(error, capsys):
  assert _raising(error)() == 1
  assert capsys.readouterr() == ('', 'Error: mend it\n')


def test_other_errors_keep_their_traceback_unless_they_are_named():
  with pytest.raises(OSError, match='a defect'):
    _raising(OSError('a defect'))()
  assert _raising(OSError('a full disk'), OSError)() == 1


def test_exit_code_and_arguments_go_through():
  @commands.refusing()
  def command(argv, *, code):
    """What it does."""
    return code + len(argv)

  assert command(['a'], code=2) == 3
  assert command.__doc__ == 'What it does.'


def test_words_are_no_flags():
  commands.check_flags_only(['command'])
  with pytest.raises(app.UsageError, match=r"Not a flag: 'seed=1'\."):
    commands.check_flags_only(['command', 'seed=1', 'more'])
