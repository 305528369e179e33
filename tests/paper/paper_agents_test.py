"""The paper's agents of whole suites: which of the runs is taken, how runs end, and what the report
makes of evaluations.
"""

import csv
import dataclasses
import os
import pathlib
import re
import signal
import threading
import time

import pytest
import tensorflow as tf

import atari57.suite
import dmlab30.suite
from impala_tf import processes, saved_config
from impala_tf.evaluation import results
from impala_tf.paper import paper_experiments, paper_report, paper_run
from impala_tf.pbt import lineage
from impala_tf.sweeps import definition, search_space, worker
from impala_tf.sweeps.definition import Sweep
from impala_tf.sweeps.study import Study
from impala_tf.training import episode_log

TABLE_3, TABLE_4 = paper_experiments.EXPERIMENTS['table3'], paper_experiments.EXPERIMENTS['table4']
SHALLOW, EXPERTS, POPULATION = TABLE_3.methods[1], TABLE_4.methods[3], TABLE_3.methods[4]
RUNNER = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[-1].removeprefix('--logdir='))
folder.mkdir(exist_ok=True)
def end(number, frame):
  (folder / 'ended').write_text(str(number))
  sys.exit(128 + number)
signal.signal(signal.SIGTERM, end)
if sys.argv[1] != '--seed=0':
  print('no such seed', flush=True)
  sys.exit(int(sys.argv[1].removeprefix('--seed=')))
