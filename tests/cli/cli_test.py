"""The parts that the main functions of all commands share."""

import subprocess
import sys

import pytest
from absl import flags

from impala_tf import cli, config, errors, files
from tests.support import own_flags


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
  with pytest.raises(config.ConfigurationError, match='seed=1'):
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


@pytest.fixture
def parse(monkeypatch):
  def parse(*arguments):
    def define():
      cli.define_path('folder', None, 'a folder')
      cli.define_paths('folders', [], 'folders')
      flags.DEFINE_integer('count', 1, 'a number')
      flags.DEFINE_float('share', 1.0, 'a number')
      flags.DEFINE_string('name', None, 'a text')

    values = own_flags.parse(monkeypatch, define)
    cli.parse_flags(['command', *arguments])
    return values

  return parse


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('~/x', ['/home/me/x']),
    ('a,b', ['a', 'b']),
    ('ours=~/x, ~/y', ['ours=/home/me/x', '/home/me/y']),
    ('"a,b",c', ['a,b', 'c']),
    ('with,comma', ['with,comma']),
    ('br[a]ck', ['br[a]ck']),
    ('./lr=0.1', ['./lr=0.1']),
    ('', []),
  ],
)
def test_paths_are_taken_as_they_are_meant(text, expected, parse, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'with,comma').mkdir()
  assert parse(f'--folders={text}').folders == expected
  if len(expected) == 1 and '=' not in text:
    assert parse(f'--folder={text}').folder == expected[0]


@pytest.mark.parametrize(
  'argument',
  [
    '--folder=',
    '--folder=~nobody_of_that_name/x',
    '--folders=a,,b',
    '--folders="a',
    '--name=\udce4',
    '--count=10000000000000000000',
    '--count=-10000000000000000000',
    '--share=nan',
    '--share=inf',
    '--share=-inf',
    '--share=1e39',
  ],
)
def test_values_that_no_command_takes_are_refused_by_the_name_of_the_flag(argument, parse, capsys):
  with pytest.raises(SystemExit) as end:
    parse(argument)
  assert end.value.code == 1
  said = capsys.readouterr().err
  assert argument.lstrip('-').partition('=')[0] in said
  assert len(said.splitlines()) <= 3


def test_numbers_that_computers_have_are_taken(parse):
  values = parse('--count=9223372036854775807', '--share=3.4e38', '--name=\u00e4')
  assert (values.count, values.share, values.name) == (2**63 - 1, 3.4e38, '\u00e4')


@pytest.mark.parametrize(('given', 'verbosity'), [([], -1), (['--verbosity=1'], 1)])
def test_only_warnings_are_logged_unless_more_is_asked_for(given, verbosity):
  program = (
    'import sys; from absl import app, logging; from impala_tf import cli\n'
    'def main(argv):\n'
    '  cli.set_up_log(); logging.warning("a %s", "b"); sys.exit(logging.get_verbosity() + 10)\n'
    'app.run(main)'
  )
  done = subprocess.run(
    [sys.executable, '-c', program, *given], capture_output=True, text=True, check=False
  )
  assert done.returncode == verbosity + 10
  assert done.stderr.endswith('a b\n')
  assert (done.stderr == 'WARNING: a b\n') == (not given)


def test_a_command_whose_output_can_not_be_written_ends_as_others_do():
  program = 'from impala_tf import cli\ncli.run(lambda argv: print("x" * 10_000) or 7)'
  done = subprocess.run(
    ['sh', '-c', 'exec "$0" -c "$1" > /dev/full', sys.executable, program],
    stderr=subprocess.PIPE,
    text=True,
    check=False,
  )
  assert done.returncode == 7
  assert 'Traceback' not in done.stderr


@pytest.mark.parametrize(
  ('line', 'expected'),
  [
    ('--level_name=a:b --seed=1', {'level_name': 'a:b', 'seed': '1'}),
    ('--level_name a:b --use_lstm -seed 1', {'level_name': 'a:b', 'seed': '1'}),
    ('--space=a=1 word --last', {'space': 'a=1'}),
    ('-- --level_name=a', {}),
    ('', {}),
    ('--level_name', {}),
  ],
)
def test_values_are_found_before_all_flags_are_known(line, expected):
  assert cli.values_on_line(['program', *line.split()]) == expected
