"""Random search over hyper-parameters, as in the paper: trains one agent for each of a set of
samples.

    python -m impala_tf.sweeps --level_name=pong --num_trials=24 --parallel=2
    --logdir=runs/pong_sweep
    python -m impala_tf.sweeps --logdir=runs/pong_sweep --status
    python -m impala_tf.sweeps --level_name=pong --logdir=runs/mine --space="seed=categorical(1,2)"
    --space=more.yaml

The samples depend on --sweep_seed alone. Each trial is an ordinary run in a folder of its own,
trial_000 and so on. The same command resumes a sweep that was ended or killed; given on several
machines, with one --logdir that all of them see, they share its trials. A fixed value of any other
hyper-parameter is given as to run_experiment.py.
"""

import json
import os

from absl import flags

from impala_tf import cli, config_flags, files, locks, signals
from impala_tf import config as config_lib
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.reports import final_return
from impala_tf.sweeps import hparams_dashboard, search_space, sweep_report, sweep_worker
from impala_tf.sweeps import study as study_lib

flags.disclaim_key_flags()  # So that --help of the package shows them.

FILE_NAME = 'sweep.json'


def check_or_save(logdir, sweep):
  """Writes what defines a sweep on its first start; on later ones makes sure that it is the same.

  Args:
    logdir: existing folder.
    sweep: dict with `given` (fixed hyper-parameters), `space` (texts by field), `num_trials`
      and `sweep_seed`.

  Raises:
    ConfigurationError: if the folder has another sweep. The number of trials may grow, and fields
      that leave alone what is learned may change.
  """
  old = load(logdir)
  if old is not None:
    different = [name for name in ('space', 'sweep_seed') if old[name] != sweep[name]]
    different += ['given'] * (
      config_lib.lasting(old['given']) != config_lib.lasting(sweep['given'])
    )
    different += ['num_trials'] * (sweep['num_trials'] < old['num_trials'])
    if different:
      rows = '\n'.join(
        f'  {name}: {json.dumps(old[name])} in {FILE_NAME}, {json.dumps(sweep[name])} now'
        for name in different
      )
      raise ConfigurationError(
        f'The sweep in {logdir} is another one:\n{rows}\nGive the old values to go on with it, or another --logdir.'
      )
  files.write_json(os.path.join(logdir, FILE_NAME), sweep)


def load(logdir):
  """What `check_or_save` wrote, a dict; None if there is no sweep.

  Raises:
    ConfigurationError: if the file can't be understood, or is an earlier version's and names a
      database; names it.
  """
  path = os.path.join(logdir, FILE_NAME)
  try:
    sweep = files.read_json(path)
  except ValueError as error:
    raise ConfigurationError(
      f'{error} Repair or remove the file, or give another --logdir.'
    ) from error
  if sweep is not None and sweep.pop('storage', ''):
    raise ConfigurationError(
      f'The sweep in {logdir} is kept in a database, by an earlier version. Remove {path} and give '
      'the same command again without --storage: its trials resume from their folders, and those '
      'that had finished are found finished.'
    )
  return sweep


def open_study(logdir, sweep, prune=False):
  """The `study.Study` of a sweep with all its trials, and its search space."""
  space = {name: search_space.parse_one(name, form) for name, form in sweep['space'].items()}
  samples = search_space.draw(space, sweep['num_trials'], sweep['sweep_seed'])
  return study_lib.Study(logdir, space, samples, prune), space


def table(logdir, trials):
  """The trials as lines of text: state, frames, return so far or in the end, hyper-parameters."""
  names = list(trials[0].hyper_parameters)
  rows = [('trial', 'state', 'frames', 'return', *names)]
  for trial in trials:
    folder = os.path.join(logdir, trial.name)
    value = trial.value if trial.value is not None else final_return.read(folder)
    cells = (f'{sweep_worker.frames_of(folder):_}', '' if value is None else f'{value:.4g}')
    rows.append(
      (trial.name, trial.state, *cells, *(sweep_worker.describe(trial, name) for name in names))
    )
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  lines = [
    '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for row in rows
  ]
  return '\n'.join(
    lines + [f'{trial.name} failed: {trial.message}' for trial in trials if trial.message]
  )