(folder / 'began').touch()
time.sleep(60)
"""


def sweep_of(folder, values):
  """A sweep whose trials ended with these final returns; returns the folders of the trials."""
  os.makedirs(folder)
  space = search_space.parse(['seed=uniform(1,99)'])
  sweep = Sweep({'total_environment_frames': 10**6}, space, num_trials=len(values))
  definition.check_or_save(folder, sweep)
  study = Study(folder, sweep)
  folders = []
  for value in values:
    claim = study.claim()
    claim.finish(value)
    folders.append(pathlib.Path(folder, claim.trial.name))
    lines = [','.join(episode_log.COLUMNS), *(f'{100 * (i + 1)},pong,{value},7' for i in range(9))]
    (folders[-1] / episode_log.FILE_NAME).write_text('\n'.join(lines) + '\n')
  return folders


def test_the_best_trial_is_the_agent(tmp_path):
  folder = paper_experiments.agents_folder(str(tmp_path), TABLE_3, SHALLOW)
  assert paper_run.best_run(folder, SHALLOW) is None
  folders = sweep_of(folder, [1.0, 3.0, 2.0])
  assert paper_run.best_run(folder, SHALLOW) == str(folders[1])


def test_the_best_member_is_the_agent(tmp_path):
  folder = paper_experiments.agents_folder(str(tmp_path), TABLE_3, POPULATION)
  assert paper_run.best_run(folder, POPULATION) is None
  for number, fitness in enumerate([None, 7.0, 5.0]):
    member = os.path.join(folder, f'member_{number:03d}')
    os.makedirs(member)
    lineage.append(
      member, lineage.Event(evaluation=number, frames=9, hyper_parameters={}, fitness=fitness)
    )
  assert paper_run.best_run(folder, POPULATION) == os.path.join(folder, 'member_001')


def test_the_mean_of_the_best_leaves_out_the_worst(tmp_path):
  figure = paper_experiments.EXPERIMENTS['figureE3']
  sweep_of(
    paper_experiments.sweep_folder(str(tmp_path), 'pong', figure.methods[1]),
    [1.0, 9.0, 2.0, 6.0, 4.0],
  )
  paper_report.write(str(tmp_path), str(tmp_path / 'report'))
  with open(tmp_path / 'report' / 'figureE3.csv', newline='') as file:
    (row,) = csv.DictReader(file)
  assert float(row['best 3']) == pytest.approx((9 + 6 + 4) / 3)
  assert float(row['all']) == pytest.approx(22 / 5)
  assert (row['level'], row['trials'], row['frames']) == ('pong', '5 of 5', '1_000_000')


def test_curves_are_those_of_the_best_run_over_frames_and_over_hours(tmp_path):
  deep = TABLE_3.methods[3]
  for method, score in ((SHALLOW, 10.0), (deep, 20.0)):
    folders = sweep_of(paper_experiments.agents_folder(str(tmp_path), TABLE_3, method), [1.0, 2.0])
    for folder, value in zip(folders, (0.0, score), strict=True):
      writer = tf.summary.create_file_writer(str(folder))
      with writer.as_default():
        for step in (1000, 2000):
          tf.summary.scalar(paper_report._SCORE, value + step / 1000, step)
      writer.close()
  # The second member copied the first one at frame 2000, when it was at 1000 itself.
  events = {
    0: [(0, 0, None, None), (1, 1000, 4.0, None), (2, 2000, 5.0, None)],
    1: [(0, 0, None, None), (1, 1000, 1.0, ('member_000', 2000, 2)), (2, 3000, 9.0, None)],
  }
  folder = paper_experiments.agents_folder(str(tmp_path), TABLE_3, POPULATION)
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
        tf.summary.scalar(paper_report._SCORE, 100 * number + step / 100, step)
    writer.close()
  paper_report.write(str(tmp_path), str(tmp_path / 'report'))
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
  run = os.path.join(folder, level)
  os.makedirs(run)
  saved_config.save(run, settings)
  result = results.LevelResult(
    run, 'ckpt-1', level, settings.agent, 9, 'aa', 1, 1, returns, [100] * len(returns)
  )
  results.Evaluation({'seed': 1}, {level: result}).save(
    os.path.join(folder, paper_run.EVALUATION), {}
  )


def test_the_suites_report_has_each_evaluation_under_the_papers_name(tmp_path):
  folder = paper_experiments.agents_folder(str(tmp_path), TABLE_4, EXPERTS)
  evaluated(folder, 'pong', atari57.suite.SUITE.configure('pong', agent='deep'), [20.0, 21.0])
  folder = paper_experiments.agents_folder(str(tmp_path), TABLE_3, TABLE_3.methods[2])
  evaluated(
    folder,
    'rooms_watermaze',
    dmlab30.suite.SUITE.configure('rooms_watermaze', agent='deep'),
    [30.0, 31.0],
  )
  text = paper_report.write(str(tmp_path), str(tmp_path / 'report'))
  assert (
    'Frames of a training here: 200_000_000; in the paper 11_400_000_000 for an agent of all levels'
    in text
  )
  with open(tmp_path / 'report' / 'table4' / 'table_c1.csv', newline='') as file:
    returns = {row['game']: row['IMPALA, deep, experts'] for row in csv.DictReader(file)}
  assert float(returns.pop('pong')) == 20.5
  assert set(returns.values()) == {''}
  with open(tmp_path / 'report' / 'table3' / 'table_b1.csv', newline='') as file:
    ours = [row['IMPALA-Experts, deep'] for row in csv.DictReader(file)]
  assert [float(cell) for cell in ours if cell][:1] == [30.5]


@pytest.fixture
def runner(tmp_path, monkeypatch):
  (tmp_path / 'waiting.py').write_text(RUNNER)
  monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{pathlib.Path(__file__).parents[2]}')
  return 'waiting'


@pytest.mark.parametrize('kind', ['train', 'call'])
def test_a_signal_to_this_process_alone_ends_what_it_runs(tmp_path, runner, kind):
  folder = tmp_path / 'run'

  def signal_once_it_runs():
    deadline = time.monotonic() + 60
    while not (folder / 'began').exists() and time.monotonic() < deadline:
      time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

  threading.Thread(target=signal_once_it_runs, daemon=True).start()
  if kind == 'train':
    code = paper_run._train(['--seed=0'], str(folder), runner)
  else:
    code = paper_run._call(runner, '--seed=0', f'--logdir={folder}')
  assert code == 128 + signal.SIGINT
  assert (folder / 'ended').read_text() == str(int(signal.SIGTERM))


def test_a_command_that_fails_is_told_of(tmp_path, runner, capsys):
  assert paper_run._call(runner, '--seed=3', f'--logdir={tmp_path}') == 1
  assert 'waiting ended with exit code 3.' in capsys.readouterr().err


def test_a_run_that_fails_says_why_and_is_not_in_the_way_of_others(
  tmp_path, runner, monkeypatch, capsys
):
  assert paper_run._train(['--seed=3'], str(tmp_path / 'run'), runner) == 1
  assert re.search(
    r'The run in .*run ended with exit code 3:\nno such seed', capsys.readouterr().err
  )
  trained = []
  monkeypatch.setattr(
    paper_run, '_train', lambda arguments, folder, runner: (trained.append(folder), 1)[1]
  )
  # Or the half-trained agent would be in the way of the one to come.
  monkeypatch.setattr(paper_run, '_evaluate', lambda *arguments: pytest.fail('evaluated'))
  one = dataclasses.replace(TABLE_4, methods=(EXPERTS,))
  assert paper_run.run(one, str(tmp_path), paper_run.Settings(levels=('pong', 'qbert'))) == 1
  assert [os.path.basename(folder) for folder in trained] == ['pong', 'qbert']
  assert 'IMPALA, deep, experts is not evaluated, as 2 trainings failed' in capsys.readouterr().out

  def busy(*arguments):
    raise processes.FolderBusyError('Another process trains there.')

  monkeypatch.undo()
  monkeypatch.setattr(processes, 'RunProcess', busy)
  monkeypatch.setattr(processes, 'STOP_SECONDS', 0.0)
  assert paper_run._train([], str(tmp_path / 'run'), runner) == 1
  assert 'Another process trains there.' in capsys.readouterr().err


def test_a_sweep_that_is_refused_is_not_in_the_way_of_others(tmp_path, monkeypatch, capsys):
  started = []

  def refuse(folder, sweep, **how):
    started.append(sweep.given['level_name'])
    raise worker.RefusedError('trial_000 was refused:\nno such thing')

  monkeypatch.setattr(worker, 'run', refuse)
  figure = paper_experiments.EXPERIMENTS['figureE3']
  assert paper_run.run(figure, str(tmp_path), paper_run.Settings(levels=('pong', 'qbert'))) == 1
  assert started == ['pong', 'pong', 'qbert', 'qbert']
  assert 'no such thing' in capsys.readouterr().err


def test_an_agent_that_became_the_best_has_an_evaluation_of_its_own(tmp_path, monkeypatch):
  table = dataclasses.replace(TABLE_3, methods=(SHALLOW,))
  folder = paper_experiments.agents_folder(str(tmp_path), table, SHALLOW)
  evaluated, best = [], []
  monkeypatch.setattr(paper_run, '_sweep', lambda *arguments: 0)
  monkeypatch.setattr(paper_run, 'best_run', lambda folder, method: best[-1])
  monkeypatch.setattr(
    paper_run, '_call', lambda module, *arguments: (evaluated.append(arguments), 0)[1]
  )
  for trial in ('trial_001', 'trial_004'):
    best.append(os.path.join(folder, trial))
    assert paper_run.run(table, str(tmp_path), paper_run.Settings(trials=3)) == 0
    assert evaluated[-1] == (
      f'--logdir={best[-1]}',
      f'--output={os.path.join(folder, "evaluation", trial)}',
    )
  # The report has that of the agent which is best now.
  assert paper_run.evaluation_folder(folder, SHALLOW) == os.path.join(
    folder, 'evaluation', 'trial_004'
  )


def test_a_population_in_which_a_member_failed_is_not_evaluated_yet(tmp_path, monkeypatch, capsys):
  table, codes, called = dataclasses.replace(TABLE_3, methods=(POPULATION,)), [1, 0], []

  def call(module, *arguments):
    called.append(module)
    return codes.pop(0) if module == 'impala_tf.pbt' else 0

  monkeypatch.setattr(paper_run, '_call', call)
  monkeypatch.setattr(
    paper_run, 'best_run', lambda folder, method: os.path.join(folder, 'member_001')
  )
  assert paper_run.run(table, str(tmp_path), paper_run.Settings()) == 1
  assert 'is not evaluated, as members failed' in capsys.readouterr().out
  assert paper_run.run(table, str(tmp_path), paper_run.Settings()) == 0
  assert called == ['impala_tf.pbt', 'impala_tf.pbt', 'dmlab30.evaluate']
