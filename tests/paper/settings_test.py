"""What is asked for of the paper's experiments: by flags, and what of it is refused at once."""

import pytest

from impala_tf.config import ConfigurationError
from impala_tf.paper import __main__ as paper
from impala_tf.paper import experiments, run
from impala_tf.paper.experiments import EXPERIMENTS
from impala_tf.paper.settings import PaperSettings
from tests.support import own_flags


@pytest.mark.parametrize(
  ('name', 'given', 'message'),
  [
    ('table1', {'cluster': '2'}, '--cluster=2: table1 measures what one machine does'),
    ('figureE1', {'cluster': '2'}, 'all methods of figureE1 keep actors and learner in step'),
    ('table2', {'cluster': 'node7:x'}, "--cluster='node7:x'"),
    ('table2', {'cluster': 'node7:1', 'parallel': 2}, 'room for one learner at a time'),
    # What a part would refuse comes before the others are trained, and before a folder is bound.
    ('table3', {'given': {'seed': 2}}, '--seed'),
    ('table3', {'given': {'epsilon': 0.1}}, 'epsilon'),
    ('table2', {'given': {'epsilon': 0.1}}, 'epsilon'),
    ('table4', {'space': {'seed': 'uniform(1,9)'}}, 'seed'),
    ('table2', {'levels': ('pnog',)}, ' pong?'),
    ('table3', {'given': {'batch_size': 0}}, 'batch_size=0'),
    ('table4', {'levels': ('pong', 'atari')}, "'atari'"),
    ('figure4', {'levels': ('pong',), 'given': {'replay_fraction': 0.5}}, '--replay_fraction'),
    ('table1', {'given': {'num_actors': 10}}, '--num_actors=10 '),
    ('table1', {'given': {'envs_per_actor': 4}}, '--envs_per_actor'),
  ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, name, given, message):
  with pytest.raises(ConfigurationError) as refused:
    run.run(EXPERIMENTS[name], str(tmp_path), PaperSettings(**given))
  assert message in str(refused.value)
  assert list(tmp_path.iterdir()) == []


def test_a_method_that_is_left_out_refuses_nothing():
  # Four actors can not share the environments of the agent for all levels, which is not trained.
  PaperSettings(given={'num_actors': 4}, levels=('pong',)).check(EXPERIMENTS['table4'])


def test_folders_that_no_file_system_has_are_refused():
  with pytest.raises(ConfigurationError, match='gs://bucket/paper'):
    run.run(EXPERIMENTS['table4'], 'gs://bucket/paper', PaperSettings())


def test_a_cluster_is_checked_as_one():
  multi_task = experiments.with_methods(EXPERIMENTS['table4'], ['impala_multitask'])
  # Each actor process has some of the 57 levels, one process alone would need them all.
  few = {'num_actors': 6}
  PaperSettings(given=few, cluster='10').check(multi_task)
  with pytest.raises(ConfigurationError, match='num_actors=6 '):
    PaperSettings(given=few).check(multi_task)


def test_actor_processes_share_out_the_papers_actors():
  sizes = lambda method, **settings: [
    PaperSettings(**settings).hyper_parameters(method).get(name)
    for name in ('num_actors', 'envs_per_actor')
  ]
  impala, _, a2c, a3c = EXPERIMENTS['figure4'].methods
  assert sizes(impala) == [200, 1]
  assert sizes(impala, cluster='16') == [13, 1]
  assert sizes(impala, cluster='16', given={'num_actors': 2}) == [2, None]
  # Actors elsewhere are started by somebody else.
  assert sizes(impala, cluster='node7:8470') == [None, None]
  assert sizes(a2c, cluster='16') == [32, 1]
  assert sizes(a3c, cluster='16') == [32, 1]


def test_flags_become_settings(monkeypatch):
  given = {
    'scale': 0.5,
    'levels': 'pong,qbert',
    'trials': 5,
    'space': 'seed=categorical(1,2)',
    'sweep_seed': 7,
    'parallel': 3,
    'episodes': 4,
    'seconds': 1.5,
    'repeats': 2,
    'warm_up_seconds': 0,
    'fake_environment': True,
    'time_slice': 9,
    'cluster': 6,
    'batch_size': 16,
  }
  arguments = [f'--{name}={value}' for name, value in given.items()]
  values = own_flags.parse(monkeypatch, paper.define_flags, *arguments)
  assert paper._settings(values) == PaperSettings(
    scale=0.5,
    levels=('pong', 'qbert'),
    trials=5,
    space={'seed': 'categorical(1,2)'},
    sweep_seed=7,
    given={'batch_size': 16},
    parallel=3,
    episodes=4,
    benchmark=('--seconds=1.5', '--repeats=2', '--warm_up_seconds=0.0'),
    fake_environment=True,
    time_slice=9.0,
    cluster='6',
  )
  values = own_flags.parse(monkeypatch, paper.define_flags)
  assert paper._settings(values) == PaperSettings(
    benchmark=('--seconds=20.0', '--repeats=3', '--warm_up_seconds=10.0')
  )


@pytest.fixture
def call(monkeypatch, tmp_path):
  """A function that runs the command with words and flags."""

  def run_command(*arguments):
    words = [word for word in arguments if not word.startswith('--')]
    own_flags.parse(monkeypatch, paper.define_flags, f'--logdir={tmp_path}', *arguments)
    return paper.main(['paper', *words])

  return run_command


def test_the_command_lists(call, capsys):
  assert call('list') == 0
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in lines[::2]] == list(EXPERIMENTS)
  assert lines[2].endswith(' on 5 levels')
  assert lines[3].split()[:2] == ['methods:', 'impala,']


def test_the_command_prints_what_it_would_run(call, capsys, tmp_path):
  assert call('commands', 'figure4', '--levels=pong', '--methods=a3c') == 0
  comment, line = capsys.readouterr().out.splitlines()
  assert comment.startswith('# figure4: A3C')
  assert line.startswith('python -m impala_tf.sweeps --')
  assert list(tmp_path.iterdir()) == []


def test_a_level_in_another_spelling_is_not_another_experiment(call, capsys, tmp_path):
  assert call('commands', 'table4', '--levels=Pong', '--methods=a3c_deep') == 0
  assert f'--logdir={tmp_path}/atari57/a3c_deep/pong\n' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['table9'], "'table9' "),
    (['table2', '--lags=1'], '--lags '),
    (['figureE1', '--lags=1,x'], "--lags has 'x'"),
    (['table2', '--level_name=pong'], '--levels'),
    (['table2', '--total_environment_frames=9'], '--scale'),
    (['figure4', '--methods=ppo'], 'impala, impala_32, a2c, a3c'),
    (['table2', '--cluster=node7'], '--cluster=node7 '),
    (['table2', '--cluster=0'], '--cluster=0 '),
  ],
)
def test_the_command_refuses(call, capsys, tmp_path, arguments, message):
  assert call('run', *arguments) == 1
  assert message in capsys.readouterr().err
  assert list(tmp_path.iterdir()) == []


def test_lags_and_methods_reach_the_experiment(call, capsys):
  assert call('commands', 'figureE1', '--lags=3', '--levels=pong', '--methods=lag_3_vtrace') == 0
  assert '--policy_lag=3' in capsys.readouterr().out
