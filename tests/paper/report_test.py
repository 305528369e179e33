"""The report on the paper's experiments, from what runs would have left."""

import csv
import dataclasses
import json
import os
import pathlib

import pytest
import tensorflow as tf

from impala_tf import saved_config
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.evaluation import results
from impala_tf.paper import experiments, histories, report, run
from impala_tf.paper.deviations import Deviations
from impala_tf.paper.experiments import EXPERIMENTS
from impala_tf.pbt import folder as pbt_folder
from impala_tf.pbt import lineage
from impala_tf.pbt.population import Population
from impala_tf.pbt.rules import Rules
from impala_tf.sweeps import definition, search_space
from tests.support import evaluations
from tests.support.sweeps import sweep_of

TABLE_3 = EXPERIMENTS['table3']
SHALLOW, POPULATION = TABLE_3.methods[1], TABLE_3.methods[4]


def written(logdir, *tables):
  """The report's text, and the rows of its tables."""
  text = report.write(str(logdir), str(logdir / 'report'))
  assert (logdir / 'report' / 'report.md').read_text() == text
  return text, *(rows_of(logdir / 'report' / f'{name}.csv') for name in tables)


def rows_of(path):
  with open(path, newline='') as file:
    return list(csv.DictReader(file))


def test_the_report_shows_whatever_lags_have_run(tmp_path):
  methods = experiments.with_lags(EXPERIMENTS['figureE1'], [0, 7]).methods
  for method in (methods[0], methods[7]):
    sweep_of(experiments.sweep_folder(str(tmp_path), 'pong', method), [None, None], frames=10**7)
  text, rows = written(tmp_path, 'figureE1')
  assert [(row['method'], row['with'], row['trials'], row['best 3']) for row in rows] == [
    ('V-trace', 'lag 0, without replay', '0 of 2', ''),
    ('No correction', 'lag 7, without replay', '0 of 2', ''),
  ]
  assert 'Scale 0.01 of' in text
  # Of all methods, so that they stand once.
  assert text.count('trials 2, not 24') == 1
  assert 'search space seed=uniform(1,99), not that of Table D.1' in text
  assert '14 of the methods and levels have not been run' in text


def test_each_level_has_its_own_number_of_the_paper_and_those_of_the_paper_come_first(tmp_path):
  method = EXPERIMENTS['table2'].methods[1]
  for level in ('a_level_of_ours', 'seekavoid_arena_01', 'rooms_watermaze'):
    sweep_of(experiments.sweep_folder(str(tmp_path), level, method), [None])
  _, rows = written(tmp_path, 'table2')
  levels = [('rooms_watermaze', '51.8'), ('seekavoid_arena_01', '43.7'), ('a_level_of_ours', '')]
  ran = [(row['method'], row['level'], row['paper']) for row in rows if row['trials']]
  assert ran == [('1-step IS', *level) for level in levels]


def test_what_has_not_run_has_the_papers_numbers_and_blanks(tmp_path):
  experiment = EXPERIMENTS['table2']
  folder = experiments.sweep_folder(str(tmp_path), 'rooms_watermaze', experiment.methods[1])
  sweep_of(folder, [1.0])
  text, rows = written(tmp_path, 'table2')
  assert [(row['method'], row['with'], row['level'], row['paper']) for row in rows] == [
    (method.label, method.group, level, str(method.paper[level]))
    for level in experiment.levels
    for method in experiment.methods
  ]
  assert len(rows) == 40
  assert [row['method'] for row in rows if row['best 3']] == ['1-step IS']
  assert '39 of the methods and levels have not been run' in text


def test_the_report_has_what_ran_and_blanks_for_the_rest(tmp_path):
  for method, values in zip(
    EXPERIMENTS['figureE3'].methods, ([1.0, 9.0, 2.0, 6.0, 4.0], [3.0, None]), strict=True
  ):
    sweep_of(experiments.sweep_folder(str(tmp_path), 'pong', method), values)
  text, rows = written(tmp_path, 'figureE3')
  # Table 2 shares a method with this figure; the other tables have nothing.
  assert '## Figures E.3 and E.4' in text
  assert '## Table 2' in text
  assert '## Table 1' not in text
  assert 'Scale 0.001 of' in text
  assert [row['method'] for row in rows] == ['r + gamma v(s+1)', 'r + gamma V(x(s+1))']
  assert [float(row['best 3']) for row in rows] == [pytest.approx((9 + 6 + 4) / 3), 3]
  assert [float(row['all']) for row in rows] == [pytest.approx(22 / 5), 3]
  assert [row['trials'] for row in rows] == ['5 of 5', '1 of 2']
  assert {(row['level'], row['frames'], row['paper']) for row in rows} == {
    ('pong', '1_000_000', '')
  }
  for name in ('figureE3_pong_best.png', 'figureE3_pong_sorted.png'):
    assert (tmp_path / 'report' / name).read_bytes().startswith(b'\x89PNG')
    assert f'({name})' in text


