"""The paper's tables and figures: lists them, runs them, and reports what has run beside what the
paper found.

    python -m impala_tf.paper list
    python -m impala_tf.paper run table2 --scale=0.001 --levels=rooms_watermaze --trials=6
    --logdir=runs/paper
    python -m impala_tf.paper run table1 --levels=pong --logdir=runs/paper
    python -m impala_tf.paper report --logdir=runs/paper --output=report

The same command goes on with what was ended. Flags of run_experiment.py set further
hyper-parameters of all methods, such as
--batch_size; a scale below 1 has each training last for that share of the paper's frames, and the
report says so.
"""

from absl import app, flags

from impala_tf import cli, config_flags
from impala_tf.cluster import roles
from impala_tf.config import ConfigurationError
from impala_tf.paper import paper_experiments
from impala_tf.sweeps import search_space

flags.disclaim_key_flags()  # So that --help of the package shows them.

_USAGE = "Say what to do: 'list', 'run' with the name of a table or figure, or 'report'."


def listed():
  """The names of the experiments and what they are, as text."""
  lines = []
  for experiment in paper_experiments.EXPERIMENTS.values():
    on = f' on {len(experiment.levels)} levels' if experiment.levels else ''
    lines.append(f'{experiment.name:10}{experiment.title}; {len(experiment.methods)} methods{on}')
  return '\n'.join(lines)


def find(name):
  """The `paper_experiments.Experiment` of a name; ConfigurationError with all names if there is
  none.
  """
  if name not in paper_experiments.EXPERIMENTS:
    raise ConfigurationError(
      f'{name!r} is none of the tables and figures: {", ".join(paper_experiments.EXPERIMENTS)}.'
    )
  return paper_experiments.EXPERIMENTS[name]


def _settings(values):
  given = config_flags.given()
  for name, flag in (('level_name', '--levels'), ('total_environment_frames', '--scale')):
    if name in given:
      raise ConfigurationError(f'--{name} follows from the experiment: use {flag}.')
  space = None if values.space is None else search_space.as_texts(search_space.parse(values.space))
  cluster = _cluster(values.cluster)
  benchmark = [
    f'--{name}={values[name].value}' for name in ('seconds', 'repeats', 'warm_up_seconds')
  ]
  from impala_tf.paper import paper_run

  return paper_run.Settings(
    scale=values.scale,
    levels=tuple(values.levels) if values.levels else None,
    trials=values.trials,
    space=space,
    sweep_seed=values.sweep_seed,
    given=given,
    parallel=values.parallel,
    episodes=values.episodes,
    benchmark=tuple(benchmark),
    fake_environment=values.fake_environment,
    runner=values.runner,
    time_slice=values.time_slice,
    cluster=cluster,
  )


def define_flags():
  """Defines the flags of the command."""
  config_flags.define()
  flags.DEFINE_string('logdir', 'runs/paper', 'folder of all experiments')
  flags.DEFINE_string(
    'output', None, 'with report: folder to write to (default: `report` in the logdir)'
  )
  flags.DEFINE_float(
    'scale', 1.0, "share of the paper's frames for each training", lower_bound=1e-9
  )
  flags.DEFINE_list('levels', [], "levels in place of the paper's, separated by commas")
  flags.DEFINE_list(
    'methods',
    [],
    'run only these rows, by the names of their folders (an unknown name lists them all)',
  )
  flags.DEFINE_integer(
    'trials', 24, 'samples of hyper-parameters, or members of a population', lower_bound=1
  )
  flags.DEFINE_multi_string(
    'space',
    None,
    "'field=distribution' or a YAML file, in place of the paper's Table D.1; 'seed=uniform(1,1000000)' for seeds",
  )
  flags.DEFINE_integer('sweep_seed', 1, 'of the samples, or of a population', lower_bound=0)
  flags.DEFINE_integer('parallel', 1, 'trials of a sweep at a time', lower_bound=1)
  flags.DEFINE_float(
    'time_slice',
    None,
    'seconds that each member of a population runs in turn; left out, all run side by side',
    lower_bound=1,
  )
  flags.DEFINE_list(
    'lags',
    None,
    f'with figureE1: policy lags, separated by commas (default: {paper_experiments.LAGS})',
  )
  flags.DEFINE_integer(
    'episodes', None, "of an evaluation of each level (default: the paper's)", lower_bound=1
  )
  flags.DEFINE_float('seconds', 20.0, 'with table1: seconds of each measurement', lower_bound=0.1)
  flags.DEFINE_integer(
    'repeats', 3, 'with table1: measurements, of which the median counts', lower_bound=1
  )
  flags.DEFINE_float(
    'warm_up_seconds', 10.0, 'with table1: seconds before the first measurement', lower_bound=0.0
  )
  flags.DEFINE_boolean(
    'fake_environment',
    False,
    'with table1: environments that cost nothing, to measure the framework',
  )
  flags.DEFINE_string(
    'cluster',
    None,
    'actor processes for each training, or host:port where its learner waits for those of other machines',
  )
  flags.DEFINE_string(
    'runner',
    'run_experiment',
    'module that trains, as after python -m; one of your own for other levels',
  )


@cli.report_user_errors(OSError)
def main(argv):
  """Runs or reports as the flags say; returns the exit code."""
  values = flags.FLAGS
  match argv[1:]:
    case ['list']:
      print(listed())
      return 0
    case ['run', name]:
      experiment = find(name)
      if values.lags is not None:
        if name != 'figureE1':
          raise ConfigurationError(f'--lags goes with figureE1, not with {name}.')
        experiment = paper_experiments.with_lags(experiment, [_lag(text) for text in values.lags])
      experiment = paper_experiments.with_methods(experiment, values.methods)
      settings = _settings(values)
      from impala_tf.paper import paper_run

      return paper_run.run(experiment, values.logdir, settings)
    case ['report']:
      from impala_tf.paper import paper_report

      print(paper_report.write(values.logdir, values.output or f'{values.logdir}/report'), end='')
      return 0
    case _:
      raise app.UsageError(_USAGE)


def _cluster(text):
  """A number of actor processes or the address of learners, from text; None stays."""
  if text is None or ':' in text:
    return text
  if not text.strip().isdecimal() or int(text) < 1:
    raise ConfigurationError(
      f'--cluster={text} is neither a number of actor processes of this machine, such as 4, nor an address for learners, such '
      f'as 10.0.0.1:{roles.DEFAULT_PORT}.'
    )
  return int(text)


def _lag(text):
  if not text.strip().isdigit():
    raise ConfigurationError(
      f'--lags has {text!r}, which is no number of updates. Write such as --lags=0,1,10.'
    )
  return int(text)
