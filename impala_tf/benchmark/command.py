"""Throughput of the whole pipeline and of its parts.

    python -m impala_tf.benchmark train --level_name=pong            # everything, as in a training
    python -m impala_tf.benchmark train --level_name=pong --compare  # and what its parts would
    allow
    python -m impala_tf.benchmark act --level_name=pong              # actors alone: environments and inference
    python -m impala_tf.benchmark infer --level_name=pong            # the agent alone, choosing actions
    python -m impala_tf.benchmark env --level_name=pong              # one process's environments alone
    python -m impala_tf.benchmark learn --level_name=pong            # the learner's update alone
    python -m impala_tf.benchmark queue --level_name=pong            # queue and staging area alone
    python -m impala_tf.benchmark cluster --level_name=pong --actor_processes=1,2,4      # the way between processes alone

All take the hyper-parameters that `run_experiment.py` takes. Frames are emulator frames; processor
time is that of the whole tree of processes. Rates of one machine drift: compare what was measured
in turns.
"""

import dataclasses
import functools
import importlib.metadata
import platform
import statistics
import time

from absl import app, flags, logging

from impala_tf import cli, config_flags, files, machine
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites

flags.disclaim_key_flags()  # So that --help of the package shows them.

# Functions of `benchmark_parts` (the last of `benchmark_cluster`), which loads TensorFlow: not
# before the flags are found good.
_PARTS = ('train', 'act', 'infer', 'env', 'learn', 'queue', 'cluster')
_WITH_ENVIRONMENTS = {'train', 'act', 'env'}
_PACKAGES = ('tensorflow', 'dm-sonnet', 'tensorflow-probability', 'numpy', 'ale-py')


@dataclasses.dataclass(frozen=True)
class Result:
  """What one part, or the whole, did.

  frames_per_second: median of the windows; frames_per_second_windows: each.
  cpu_seconds_per_1000_frames: of the process tree, over all windows together.
  cores: processor seconds per second, over all windows together.
  peak_memory_mebibytes: largest proportional set size of the process tree that was seen at the end
    of a window.
  stages: shares of time of the pipeline's stages by group, empty for the parts.
  extra: numbers of this part alone.
  """

  name: str
  frames_per_second: float
  frames_per_second_windows: list
  cpu_seconds_per_1000_frames: float
  cores: float
  peak_memory_mebibytes: float
  stages: dict
  extra: dict

  def __str__(self):
    windows = ', '.join(f'{rate:,.0f}' for rate in self.frames_per_second_windows)
    lines = [
      f'{self.name}: {self.frames_per_second:,.0f} frames/s (windows: {windows}), '
      f'{self.cpu_seconds_per_1000_frames:.4f} CPU-seconds per 1000 frames, {self.cores:.2f} cores, '
      f'{self.peak_memory_mebibytes:,.0f} MiB'
    ]
    lines += [
      f'  {group}: ' + ', '.join(f'{stage} {100 * share:.0f} %' for stage, share in shares.items())
      for group, shares in self.stages.items()
    ]
    lines += [
      f'  {name}: {value:,}' if type(value) is int else f'  {name}: {value:,.3g}'
      for name, value in self.extra.items()
    ]
    return '\n'.join(lines)


def measure(
  name,
  steps,
  *,
  seconds,
  repeats,
  warm_up_seconds,
  readers=None,
  clock=time.perf_counter,
  tree=None,
):
  """Measures work that comes as an iterator.

  Args:
    name: of the work.
    steps: iterator of the frames done in each of its steps; each `next` does one.
    seconds: of a window.
    repeats: how many windows.
    warm_up_seconds: how long to let it run before.
    readers: dict from group to a `timing.StageTimer.reader`, looked at over all windows together.
    clock: gives seconds.
    tree: a `process_tree.ProcessTree`, one of its own by default.

  Returns:
    A Result without extras.

  Raises:
    ConfigurationError: if the steps end before that.
  """
  from impala_tf.benchmark import process_tree

  tree = tree or process_tree.ProcessTree()

  def run(duration):
    begin, frames = clock(), 0
    while True:
      step = next(steps, None)
      if step is None:
        raise ConfigurationError(
          f'{name} came to its end within the measurement. Give more --total_environment_frames, or fewer --seconds, --repeats '
          'or --warm_up_seconds.'
        )
      frames += step
      elapsed = clock() - begin
      if elapsed >= duration:
        return frames, elapsed

  run(warm_up_seconds)
  for reader in (readers or {}).values():
    reader()  # from here on
  rates, total_frames, total_seconds, total_cpu, memory = [], 0, 0.0, 0.0, 0.0
  for _ in range(repeats):
    cpu = tree.cpu_seconds()
    frames, elapsed = run(seconds)
    total_cpu += tree.cpu_seconds() - cpu
    memory = max(memory, tree.memory_mebibytes())
    rates.append(frames / elapsed)
    total_frames += frames
    total_seconds += elapsed
  return Result(
    name=name,
    frames_per_second=statistics.median(rates),
    frames_per_second_windows=rates,
    cpu_seconds_per_1000_frames=1000 * total_cpu / total_frames,
    cores=total_cpu / total_seconds,
    peak_memory_mebibytes=memory,
    stages={group: reader() for group, reader in (readers or {}).items()},
    extra={},
  )


