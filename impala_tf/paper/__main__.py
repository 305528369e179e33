"""The paper's tables and figures: lists them, runs them, and reports what has run beside what the
paper found.

    python -m impala_tf.paper list
    python -m impala_tf.paper run table2 --scale=0.001 --levels=rooms_watermaze --trials=6
    python -m impala_tf.paper run table1 --levels=pong --logdir=runs/paper
    python -m impala_tf.paper commands table2 --levels=rooms_watermaze --scale=0.001
    python -m impala_tf.paper report --logdir=runs/paper --output=report

`run` executes one command after the other, each of which can be resumed by giving it again;
`commands` prints them for a scheduler. Flags of run_experiment.py set further hyper-parameters of
all methods, such as --batch_size. With a scale below 1 each training lasts for that share of the
paper's frames, and the report says so.
"""

from absl import flags

from impala_tf import cli, errors
from impala_tf.cli import config_flags
from impala_tf.cluster import trainer
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.paper import experiments
from impala_tf.sweeps import search_space

# The rest of the package is imported where it is needed: it loads TensorFlow, which takes seconds.

_MAX_LISTED = 8  # Methods of an experiment.
_USAGE = (
  "Say what to do: 'list', 'run' or 'commands' with the name of a table or figure, or 'report'."
)


def define_flags() -> None:
  """Defines the flags of the command."""
  config_flags.define()
  cli.define_path('logdir', 'runs/paper', 'folder of all experiments')
  cli.define_path('output', None, 'with report: folder to write to (default: `report` in --logdir)')
  flags.DEFINE_float(
    'scale', 1.0, "share of the paper's frames that each training lasts", lower_bound=1e-9
  )
  flags.DEFINE_list('levels', [], "levels in place of the paper's, separated by commas")
  flags.DEFINE_list(
    'methods',
    [],
    'the only rows to run, by the names of their folders, separated by commas (an unknown name '
    'lists them all)',
  )
  flags.DEFINE_integer(
    'trials',
    24,
    'number of samples of hyper-parameters, or of members of a population (24 in the paper)',
    lower_bound=1,
  )
  flags.DEFINE_multi_string(
    'space',
    None,
    "distribution of a hyper-parameter, as 'field=distribution', or a YAML file of them, in place "
    "of the paper's Table D.1; 'seed=uniform(1,1000000)' for seeds alone",
  )
  flags.DEFINE_integer(
    'sweep_seed', 1, 'seed that decides the samples, or those of a population', lower_bound=0
  )
  flags.DEFINE_integer('parallel', 1, 'number of trials of a sweep at a time', lower_bound=1)
  flags.DEFINE_float(
    'time_slice',
    None,
    'seconds for which the members of a population run in turn; left out, all run side by side',
    lower_bound=1,
  )
  flags.DEFINE_list(
    'lags',
    None,
    'with figureE1: policy lags in updates, separated by commas (default: '
    f'{",".join(map(str, experiments.LAGS))})',
  )
  flags.DEFINE_integer(
    'episodes',
    None,
    "number of episodes of an evaluation of each level (default: the paper's)",
    lower_bound=1,
  )
  flags.DEFINE_float('seconds', 20.0, 'with table1: seconds of each measurement', lower_bound=0.1)
  flags.DEFINE_integer(
    'repeats', 3, 'with table1: number of measurements, of which the median counts', lower_bound=1
  )
  flags.DEFINE_float(
    'warm_up_seconds', 10.0, 'with table1: seconds before the first measurement', lower_bound=0.0
  )
  flags.DEFINE_boolean(
    'fake_environment',
    False,
    'with table1: whether to measure the framework alone, with environments that cost nothing',
  )
  trainer.define_flag()


@cli.report_user_errors(OSError)
def main(argv: list[str]) -> int:
  """Lists, runs or reports as the arguments and flags say; returns the exit code."""
  values = flags.FLAGS
  match argv[1:]:
    case ['list']:
      print('\n'.join(_described(experiment) for experiment in experiments.EXPERIMENTS.values()))
      return 0
    case ['run' | 'commands' as what, name]:
      experiment = _experiment(name, values)
      settings = _settings(values)
      from impala_tf.paper import run

      if what == 'run':
        return run.run(experiment, values.logdir, settings)
      for command in run.commands(experiment, values.logdir, settings):
        print(command)
      return 0
    case ['report']:
      from impala_tf.paper import report

      print(report.write(values.logdir, values.output or f'{values.logdir}/report'), end='')
      return 0
    case _:
      raise ConfigurationError(_USAGE)


def _described(experiment):
  on = f' on {len(experiment.levels)} levels' if experiment.levels else ''
  names = [method.folder for method in experiment.methods]
  methods = errors.listed(names, _MAX_LISTED)
  return f'{experiment.name:10}{experiment.title}{on}\n{"":10}methods: {methods}'


def _experiment(name, values):
  """Returns the experiment of a name with the lags and methods that the flags name."""
  if name not in experiments.EXPERIMENTS:
    raise ConfigurationError(
      f'{name!r} is none of the tables and figures: {", ".join(experiments.EXPERIMENTS)}.'
    )
  experiment = experiments.EXPERIMENTS[name]
  if values.lags is not None:
    if name != 'figureE1':
      raise ConfigurationError(f'--lags goes with figureE1, not with {name}.')
    experiment = experiments.with_lags(experiment, [_lag(text) for text in values.lags])
  return experiments.with_methods(experiment, values.methods)


def _lag(text):
  if not text.strip().isdigit():
    raise ConfigurationError(
      f'--lags has {text!r}, which is not a number of updates. Write such as --lags=0,1,10.'
    )
  return int(text)


def _settings(values):
  given = config_flags.given()
  for name, flag in (('level_name', '--levels'), ('total_environment_frames', '--scale')):
    if name in given:
      raise ConfigurationError(f'--{name} follows from the experiment: use {flag}.')

  trainer.check(values.cluster)
  from impala_tf.paper.settings import PaperSettings

  return PaperSettings(
    scale=values.scale,
    # Folders are named by levels, and another spelling is not another level.
    levels=tuple(suites.resolve(level)[1].level_name for level in values.levels) or None,
    trials=values.trials,
    space=values.space and search_space.as_texts(search_space.parse(values.space)),
    sweep_seed=values.sweep_seed,
    given=given,
    parallel=values.parallel,
    episodes=values.episodes,
    benchmark=tuple(
      f'--{name}={values[name].value}' for name in ('seconds', 'repeats', 'warm_up_seconds')
    ),
    fake_environment=values.fake_environment,
    time_slice=values.time_slice,
    cluster=values.cluster,
  )


if __name__ == '__main__':
  define_flags()
  cli.run(main, config_flags.parse_flags)
