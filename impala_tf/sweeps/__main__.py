"""Random search over hyper-parameters, as in the paper: trains one agent for each of a set of
samples.

    python -m impala_tf.sweeps --level_name=pong --num_trials=24 --parallel=2 \\
      --logdir=runs/pong_sweep
    python -m impala_tf.sweeps --logdir=runs/pong_sweep --status
    python -m impala_tf.sweeps --level_name=pong --logdir=runs/mine \\
      --space='seed=categorical(1,2)' --space=more.yaml
    python -m impala_tf.sweeps report --logdirs=runs/pong_sweep,mine=runs/mine --output=report

The samples depend on --sweep_seed alone. Each trial is an ordinary run in a folder of its own,
trial_000 and so on. The same command resumes a sweep that was ended or killed; given on several
machines, with one --logdir that all of them see, they share its trials. A fixed value of any other
hyper-parameter is given as to run_experiment.py. `report` compares sweeps, each a line as in the
paper's Figure 4 if they have the same samples.
"""

from absl import flags

from impala_tf import cli
from impala_tf.cli import config_flags
from impala_tf.cluster import trainer
from impala_tf.config import ConfigurationError
from impala_tf.sweeps import search_space

# The rest of the package is imported where it is needed: it loads TensorFlow, which takes seconds.

_REPORT = 'report'


def define_flags() -> None:
  """Defines the flags of the command."""
  config_flags.define()
  cli.define_path('logdir', None, 'folder of the sweep, which all its machines see')
  flags.DEFINE_integer(
    'num_trials', 24, 'number of samples to train with (24 in the paper)', lower_bound=1
  )
  flags.DEFINE_integer(
    'sweep_seed', 1, 'seed that decides the samples of hyper-parameters', lower_bound=0
  )
  flags.DEFINE_multi_string(
    'space',
    None,
    "distribution of a hyper-parameter, as 'field=distribution', or a YAML file of them; may be "
    "given several times; left out, the paper's Table D.1",
  )
  flags.DEFINE_integer('parallel', 1, 'number of trials to train at a time', lower_bound=1)
  trainer.define_flag()
  flags.DEFINE_boolean(
    'prune',
    False,
    'whether to end trials early that are worse than the median of the others; the paper lets all '
    'finish',
  )
  flags.DEFINE_boolean('retry_failed', False, 'whether to try again the trials that failed')
  flags.DEFINE_boolean(
    'status', False, 'shows how far the trials of --logdir have come, and trains nothing'
  )
  cli.define_paths(
    'logdirs',
    None,
    "with report: folders of sweeps, separated by commas; 'label=' may precede each",
  )
  cli.define_path('output', None, 'with report: folder to write the report to')


@cli.report_user_errors(OSError)
def main(argv: list[str]) -> int:
  """Sweeps, reports or shows the status as the flags say; returns the exit code."""
  values = flags.FLAGS
  if argv[1:2] == [_REPORT]:
    cli.no_positional_arguments(argv[1:])
    return _report(_required('logdirs'), _required('output'))
  cli.no_positional_arguments(argv)
  logdir = _required('logdir')
  if values.status:
    return _show_status(logdir)
  return _sweep(logdir, values)


def _required(name):
  value = flags.FLAGS[name].value
  if not value:
    raise ConfigurationError(f'--{name} is missing: {flags.FLAGS[name].help}.')
  return value


def _report(logdirs, output):
  from impala_tf.sweeps import report

  print(report.write(report.read(logdirs), output), end='')
  return 0


def _show_status(logdir):
  from impala_tf.sweeps import definition, report, study

  sweep = definition.load(logdir)
  if sweep is None:
    raise ConfigurationError(f'No sweep in {logdir}: it has no {definition.FILE_NAME}.')
  print(report.status(logdir, study.Study(logdir, sweep).trials()))
  return 0


def _sweep(logdir, values):
  given = config_flags.given_with_level()
  trainer.check(values.cluster, at_a_time=values.parallel)
  space = search_space.TABLE_D1 if values.space is None else search_space.parse(values.space)
  # What is fixed and what is drawn may only go together.
  drawn = search_space.draw(space, 1, values.sweep_seed)[0]
  trainer.check_training(values.cluster, given | drawn)

  from impala_tf.sweeps import worker
  from impala_tf.sweeps.definition import Sweep

  sweep = Sweep(given, space, values.num_trials, values.sweep_seed)
  return worker.run(
    logdir,
    sweep,
    parallel=values.parallel,
    prune=values.prune,
    retry_failed=values.retry_failed,
    runner=trainer.module(values.cluster),
  )


if __name__ == '__main__':
  define_flags()
  cli.run(main, config_flags.parse_flags)
