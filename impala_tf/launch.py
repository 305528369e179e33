"""A whole cluster on this machine: a learner and some actors, each a process of its own, joined
over loopback.

    python -m impala_tf.launch --num_actor_processes=4 --level_name=pong

It shows what they print, each line behind the name of its process. One that is killed is started
anew, so that one can see what happens then; the end of the learner is the end of all. It takes the
hyper-parameters that `run_experiment.py` takes.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time

from absl import app, flags

from impala_tf import cli, config_flags, machine, signals
from impala_tf import processes as processes_lib
from impala_tf.cluster import roles
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites

_POLL_SECONDS = 0.2
_RESTART_SECONDS = 1.0  # before a process that was killed is started anew
_SOUND_SECONDS = 60.0  # after which a process was well, and may be killed again
_MAX_KILLS_IN_A_ROW = 3
_STOP_SECONDS = 90.0  # for a process to save and end
_LAST_LINES_SECONDS = 5.0  # for what it printed to be shown, which a child of its own that lives on might delay for ever

_print_lock = threading.Lock()


def actors_of_each(num_actor_processes, level_name, preset_name):
  """How many actors each process has by default: what one process would have is shared out, and no
  level is left out.

  Args:
    num_actor_processes: int.
    level_name, preset_name: as of run_experiment.py, or None.
  """
  level_name = level_name or (preset_name and suites.presets()[preset_name].level_name)
  wanted = 2 * machine.cores()
  # It may be a level of another runner, which knows what it means; a bad name is that one's to
  # refuse, too.
  with contextlib.suppress(ConfigurationError):
    wanted = suites.find(level_name or '').configure(level_name).num_actors
  return -(-wanted // num_actor_processes)


def run(num_actor_processes, arguments, runner='run_experiment'):
  """Runs a cluster until its learner ends, or a signal comes.

  Args:
    num_actor_processes: int.
    arguments: list of str, flags for learner and actors.
    runner: the module that trains and acts, as for `processes.command`.

  Returns:
    The learner's exit code; 1 if an actor failed, or a process was killed again and again; or the
    code that tells which signal ended it.
  """
  # It loads TensorFlow, which takes seconds: not at the top, so that --help and refusals come at
  # once.

  address = f'127.0.0.1:{roles.free_port()}'
  arguments = [*arguments, f'--learner_address={address}']
  with signals.Stop() as stop, contextlib.ExitStack() as ends:
    learner = _Process('learner', runner, [*arguments, '--job_name=learner'])
    actors = [
      _Process(f'actor {task}', runner, [*arguments, '--job_name=actor', f'--task={task}'])
      for task in range(num_actor_processes)
    ]
    ends.callback(_stop_all, [learner, *actors])
    for process in (learner, *actors):
      process.start()
    while not stop:
      time.sleep(_POLL_SECONDS)
      for process in (learner, *actors):
        process.start_anew_if_killed()
      if learner.code is not None:
        return learner.code
      failed = [actor for actor in actors if actor.code == 1]
      if failed:
        _show(f'{failed[0].name} failed, so all end.')
        return 1
  return stop.exit_code


class _Process:
  """One process, which is started anew when it is killed.

  name: of its lines.
  code: its exit code once it has ended of its own accord, None before.
  """

  def __init__(self, name, runner, arguments):
    self.name = name
    self.code = None
    # `run_process` ends it with this process, even if that is killed.
    self._command = processes_lib.command(runner, arguments)
    self._process = self._reader = None
    self._began = self._ended = None
    self._kills_in_a_row = 0

  def start(self):
    """Starts it; what it prints is shown from then on."""
    # A session of its own: Ctrl-C in the terminal is for this process, which passes it on.
    self._process = subprocess.Popen(
      self._command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      errors='replace',
      start_new_session=True,
      # Whoever started this as a run holds a lock on its folder by a file: until the whole cluster
      # has ended.
      close_fds=False,
      # Several processes may share a graphics card: none may take all of its memory.
      env={'TF_FORCE_GPU_ALLOW_GROWTH': 'true', **os.environ},
    )
    self._reader = threading.Thread(target=self._pass_on, args=(self._process.stdout,), daemon=True)
    self._reader.start()
    self._began = time.monotonic()
    _show(f'{self.name} is process {self._process.pid}.')

  def _pass_on(self, stream):
    for line in stream:
      _show(line.rstrip('\n'), self.name)

  def start_anew_if_killed(self):
    """Looks whether it has ended, and how."""
    code = self._process.poll()
    if code is None or self.code is not None:
      return
    if code >= 0:
      self.code = code
    elif self._ended is None:
      self._ended = time.monotonic()
      self._kills_in_a_row = (
        0 if self._ended - self._began > _SOUND_SECONDS else self._kills_in_a_row + 1
      )
      was_killed = f'{self.name} was killed by {signal.Signals(-code).name}'
      if self._kills_in_a_row == _MAX_KILLS_IN_A_ROW:
        self.code = 1
        _show(
          f'{was_killed} {self._kills_in_a_row} times in a row, each time within {_SOUND_SECONDS:.0f} s of its start. See what '
          'kills it: if memory is short, have fewer --num_actors or --num_actor_processes.'
        )
      else:
        _show(f'{was_killed} and is started anew.')
    elif time.monotonic() - self._ended >= _RESTART_SECONDS:
      self._ended = None
      self.start()

  def ask_to_stop(self):
    """Asks it to save and end."""
    if self._process and self._process.poll() is None:
      self._process.send_signal(signal.SIGTERM)

  def wait(self, deadline):
    """Waits for its end and for all that it printed; what is not over in time is killed with all
    its children.
    """
    if not self._process:
      return
    try:
      self._process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
      _show(f'{self.name} does not end and is killed.')
      os.killpg(self._process.pid, signal.SIGKILL)
      self._process.wait()
    self._reader.join(_LAST_LINES_SECONDS)


def _stop_all(processes):
  for process in processes:
    process.ask_to_stop()
  deadline = time.monotonic() + _STOP_SECONDS
  for process in processes:
    process.wait(deadline)


def _show(text, name='launch'):
  with _print_lock:
    print(f'[{name}] {text}', flush=True)


def _define_flags():
  config_flags.define()
  flags.DEFINE_integer(
    'num_actor_processes', 2, 'actor processes, each of --num_actors actors', lower_bound=1
  )
  flags.DEFINE_string('logdir', None, 'folder of the run (default: runs/<level_name>)')
  flags.DEFINE_enum(
    'preset',
    None,
    list(suites.presets()),
    "the paper's hyper-parameters by name, see run_experiment.py",
  )
  flags.DEFINE_boolean(
    'population_member', False, 'as of run_experiment.py; impala_tf.pbt sets this'
  )
  flags.DEFINE_string(
    'runner',
    'run_experiment',
    'module that trains and acts, as after python -m; one of your own for other levels',
  )


@cli.report_user_errors()
def _main(argv):
  cli.no_positional_arguments(argv)
  values = flags.FLAGS
  given = config_flags.given()
  given.setdefault(
    'num_actors', actors_of_each(values.num_actor_processes, given.get('level_name'), values.preset)
  )
  passed_on = {
    name: values[name].value for name in ('logdir', 'preset') if values[name].value is not None
  }
  arguments = (
    config_flags.arguments(given | passed_on) + ['--population_member'] * values.population_member
  )
  return run(values.num_actor_processes, arguments, values.runner)


if __name__ == '__main__':
  _define_flags()
  app.run(_main)
