"""The report on a sweep, and what the HParams page is told, from trials made up."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from impala_tf.config import ConfigurationError
from impala_tf.sweeps import command as sweeps
from impala_tf.sweeps import hparams_dashboard, search_space, sweep_report, sweep_worker
from impala_tf.sweeps.study import Trial
from impala_tf.training import episode_log
from tests.support import own_flags


def trial(number, state='finished', value=None, message='', **values):
  values = values or {'learning_rate': 0.001 * (number + 1), 'clip_global_norm': None}
  return Trial(number, values, state, value, message)


TRIALS = [
  trial(0, value=1.0),
  trial(1, value=5.0),
  trial(2, 'failed', message='Error: NaN'),
  trial(3, value=3.0),
  trial(4, 'pruned', value=-2.0),
  trial(5, 'waiting'),
]


@pytest.fixture
def sweep(tmp_path):
  for t in TRIALS:
    folder = tmp_path / 'sweep' / t.name
    folder.mkdir(parents=True)
    returns = [t.value or 0.0] * 10
    lines = [
      ','.join(episode_log.COLUMNS),
      *(f'{100 * (i + 1)},catch,{r},7' for i, r in enumerate(returns)),
    ]
    (folder / episode_log.FILE_NAME).write_text('\n'.join(lines) + '\n')
  return str(tmp_path / 'sweep')


def test_sweeps_are_told_apart_by_their_labels(sweep, tmp_path):
  kept = {
    'given': {},
    'space': {'learning_rate': 'uniform(0.0,1.0)'},
    'num_trials': 2,
    'sweep_seed': 1,
  }
  sweeps.check_or_save(sweep, kept)
  found = sweep_report.read([sweep, f'again={sweep}'])
  assert [(label, folder, len(trials)) for label, (folder, trials) in found.items()] == [
    ('sweep', sweep, 2),
    ('again', sweep, 2),
  ]
  with pytest.raises(ConfigurationError, match="Two sweeps are called 'sweep'"):
    sweep_report.read([sweep, sweep])
  with pytest.raises(ConfigurationError, match='No sweep in'):
    sweep_report.read([str(tmp_path)])


def test_trials_with_a_return_are_ranked():
  assert [t.number for t in sweep_report.ranked(TRIALS)] == [1, 3, 0, 4]


def test_files(sweep, tmp_path, monkeypatch):
  from matplotlib.figure import Figure

  lines = []
  save = Figure.savefig

  def keep(figure, *args, **kwargs):
    lines.append(
      [
        (line.get_xdata().tolist(), line.get_ydata().tolist())
        for line in figure.axes[0].get_lines()
      ]
    )
    save(figure, *args, **kwargs)

  monkeypatch.setattr(Figure, 'savefig', keep)
  text = sweep_report.write({'ours': (sweep, TRIALS)}, str(tmp_path / 'report'))
  assert 'Best final return 5, mean of the best 3 3.' in text
  assert '6 trials: 3 finished, 1 failed, 1 pruned, 1 waiting.' in text
  cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines()]
  assert ['1', 'trial_001', '5', '0.002', 'none'] in cells
  assert ['', 'trial_002', 'failed', '0.003', 'none'] in cells
  with open(tmp_path / 'report' / 'trials.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [row['final_return'] for row in rows] == ['1.0', '5.0', '', '3.0', '-2.0', '']
  assert [row['state'] for row in rows[:3]] == ['finished', 'finished', 'failed']
  sorted_lines, best_lines = lines
  assert sorted_lines == [([1, 2, 3, 4], [5.0, 3.0, 1.0, -2.0])]
  np.testing.assert_allclose(best_lines[0][1], 3.0)


def test_the_curve_of_the_best_ends_where_the_shortest_of_them_does(tmp_path, monkeypatch):
  from matplotlib.figure import Figure

  trials = [trial(0, value=1.0), trial(1, value=2.0)]
  for t, frames in zip(trials, ([100, 200, 300], [150, 200, 900]), strict=True):
    (tmp_path / t.name).mkdir()
    lines = [','.join(episode_log.COLUMNS), *(f'{f},catch,{t.value},7' for f in frames)]
    (tmp_path / t.name / episode_log.FILE_NAME).write_text('\n'.join(lines) + '\n')
  drawn = []
  monkeypatch.setattr(
    Figure, 'savefig', lambda figure, *args, **kwargs: drawn.extend(figure.axes[0].get_lines())
  )
  sweep_report.draw_best({'ours': (str(tmp_path), trials)}, str(tmp_path / 'best.png'))
  (line,) = drawn
  assert (line.get_xdata()[0], line.get_xdata()[-1]) == (150, 300)
  np.testing.assert_allclose(line.get_ydata(), 1.5)


def test_table(sweep):
  lines = sweeps.table(sweep, TRIALS).splitlines()
  assert lines[0].split() == [
    'trial',
    'state',
    'frames',
    'return',
    'learning_rate',
    'clip_global_norm',
  ]
  assert lines[2].split() == ['trial_001', 'finished', '1_000', '5', '0.002', 'none']
  assert lines[-1] == 'trial_002 failed: Error: NaN'


def hparams_of(folder):
  accumulator = event_accumulator.EventAccumulator(str(folder)).Reload()
  content = accumulator.summary_metadata
  plugin = {
    tag: m.plugin_data.content
    for tag, m in content.items()
    if m.plugin_data.plugin_name == 'hparams'
  }
  parsed = {tag: plugin_data_pb2.HParamsPluginData.FromString(data) for tag, data in plugin.items()}
  scalars = {
    tag: tf.make_ndarray(accumulator.Tensors(tag)[-1].tensor_proto).item()
    for tag in content
    if tag not in plugin
  }
  return parsed, scalars


def test_the_page_gets_space_values_state_and_metrics(tmp_path):
  space = search_space.parse(
    [
      'learning_rate=uniform(0,1)',
      'clip_global_norm=categorical(none,40)',
      'batch_size=uniform(1,8)',
    ]
  )
  hparams_dashboard.write_space(str(tmp_path), space)
  experiment = hparams_of(tmp_path)[0][metadata.EXPERIMENT_TAG].experiment
  assert [info.name for info in experiment.hparam_infos] == list(space)
  assert [info.name.tag for info in experiment.metric_infos] == [
    'sweep/final_return',
    'sweep/frames',
  ]

  folder = tmp_path / 'trial_001'
  hparams_dashboard.write_trial(str(folder), trial(1, 'running'), 0, None)
  start, scalars = hparams_of(folder)
  assert set(start) == {metadata.SESSION_START_INFO_TAG}
  assert scalars == {}
  hparams_dashboard.write_trial(str(folder), trial(1, value=5.0), 900, 5.0)
  parsed, scalars = hparams_of(folder)
  info = parsed[metadata.SESSION_START_INFO_TAG].session_start_info
  assert info.group_name == 'trial_001'
  assert info.hparams['learning_rate'].number_value == 0.002
  assert info.hparams['clip_global_norm'].string_value == 'none'
  assert parsed[metadata.SESSION_END_INFO_TAG].session_end_info.status == api_pb2.STATUS_SUCCESS
  assert scalars == {'sweep/final_return': 5.0, 'sweep/frames': 900.0}
  assert len(list(folder.iterdir())) == 1  # The first state does not stay beside the last.
  for state, status in (('failed', api_pb2.STATUS_FAILURE), ('pruned', api_pb2.STATUS_SUCCESS)):
    hparams_dashboard.write_trial(str(folder), trial(1, state), 900, None)
    parsed, scalars = hparams_of(folder)
    assert parsed[metadata.SESSION_END_INFO_TAG].session_end_info.status == status
    assert scalars == {'sweep/frames': 900.0}


DEFINITION = {
  'given': {'level_name': 'catch', 'num_actors': 2, 'decay': 0.9},
  'space': {'learning_rate': 'uniform(0.1,0.2)'},
  'num_trials': 3,
  'sweep_seed': 1,
}


@pytest.mark.parametrize(
  ('changes', 'name'),
  [
    ({'given': {'level_name': 'catch', 'num_actors': 2, 'decay': 0.8}}, 'given'),
    ({'given': {'level_name': 'pong', 'num_actors': 2, 'decay': 0.9}}, 'given'),
    ({'space': {'learning_rate': 'uniform(0.1,0.3)'}}, 'space'),
    ({'num_trials': 2}, 'num_trials'),
    ({'sweep_seed': 2}, 'sweep_seed'),
  ],
)
def test_another_sweep_is_refused(tmp_path, changes, name):
  sweeps.check_or_save(str(tmp_path), DEFINITION)
  with pytest.raises(ConfigurationError, match=f'(?s)is another one:.*  {name}: '):
    sweeps.check_or_save(str(tmp_path), DEFINITION | changes)
  assert sweeps.load(str(tmp_path)) == DEFINITION


def test_what_an_earlier_version_kept_in_a_database_is_refused(tmp_path):
  old = DEFINITION | {'storage': 'postgresql://me@server/db'}
  (tmp_path / sweeps.FILE_NAME).write_text(json.dumps(old))
  with pytest.raises(ConfigurationError, match=f'Remove {tmp_path / sweeps.FILE_NAME}'):
    sweeps.run(str(tmp_path), DEFINITION)
  # The default was a file beside it.
  (tmp_path / sweeps.FILE_NAME).write_text(json.dumps(old | {'storage': ''}))
  assert sweeps.load(str(tmp_path)) == DEFINITION
  (tmp_path / 'study.db').touch()
  with pytest.raises(ConfigurationError, match=r'Remove study\.db'):
    sweeps.run(str(tmp_path), DEFINITION)
  assert {path.name for path in tmp_path.iterdir()} == {sweeps.FILE_NAME, 'study.db', '.lock_check'}


def test_more_trials_and_other_speed_are_the_same_sweep(tmp_path):
  sweeps.check_or_save(str(tmp_path), DEFINITION)
  grown = DEFINITION | {'num_trials': 5, 'given': DEFINITION['given'] | {'num_actors': 7}}
  sweeps.check_or_save(str(tmp_path), grown)
  assert sweeps.load(str(tmp_path)) == grown


def test_a_field_both_given_and_drawn_is_refused(tmp_path):
  sweep = DEFINITION | {'given': {'level_name': 'catch', 'learning_rate': 0.1}}
  with pytest.raises(
    ConfigurationError, match='learning_rate is both given and in the search space'
  ):
    sweeps.run(str(tmp_path), sweep)


class FailingWorker:
  """Stands for a `sweep_worker.Worker` of which the trial number 1 fails the first time."""

  failures = 1

  def __init__(self, study, *unused, **unused_too):
    self._study = study

  def run(self, stop):
    while not stop and (claim := self._study.claim()) is not None:
      if claim.trial.number == 1 and FailingWorker.failures:
        FailingWorker.failures -= 1
        claim.fail('Error: NaN')
      else:
        claim.finish(1.0)


def test_a_failed_trial_shows_in_the_exit_code_until_it_is_tried_again(tmp_path, monkeypatch):
  monkeypatch.setattr(sweep_worker, 'Worker', FailingWorker)
  monkeypatch.setattr(FailingWorker, 'failures', 1)
  monkeypatch.setattr(sweep_report, 'write', lambda *unused: None)
  assert sweeps.run(str(tmp_path), DEFINITION) == 1
  assert sweeps.run(str(tmp_path), DEFINITION) == 1
  assert sweeps.run(str(tmp_path), DEFINITION, retry_failed=True) == 0


def test_flags_define_the_sweep(monkeypatch):
  calls = []
  monkeypatch.setattr(
    sweeps, 'run', lambda logdir, sweep, **how: (calls.append((logdir, sweep, how)), 143)[1]
  )
  given = [
    '--level_name=pong',
    '--decay=0.9',
    '--space=learning_rate=uniform(0.1,0.2)',
    '--num_trials=3',
    '--sweep_seed=7',
  ]
  # What is fixed goes together with what is drawn: alone a batch of 32 would not go with A3C.
  given += ['--architecture=a3c', '--envs_per_actor=1', '--space=batch_size=categorical(1)']
  given += ['--parallel=2', '--prune', '--retry_failed']
  own_flags.parse(monkeypatch, sweeps.define_flags, '--logdir=here', *given)
  assert sweeps.main(['sweeps']) == 143
  sweep = {
    'given': {'level_name': 'pong', 'envs_per_actor': 1, 'decay': 0.9, 'architecture': 'a3c'},
    'space': {'learning_rate': 'uniform(0.1,0.2)', 'batch_size': 'categorical(1)'},
    'num_trials': 3,
    'sweep_seed': 7,
  }
  assert calls == [('here', sweep, {'parallel': 2, 'prune': True, 'retry_failed': True})]


def test_what_can_not_be_a_sweep_is_refused_and_binds_no_folder(tmp_path, monkeypatch, capsys):
  for given, message in (
    ([], '--level_name is missing'),
    (['--status'], f'No sweep in {tmp_path}'),
    (['--level_name=pnog'], 'Did you mean pong?'),
    (['--level_name=pong', '--batch_size=0'], 'batch_size=0'),
    (['--level_name=atari57', '--num_actors=5'], 'num_actors=5 (atari57 has 57 levels'),
  ):
    with monkeypatch.context() as patched:
      own_flags.parse(patched, sweeps.define_flags, f'--logdir={tmp_path}', *given)
      assert sweeps.main(['sweeps']) == 1
      assert message in capsys.readouterr().err
      assert list(tmp_path.iterdir()) == []