def run(
  logdir,
  sweep,
  *,
  parallel=1,
  prune=False,
  retry_failed=False,
  runner='run_experiment',
):
  """Starts a sweep, resumes it, or joins those who work on it; at its end writes the report.

  Args:
    logdir: folder of the sweep, made if missing.
    sweep: as for `check_or_save`.
    parallel, prune, runner: as for `sweep_worker.Worker`.
    retry_failed: whether trials that failed are tried again.

  Returns:
    0; 1 if a trial failed; or the exit code that tells which signal ended it early.

  Raises:
    ConfigurationError: if the sweep is another than the one in `logdir`.
    sweep_worker.RefusedError: if its trials are refused.
  """
  both = sorted(sweep['space'].keys() & sweep['given'].keys())
  if both:
    raise ConfigurationError(
      f'{both[0]} is both given and in the search space. Leave --{both[0]} out, or give another --space.'
    )
  cli.check_local(logdir)
  os.makedirs(logdir, exist_ok=True)
  locks.check_supported(logdir)
  study, space = open_study(logdir, sweep, prune)
  check_or_save(logdir, sweep)
  hparams_dashboard.write_space(logdir, space)
  if retry_failed:
    study.retry_failed()
  worker = sweep_worker.Worker(
    study, logdir, sweep['given'], parallel=parallel, prune=prune, runner=runner
  )
  with signals.Stop() as stop:
    worker.run(stop)
  if stop:
    return stop.exit_code
  trials = study.trials()
  print(table(logdir, trials), flush=True)
  sweep_report.write(
    {os.path.basename(os.path.normpath(logdir)): (logdir, trials)}, os.path.join(logdir, 'report')
  )
  return int(any(trial.state == 'failed' for trial in trials))


def define_flags():
  """Defines the flags of the command."""
  config_flags.define()
  flags.DEFINE_string('logdir', None, 'folder of the sweep', required=True)
  flags.DEFINE_integer('num_trials', 24, 'samples to train with', lower_bound=1)
  flags.DEFINE_integer('sweep_seed', 1, 'of the samples', lower_bound=0)
  flags.DEFINE_multi_string(
    'space',
    None,
    "'field=distribution' or a YAML file, in place of the paper's Table D.1; may be given several times",
  )
  flags.DEFINE_integer('parallel', 1, 'trials at a time', lower_bound=1)
  flags.DEFINE_boolean(
    'prune',
    False,
    'end trials early that are worse than the median of the others; the paper does not',
  )
  flags.DEFINE_boolean('retry_failed', False, 'try again those that failed')
  flags.DEFINE_boolean('status', False, 'show how the sweep is going, and leave it alone')


@cli.report_user_errors(OSError)
def main(argv):
  """Sweeps as the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  values = flags.FLAGS
  if values.status:
    sweep = load(values.logdir)
    if sweep is None:
      raise ConfigurationError(f'No sweep in {values.logdir}: it has no {FILE_NAME}.')
    print(table(values.logdir, open_study(values.logdir, sweep)[0].trials()))
    return 0
  given = config_flags.given()
  if 'level_name' not in given:
    raise ConfigurationError(
      '--level_name is missing: name the level to train on, such as --level_name=pong.'
    )
  space = search_space.TABLE_D1 if values.space is None else search_space.parse(values.space)
  from impala_tf.training import loop  # It loads TensorFlow: not before --help and refusals.

  loop.check(*suites.resolve(**given | search_space.draw(space, 1, values.sweep_seed)[0]))
  sweep = {
    'given': given,
    'space': search_space.as_texts(space),
    'num_trials': values.num_trials,
    'sweep_seed': values.sweep_seed,
  }
  return run(
    values.logdir,
    sweep,
    parallel=values.parallel,
    prune=values.prune,
    retry_failed=values.retry_failed,
  )
