"""A whole cluster on this machine: a learner and some actors, each a process of its own, joined
over loopback.

    python -m impala_tf.launch --num_actor_processes=4 --level_name=pong

The command shows what they print, each line behind the name of its process. A process that was
killed is restarted, so that one can see what happens then; the end of the learner ends all. The
command takes the hyper-parameters that `run_experiment.py` takes.
"""

import functools
import threading
from typing import Any

from absl import flags

from impala_tf import cli
from impala_tf.cli import config_flags
from impala_tf.cluster import roles
from impala_tf.config import sizes
from impala_tf.environments import suites
from impala_tf.system import machine, processes, signals

# Actors have nothing to lose, and the learner's runs are saved: what kills a part now and then must
# not end the cluster.
_SOUND_SECONDS = 60.0
_BATCH = 32  # of a run whose level only its folder knows
_print_lock = threading.Lock()


def sizes_of_each(
  num_actor_processes: int, preset_name: str | None, given: dict[str, Any]
) -> sizes.Sizes:
  """Returns how many actors, environments and processes each actor process has by default.

  What one process would have is shared out, and no level is left out.

  Args:
    num_actor_processes: of the cluster.
    preset_name: as of run_experiment.py.
    given: fields of the configuration, the level among them unless the preset or the run's folder
      knows it.

  Raises:
    ConfigurationError: if no suite has the level, or a value is refused.
  """
  named = suites.presets()[preset_name] if preset_name else None
  level_name = given.get('level_name') or (named and named.level_name)
  if level_name:
    suite, config = suites.resolve(**given | {'level_name': level_name})
    levels = len(suite.levels(config))
    whole = sizes.Sizes(config.num_actors, config.envs_per_actor, config.processes_per_actor)
  else:
    levels, whole = 1, sizes.choose(machine.cores(), 1, _BATCH)
  return sizes.shared_out(whole, num_actor_processes, levels)


def run(num_actor_processes: int, arguments: list[str]) -> int:
  """Runs a cluster until its learner ends, or a signal comes.

  Args:
    num_actor_processes: how many processes act.
    arguments: flags for learner and actors.

  Returns:
    The learner's exit code; 1 if an actor failed, or a process was killed again and again; or the
    code that says which signal ended it.
  """
  arguments = [*arguments, f'--learner_address=127.0.0.1:{roles.free_port()}']
  roles_by_name = {'learner': ['--job_name=learner']} | {
    f'actor {task}': ['--job_name=actor', f'--task={task}'] for task in range(num_actor_processes)
  }
  with (
    signals.Stop() as stop,
    processes.Supervisor(stop, sound_seconds=_SOUND_SECONDS, show=_show) as children,
  ):
    for name, role in roles_by_name.items():
      children.start(name, functools.partial(_start, name, arguments + role))

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


@cli.report_user_errors()
def _main(argv):
  cli.no_positional_arguments(argv)
  values = flags.FLAGS

  # A preset, or the run in a folder, may know the level.
  is_known = values.preset or values.logdir
  given = config_flags.given() if is_known else config_flags.given_with_level()
  if not given.get('num_actors'):
    each = sizes_of_each(values.num_actor_processes, values.preset, given)
    given = each._asdict() | given | {'num_actors': each.num_actors}

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