def bound(env, infer, learn):
  """CPU-seconds per 1000 frames that the pipeline can't do without: those of its parts, each a
  Result, added up.
  """
  return sum(part.cpu_seconds_per_1000_frames for part in (env, infer, learn))


def _describe_machine():
  return {
    'cores': machine.cores(),
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


def define_flags():
  """Defines the flags of the command."""
  config_flags.define()
  flags.DEFINE_float('seconds', 20.0, 'seconds of each measurement', lower_bound=0.1)
  flags.DEFINE_integer('repeats', 3, 'measurements, of which the median counts', lower_bound=1)
  flags.DEFINE_float(
    'warm_up_seconds', 10.0, 'seconds before the first measurement', lower_bound=0.0
  )
  flags.DEFINE_string('output', None, 'JSON file to write what was measured to')
  flags.DEFINE_boolean(
    'fake_environment', False, 'environments that cost nothing, to measure the framework alone'
  )
  flags.DEFINE_list(
    'actor_processes',
    ['1', '2', '4'],
    'with cluster: numbers of processes, one measurement for each',
  )
  flags.DEFINE_boolean(
    'compare', False, 'with train: measure the parts too, and the rate that they would allow'
  )


@cli.report_user_errors(OSError)
def main(argv):
  """Measures as the flags say; returns the exit code."""
  if len(argv) != 2 or argv[1] not in _PARTS:
    raise app.UsageError(
      f'Name what to measure, one of {", ".join(_PARTS)}: got {" ".join(argv[1:]) or "nothing"}.'
    )
  part = argv[1]
  values = flags.FLAGS
  if values.compare and part != 'train':
    raise ConfigurationError(f'--compare goes with train, not with {part}.')
  given = config_flags.given()
  if 'level_name' not in given:
    raise ConfigurationError(
      '--level_name is missing: name the level to measure on, such as --level_name=pong.'
    )
  _actor_processes()
  suite, config = suites.resolve(**given)
  results = _measure_all(
    suite, config, [part, *(['env', 'infer', 'learn'] if values.compare else [])]
  )
  report = {
    'machine': _describe_machine(),
    'config': dataclasses.asdict(config),
    'fake_environment': values.fake_environment,
  }
  report['results'] = [dataclasses.asdict(result) for result in results]
  if values.compare:
    whole, *alone = results
    least = bound(*alone)
    report['bound_cpu_seconds_per_1000_frames'] = least
    report['share_of_bound'] = least / whole.cpu_seconds_per_1000_frames
    print(
      f'The parts need {least:.4f} CPU-seconds per 1000 frames: {report["machine"]["cores"] * 1000 / least:,.0f} frames/s on '
      f'{report["machine"]["cores"]} cores. The pipeline is at {100 * report["share_of_bound"]:.0f} % of that per CPU-second.'
    )
  if values.output:
    files.write_json(values.output, report)
  return 0


def _measure_all(suite, config, names):
  values = flags.FLAGS
  from impala_tf.benchmark import benchmark_parts

  suite.check(config)
  if values.fake_environment:
    suite = benchmark_parts.FakeSuite(suite)
  elif _WITH_ENVIRONMENTS.intersection(names):
    suite.check_installed(config)
  logging.set_verbosity(logging.WARNING)
  machine.configure_tensorflow(config.num_actors, config.num_learners)
  parts = [(name, getattr(benchmark_parts, name)) for name in names if name != 'cluster']
  if 'cluster' in names:
    from impala_tf.benchmark import benchmark_cluster

    parts += [
      ('cluster', functools.partial(benchmark_cluster.cluster_of, count))
      for count in _actor_processes()
    ]
  results = []
  for name, part in parts:
    with part(suite, config) as (steps, readers, extra):
      result = measure(
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


def _actor_processes():
  texts = flags.FLAGS.actor_processes
  if not all(text.isdecimal() and int(text) for text in texts):
    raise ConfigurationError(
      f'--actor_processes={",".join(texts)} must be whole numbers above 0, such as 1,2,4.'
    )
  if len({int(text) for text in texts}) < len(texts):
    raise ConfigurationError(
      f'--actor_processes={",".join(texts)} has a number twice. --repeats measures each several times.'
    )
  return [int(text) for text in texts]