def test_pictures_of_a_level_of_ones_own_have_a_name_without_colon_and_dots(tmp_path):
  (method, *_) = EXPERIMENTS['figureE3'].methods
  level = 'tests.support.catch:catch'
  sweep_of(experiments.sweep_folder(str(tmp_path), level, method), [1.0])
  text, _ = written(tmp_path, 'figureE3')
  for name in ('best', 'sorted'):
    picture = f'figureE3_tests_support_catch_catch_{name}.png'
    assert (tmp_path / 'report' / picture).exists()
    assert f'({picture})' in text


def test_throughput_stands_beside_the_papers(tmp_path):
  machine = {'cores': 2, 'processor': 'Z80', 'tensorflow': '2.0'}
  path = experiments.rate_file(
    str(tmp_path), 'pong', EXPERIMENTS['table1'].methods[3], is_fake=True
  )
  os.makedirs(os.path.dirname(path))
  with open(path, 'w') as file:
    result = {'frames_per_second': 12345.6, 'cpu_seconds_per_1000_frames': 0.125}
    json.dump({'machine': machine, 'config': {}, 'results': [result]}, file)
  text, rows = written(tmp_path, 'table1')
  assert '2 cores of Z80, TensorFlow 2.0' in text
  ours = 'here: pong, zero-cost environment'
  measured = {
    (row['architecture'], row['paper: seekavoid_arena_01']): (
      row[ours],
      row[f'{ours}, CPU-seconds per 1000 frames'],
    )
    for row in rows
  }
  assert len(measured) == 11
  assert measured.pop(('Batched A2C (sync traj.)', '16,000')) == ('12,346', '0.12')
  assert set(measured.values()) == {('', '')}


@pytest.mark.parametrize('damage', [{'num_actors': None}, {'learning_rate': 'fast'}, []])
def test_a_damaged_rate_is_left_out(tmp_path, caplog, damage):
  machine = {'cores': 2, 'gpus': 0, 'processor': 'Z80', 'tensorflow': '2.0'}
  result = {'frames_per_second': 99.0, 'cpu_seconds_per_1000_frames': 0.125}
  paths = []
  for method, config in zip(EXPERIMENTS['table1'].methods[:2], ({}, damage), strict=True):
    paths.append(experiments.rate_file(str(tmp_path), 'pong', method))
    os.makedirs(os.path.dirname(paths[-1]), exist_ok=True)
    with open(paths[-1], 'w') as file:
      json.dump({'machine': machine, 'config': config, 'results': [result]}, file)
  _, rows = written(tmp_path, 'table1')
  assert sum(row['here: pong'] == '99' for row in rows) == 1
  assert paths[1] in caplog.text
  assert paths[0] not in caplog.text


@pytest.mark.parametrize(
  ('name', 'damage'),
  [
    ('sweep.json', '{"given": {"learning_rate": "fast"}}'),
    ('sweep.json', '{"given": {}, "space": {}, "num_trials": 1, "sweep_seed": 1}'),
    ('journal.log', '[]\n'),
    ('trial_000/episodes.csv', 'x\ny\n'),
  ],
)
def test_damage_to_a_sweep_costs_its_row_only(tmp_path, caplog, name, damage):
  methods = EXPERIMENTS['figureE3'].methods[:2]
  folders = [experiments.sweep_folder(str(tmp_path), 'pong', method) for method in methods]
  for folder in folders:
    sweep_of(folder, [1.0, 9.0])
  pathlib.Path(folders[0], name).write_text(damage)
  _, rows = written(tmp_path, 'figureE3')
  # The returns of trials are in the journal, too.
  lost = [] if name.startswith('trial') else [methods[0].label]
  assert [row['method'] for row in rows] == [m.label for m in methods if m.label not in lost]
  assert str(pathlib.Path(folders[0], name)) in caplog.text


