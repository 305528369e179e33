"""A whole cluster on this machine: a learner and some actors, each a process of its own, joined
over loopback.

    python -m impala_tf.launch --num_actor_processes=4 --level_name=pong

The command shows what they print, each line behind the name of its process. A process that was
killed is restarted, so that one can see what happens then; the end of the learner ends all. The
command takes the hyper-parameters that `run_experiment.py` takes.
"""

import functools
import threading

from absl import flags, logging

from impala_tf import cli
from impala_tf.cli import config_flags
from impala_tf.cluster import roles
from impala_tf.config import Config, sizes
from impala_tf.environments import suites
from impala_tf.environments.suite import Suite
from impala_tf.system import processes, signals

# Actors have nothing to lose, and the learner's runs are saved: what kills a part now and then must
# not end the cluster.
_SOUND_SECONDS = 60.0
_print_lock = threading.Lock()


def sizes_of_each(num_actor_processes: int, suite: Suite, config: Config) -> sizes.Sizes:
  """Returns how many actors, environments and processes each actor process has by default.

  What one process would have is shared out, and no level is left out.

  Args:
    num_actor_processes: of the cluster.
    suite: of the levels.
    config: of the run, with the sizes of one process alone.
  """
  whole = sizes.Sizes(config.num_actors, config.envs_per_actor, config.processes_per_actor)
  return sizes.shared_out(whole, num_actor_processes, len(suite.levels(config)))


def run(num_actor_processes: int, arguments: list[str]) -> int:
  """Runs a cluster until its learner ends, or a signal comes.

  Args:
    num_actor_processes: how many processes act.
    arguments: flags for learner and actors.

  Returns:
    The learner's exit code; 1 if an actor failed, or a process was killed again and again; or the
    code that says which signal ended it.
  """
  roles_by_name = {'learner': ['--job_name=learner']} | {
    f'actor {task}': ['--job_name=actor', f'--task={task}'] for task in range(num_actor_processes)
  }
  # The learner takes seconds to open its port, and again where it is restarted.
  with (
    roles.held_port() as port,
    signals.Stop() as stop,
    processes.Supervisor(stop, sound_seconds=_SOUND_SECONDS, show=_show) as children,
  ):
    address = f'--learner_address=127.0.0.1:{port}'
    for name, role in roles_by_name.items():
      children.start(name, functools.partial(_start, name, [*arguments, address, *role]))

    for ended in children.ends():
      if signals.ended_by_signal(ended.code):  # It was killed again and again.
        _show(f'{ended.message} Have fewer --num_actors or --num_actor_processes.')
        return 1
      if ended.name == 'learner':
        return ended.code or 0
      if ended.code:
        _show(f'{ended.name} failed, so all end.')
        return 1

  return stop.exit_code


def _start(name, arguments):
  process = processes.Child(
    processes.MAIN_MODULE, arguments, show=functools.partial(_show, name=name)
  )
  _show(f'{name} is process {process.pid}.')
  return process


def _show(line, name='launch'):
  with _print_lock:
    print(f'[{name}] {line}', flush=True)


def _define_flags():
  config_flags.define()
  flags.DEFINE_integer(
    'num_actor_processes', 2, 'actor processes, each of --num_actors actors', lower_bound=1
  )
  cli.define_path('logdir', None, 'folder of the run (default: runs/<level_name>)')
  flags.DEFINE_enum(
    'preset',
    None,
    list(suites.presets()),
    "the paper's hyper-parameters by name, see run_experiment.py",
  )
  flags.DEFINE_boolean(
    'population_member', False, 'as of run_experiment.py; impala_tf.pbt sets this'
  )


def _resolve(preset_name, given):
  """Returns the suite and the configuration of the level that the flags or the preset name."""
  named = {'level_name': suites.presets()[preset_name].level_name} if preset_name else {}
  return suites.resolve(**named | given)


def _warn_if_uneven(num_actor_processes, suite, config):
  """Warns if some levels would be played more often than others.

  Args:
    num_actor_processes: of the cluster.
    suite: of the levels.
    config: of each actor process.
  """
  levels = len(suite.levels(config))
  if num_actor_processes * config.num_actors * config.envs_per_actor % levels:
    logging.warning(
      'The environments of %d actor processes (%d actors of %d each) are not a multiple of the %d '
      'levels of %s: some levels are played more often than others. Choose --num_actor_processes, '
      '--num_actors or --envs_per_actor so that they are.',
      num_actor_processes,
      config.num_actors,
      config.envs_per_actor,
      levels,
      config.level_name,
    )


@cli.report_user_errors()
def _main(argv):
  cli.no_positional_arguments(argv)
  values = flags.FLAGS

  given = config_flags.given() if values.preset else config_flags.given_with_level()
  suite, config = _resolve(values.preset, given)
  if not given.get('num_actors'):
    each = sizes_of_each(values.num_actor_processes, suite, config)
    given = each._asdict() | given | {'num_actors': each.num_actors}
    suite, config = _resolve(values.preset, given)
  _warn_if_uneven(values.num_actor_processes, suite, config)

  passed_on = {
    name: values[name].value for name in ('logdir', 'preset') if values[name].value is not None
  }
  arguments = config_flags.arguments(given | passed_on)
  if values.population_member:
    arguments.append('--population_member')

  return run(values.num_actor_processes, arguments)


if __name__ == '__main__':
  _define_flags()
  cli.run(_main, config_flags.parse_flags)
