"""Throughput of the whole pipeline and of its parts.

    python -m impala_tf.benchmark train --level_name=pong            # everything, as in a training
    python -m impala_tf.benchmark train --level_name=pong --compare  # and the rate its parts allow
    python -m impala_tf.benchmark act --level_name=pong              # environments, inference
    python -m impala_tf.benchmark infer --level_name=pong            # the agent choosing actions
    python -m impala_tf.benchmark env --level_name=pong              # one process's environments
    python -m impala_tf.benchmark learn --level_name=pong            # the learner's update alone
    python -m impala_tf.benchmark queue --level_name=pong            # queue and staging area alone
    python -m impala_tf.benchmark cluster --level_name=pong --actor_processes=1,2,4
                                                                     # the way between processes

All take the hyper-parameters that `run_experiment.py` takes. Frames are emulator frames; processor
time is that of the whole tree of processes. Rates of one machine drift: compare results that were
measured in turns.
"""

import dataclasses
import importlib.metadata
import os
import platform

from absl import flags

from impala_tf import cli
from impala_tf.benchmark import fake_environment, measurement
from impala_tf.cli import config_flags
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.system import machine, quiet

# Functions of `parts`, the last of `cluster`. These modules load TensorFlow, so they are imported
# once the flags are found good.
_PARTS = ('train', 'act', 'infer', 'env', 'learn', 'queue', 'cluster')
_WITH_ENVIRONMENTS = {'train', 'act', 'env'}
_COMPARED = ('env', 'infer', 'learn')
_MOST_CONNECTIONS = 9000  # whose numbers have four digits, see `crowd`
_PACKAGES = ('tensorflow', 'dm-sonnet', 'tensorflow-probability', 'numpy', 'ale-py')


def _describe_machine():
  return {
    'cores': machine.cores(),
    'gpus': machine.graphics_cards(),
    'processor': _processor(),
    'python': platform.python_version(),
    **{package: importlib.metadata.version(package) for package in _PACKAGES},
  }


def _processor():
  try:
    with open('/proc/cpuinfo') as file:
      return next(line.split(':', 1)[1].strip() for line in file if line.startswith('model name'))
  except (OSError, StopIteration):
    return platform.processor()


def define_flags() -> None:
  """Defines the flags of the command."""
  config_flags.define()
  flags.DEFINE_float('seconds', 20.0, 'seconds that each measurement lasts', lower_bound=0.1)
  flags.DEFINE_integer(
    'repeats', 3, 'number of measurements, of which the median counts', lower_bound=1
  )
  flags.DEFINE_float(
    'warm_up_seconds',
    10.0,
    'seconds for which the work runs before the first measurement',
    lower_bound=0.0,
  )
  cli.define_path('output', None, 'JSON file to which the results are written')
  flags.DEFINE_boolean(
    'fake_environment', False, 'use environments that cost nothing, to measure the framework alone'
  )
  flags.DEFINE_list(
    'actor_processes',
    ['1', '2', '4'],
    'with cluster: numbers of actor processes, one measurement for each',
  )
  flags.DEFINE_list(
    'connections',
    [],
    'with cluster: numbers of actors for which a few processes speak, so that they take little '
    'memory, in place of --actor_processes; one measurement for each',
  )
  flags.DEFINE_boolean(
    'compare', False, 'with train: measure the parts too, and print the rate that they would allow'
  )


@cli.report_user_errors(OSError)
def main(argv: list[str]) -> int:
  """Measures as the flags say; returns the exit code."""
  if len(argv) != 2 or argv[1] not in _PARTS:
    raise ConfigurationError(
      f'Name what to measure, one of {", ".join(_PARTS)}: got {" ".join(argv[1:]) or "nothing"}.'
    )

  cli.set_up_log()
  part = argv[1]
  values = flags.FLAGS
  if values.compare and part != 'train':
    raise ConfigurationError(f'--compare goes with train, not with {part}.')
  given = config_flags.given_with_level()
  _actor_counts()
  suite, config = suites.resolve(**given)
  results = _measure_all(suite, config, [part, *_COMPARED] if values.compare else [part])

  report = {
    'machine': _describe_machine(),
    'config': dataclasses.asdict(config),
    'fake_environment': values.fake_environment,
    'results': [dataclasses.asdict(result) for result in results],
  }
  if values.compare:
    whole, *alone = results
    least = measurement.bound(*alone)
    share = least / whole.cpu_seconds_per_1000_frames
    report |= {'bound_cpu_seconds_per_1000_frames': least, 'share_of_bound': share}
    cores = machine.cores()
    print(
      f'The parts need {least:.4f} CPU-seconds per 1000 frames: {cores * 1000 / least:,.0f} '
      f'frames/s on {cores} cores. The pipeline is at {100 * share:.0f} % of that per CPU-second.'
    )

  if values.output:
    from impala_tf import files

    os.makedirs(os.path.dirname(os.path.abspath(values.output)), exist_ok=True)
    files.write_json(values.output, report)

  return 0


def _measure_all(suite, config, names):
  values = flags.FLAGS
  suite.check(config)
  if values.fake_environment:
    suite = fake_environment.FakeSuite(suite)
  elif _WITH_ENVIRONMENTS.intersection(names):
    suite.check_installed(config)

  quiet.load_tensorflow()
  from impala_tf.benchmark import parts

  machine.configure_tensorflow(config.num_actors, config.num_learners)
  if names == ['cluster']:
    from impala_tf.benchmark import cluster

    speak = bool(values.connections)
    work = [('cluster', cluster.cluster_of(n, suite, config, speak)) for n in _actor_counts()]
  else:
    work = [(name, getattr(parts, name)(suite, config)) for name in names]

  results = []
  for name, part in work:
    with part as (steps, readers, extra):
      result = measurement.measure(
        name,
        steps,
        seconds=values.seconds,
        repeats=values.repeats,
        warm_up_seconds=values.warm_up_seconds,
        readers=readers,
      )
      result = dataclasses.replace(result, extra=extra(result))
    print(result, flush=True)
    results.append(result)

  return results


def _actor_counts():
  name = 'connections' if flags.FLAGS.connections else 'actor_processes'
  texts = getattr(flags.FLAGS, name)
  if not all(text.isdecimal() and int(text) for text in texts):
    raise ConfigurationError(
      f'--{name}={",".join(texts)} must be whole numbers above 0, such as 1,2,4.'
    )

  if name == 'connections' and any(int(text) > _MOST_CONNECTIONS for text in texts):
    raise ConfigurationError(
      f'--connections={",".join(texts)} must be at most {_MOST_CONNECTIONS} each.'
    )

  if len({int(text) for text in texts}) < len(texts):
    raise ConfigurationError(
      f'--{name}={",".join(texts)} has a number twice. --repeats measures each several times.'
    )

  return [int(text) for text in texts]


if __name__ == '__main__':
  define_flags()
  cli.run(main, config_flags.parse_flags)