@pytest.mark.parametrize(('gpus', 'filled'), [(0, 'IMPALA, 48 actors'), (1, 'Batched A2C')])
def test_a_row_with_a_graphics_card_is_filled_where_there_was_one(tmp_path, gpus, filled):
  machine = {'cores': 2, 'gpus': gpus, 'processor': 'Z80', 'tensorflow': '2.0'}
  for folder in ('impala_48', 'a2c_dynamic'):
    (method,) = experiments.with_methods(EXPERIMENTS['table1'], [folder]).methods
    path = experiments.rate_file(str(tmp_path), 'pong', method)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    config = dataclasses.asdict(suites.resolve('pong', **method.hyper_parameters({}))[1])
    config |= {'unroll_length': 7, 'num_actors': 2, 'envs_per_actor': 24}
    result = {'frames_per_second': 99.0, 'cpu_seconds_per_1000_frames': 0.125}
    with open(path, 'w') as file:
      json.dump({'machine': machine, 'config': config, 'results': [result]}, file)
  text, rows = written(tmp_path, 'table1')
  (row,) = [row for row in rows if row['here: pong']]
  assert row['architecture'].startswith(filled)
  assert row['paper: GPUs'] == str(gpus)
  assert 'unroll_length 7, not 20' in text
  assert 'environments of an actor 24, not 1' in text


def test_curves_are_those_of_the_best_run_over_frames_and_over_hours(tmp_path):
  deep = TABLE_3.methods[3]
  for method, score in ((SHALLOW, 10.0), (deep, 20.0)):
    folders = sweep_of(experiments.agents_folder(str(tmp_path), TABLE_3, method), [1.0, 2.0])
    for folder, value in zip(folders, (0.0, score), strict=True):
      writer = tf.summary.create_file_writer(str(folder))
      with writer.as_default():
        for step in (1000, 2000):
          tf.summary.scalar(histories.SCORE, value + step / 1000, step)
      writer.close()
  # The second member copied the first one at frame 2000, when it was at 1000 itself.
  events = {
    0: [(0, 0, None, None), (1, 1000, 4.0, None), (2, 2000, 5.0, None)],
    1: [(0, 0, None, None), (1, 1000, 1.0, ('member_000', 2000, 2)), (2, 3000, 9.0, None)],
  }
  folder = experiments.agents_folder(str(tmp_path), TABLE_3, POPULATION)
  for number, tape in events.items():
    member = os.path.join(folder, f'member_{number:03d}')
    os.makedirs(member)
    for evaluation, frames, fitness, copied in tape:
      source = copied and lineage.Source(*copied)
      event = lineage.Event(
        evaluation=evaluation,
        frames=frames,
        hyper_parameters={},
        fitness=fitness,
        copied_from=source,
      )
      lineage.append(member, event)
    writer = tf.summary.create_file_writer(member)
    with writer.as_default():
      for step in (500, 1500, 2500):
        tf.summary.scalar(histories.SCORE, 100 * number + step / 100, step)
    writer.close()
  text = report.write(str(tmp_path), str(tmp_path / 'report'))
  for section in text.split('\n## ')[1:]:
    assert section.startswith('Figure ')
    assert 'trials 2, not 24' in section
    assert 'Frames of a training here: 2_000, 3_500; in the authors' in section
  rows = {}
  for name in ('figure5', 'figure6'):
    with open(tmp_path / 'report' / f'{name}.csv', newline='') as file:
      rows[name] = list(csv.DictReader(file))
    assert (tmp_path / 'report' / f'{name}.png').read_bytes().startswith(b'\x89PNG')
  points = lambda row: (row['method'], float(row['frames']), float(row['score']))
  assert [points(row) for row in rows['figure5']] == [
    ('IMPALA, shallow', 1000, 11),
    ('IMPALA, shallow', 2000, 12),
    ('IMPALA, deep', 1000, 21),
    ('IMPALA, deep', 2000, 22),
    # Of the first member what came before the copy, of the second what came after.
    ('IMPALA, deep, PBT', 500, 5),
    ('IMPALA, deep, PBT', 1500, 15),
    ('IMPALA, deep, PBT', 2500, 115),
    ('IMPALA, deep, PBT', 3500, 125),
  ]
  # Figure 6 has deep networks only.
  assert [float(row['score']) for row in rows['figure6']] == [21, 22, 5, 15, 115, 125]
  assert 0 <= float(rows['figure6'][0]['hours']) <= float(rows['figure6'][1]['hours']) < 1


def evaluated(folder, level, settings, returns):
  """Files of a run of one level and of its evaluation."""
  logdir = os.path.join(folder, level)
  os.makedirs(logdir)
  saved_config.save(logdir, settings)
  result = evaluations.result(level, returns, run=logdir, agent=settings.agent, frames=7)
  results.Evaluation({'seed': 1}, {level: result}).save(os.path.join(folder, run.EVALUATION), {})


def test_the_suites_report_has_each_evaluation_under_the_papers_name(tmp_path):
  folder = experiments.agents_folder(str(tmp_path), TABLE_3, TABLE_3.methods[2])
  evaluated(folder, 'rooms_watermaze', suites.resolve('rooms_watermaze')[1], [30.0, 31.0])
  text = report.write(str(tmp_path), str(tmp_path / 'report'))
  assert '(table3/report.md)' in text
  # The level's own, in place of the suite's.
  assert 'reward_clipping abs_one, not optimistic_asymmetric' in text
  assert "here: 7; in the authors' README 10_000_000_000 for an agent of all" in text
  rows = rows_of(tmp_path / 'report' / 'table3' / 'table_b1.csv')
  ours = [row['IMPALA-Experts, deep'] for row in rows]
  assert [float(cell) for cell in ours if cell][:1] == [30.5]


def compared(method, folder):
  """Returns the settings that a report of Tables 3 and 4 names."""
  found = Deviations()
  report._compare(TABLE_3, method, str(folder), found)
  return found.text()


def save_configs(method, folders, **given):
  """Configurations of runs of a method in these folders, with a learning rate for each."""
  for number, folder in enumerate(folders, start=1):
    os.makedirs(folder, exist_ok=True)
    own = {'learning_rate': number * 1e-4, **given}
    saved_config.save(str(folder), suites.resolve('dmlab30', **method.hyper_parameters(own))[1])


def test_a_sweeps_number_of_trials_is_named_and_what_it_drew_is_not(tmp_path):
  save_configs(SHALLOW, sweep_of(tmp_path / 'sweep', [1.0, 2.0]))
  text = compared(SHALLOW, tmp_path / 'sweep')
  assert 'seed 1' not in text
  assert 'trials 2, not 24' in text


def test_a_populations_size_and_rules_are_named_and_what_it_drew_is_not(tmp_path):
  population = Population(
    population=2,
    given={'batch_size': 16},
    space=search_space.as_texts(search_space.TABLE_D1),
    rules=Rules(burn_in_frames=7),
  )
  pbt_folder.define(str(tmp_path), population)
  members = [pbt_folder.member_folder(str(tmp_path), number) for number in range(2)]
  save_configs(POPULATION, members, batch_size=16, learning_rate_decay='none')
  text = compared(POPULATION, tmp_path)
  parts = ('batch_size 16, not 32', 'members 2, not 24', 'burn_in_frames 7, not 20000000')
  assert [text.count(part) for part in (*parts, ', not ')] == [1, 1, 1, 3]


def test_damage_to_one_agent_of_many_costs_that_one_only(tmp_path, caplog):
  folders = [
    experiments.agents_folder(str(tmp_path), TABLE_3, method)
    for method in (SHALLOW, TABLE_3.methods[3])
  ]
  for folder in folders:
    (trial,) = sweep_of(folder, [1.0])
    with tf.summary.create_file_writer(str(trial)).as_default():
      tf.summary.scalar(histories.SCORE, 1.0, 1000)
  experts = experiments.agents_folder(str(tmp_path), TABLE_3, TABLE_3.methods[2])
  evaluated(experts, 'rooms_watermaze', suites.resolve('rooms_watermaze')[1], [30.0])
  damaged = [
    pathlib.Path(folders[0], definition.FILE_NAME),
    pathlib.Path(experts, 'rooms_watermaze', saved_config.FILE_NAME),
    pathlib.Path(experts, run.EVALUATION, results.FILE_NAME),
  ]
  for number, path in enumerate(damaged):
    path.write_text('[]')
    text, rows = written(tmp_path, 'figure5')
    assert str(path) in caplog.text
    assert {row['method'] for row in rows} == {TABLE_3.methods[3].label}
    assert ('(table3/report.md)' in text) == (number < 2)


def test_an_empty_folder_has_no_report(tmp_path):
  with pytest.raises(ConfigurationError, match=str(tmp_path)):
    report.write(str(tmp_path / 'runs'), str(tmp_path / 'report'))
