"""Faults of processes: killed, ended by a signal, or cut off in the middle of a save."""

import os
import signal


def kill_environments(training, draw):
  """Kills a process of environments: another takes its place, and nothing else happens."""
  name = draw.choice(training.actors)
  training.wait(lambda: training.plays(name), f'play of {name}')
  if name != training.learner:  # While it waits for a learner it has fewer threads.
    training.wait(lambda: training.is_known(name), f'word of {name}')
    slept = training.sleeps(name)
    training.wait(lambda: training.sleeps(name) > slept + 20, f'further play of {name}')
  environments, before = training.processes.environments_of(name), training.resources(name)
  restarts = training.count(name, 'is restarted')
  victim = draw.choice(environments)
  os.kill(victim, signal.SIGKILL)
  training.wait(lambda: training.count(name, 'is restarted') > restarts, 'word of the new process')
  whole = lambda now: len(now) == len(environments) and victim not in now
  training.wait(lambda: whole(training.processes.environments_of(name)), 'new process')
  training.wait_for_frames()
  return {'left': training.left(name, before)}


def kill_learner(training, draw):
  """Kills the learner, or the run that is alone: restarted, it resumes from its last checkpoint."""
  del draw
  training.processes.kill(training.learner)
  training.check_that_it_saves()
  training.check_that_nothing_runs(training.learner)
  slots, newest = training.slots(), training.checkpoints()[-1]
  result = training.resume(training.saved())
  training.wait(lambda: training.checkpoints()[-1] != newest, 'next checkpoint')
  # The mean squares of RMSProp begin at 1 and are far smaller after a few hundred updates.
  assert training.slots() < max(0.5, 2 * slots), 'The optimizer has begun anew.'
  return result


def kill_while_it_saves(training, draw):
  """Kills the learner, and leaves what a save leaves that is cut off: the next start removes it."""
  del draw
  training.wait(lambda: len(training.checkpoints()) == 3, 'third checkpoint')
  training.processes.kill(training.learner)
  training.check_that_nothing_runs(training.learner)
  saved, oldest = training.saved(), training.checkpoints()[0]
  left = training.logdir / 'ckpt-999_temp', training.logdir / 'config.json.0123abcd.tmp'
  left[0].mkdir()
  left[1].write_text('half')
  for suffix in ('index', 'data-00000-of-00001'):
    copy = oldest.with_name('ckpt-0').with_name(f'ckpt-0.{suffix}')
    copy.write_bytes(oldest.with_name(f'{oldest.name}.{suffix}').read_bytes())
  result = training.resume(saved)
  found = [str(path) for path in (*left, copy) if path.exists()]
  assert not found, f'Left in the folder: {found}'
  return result


def kill_actor(training, draw):
  """Kills an actor: its environments end, the learner continues, and the task can be restarted."""
  name = draw.choice(training.actors)
  starts = training.count(training.learner, 'Resuming from frame')
  training.processes.kill(name)
  training.check_that_nothing_runs(name)
  _start_actor(training, name)
  assert training.count(training.learner, 'Resuming from frame') == starts
  return {}


def stop_actor(training, draw):
  """Sends SIGTERM to an actor: it takes leave, and can be restarted."""
  name = draw.choice(training.actors)
  # The learner looks every few seconds, and names nobody who came and went between two looks.
  training.wait(lambda: training.is_known(name), f'word of {name}')
  went = training.count(training.learner, f'went: {name}')
  training.processes.send(name, signal.SIGTERM)
  training.check_code(name, 128 + signal.SIGTERM)
  training.check_that_nothing_runs(name)
  training.processes.wait_until(
    lambda: training.count(training.learner, f'went: {name}') > went, 'leave'
  )
  _start_actor(training, name)
  return {}


def _start_actor(training, name):
  # The learner may not have noticed that it was gone, so it is not asked.
  connected = training.count(name, 'Connected to the learner')
  training.processes.start(name)
  training.wait(lambda: training.count(name, 'Connected to the learner') > connected, 'connection')
  training.wait(lambda: training.plays(name), f'play of {name}')
  training.wait_for_frames()


def terminate(training, draw):
  """Sends SIGTERM, as a scheduler does: the learner saves all that it learned."""
  del draw
  return training.resume(training.stop_by(signal.SIGTERM))


def interrupt(training, draw):
  """Sends SIGINT to all processes of the learner, as a terminal does."""
  del draw
  return training.resume(training.stop_by(signal.SIGINT))


def lose_the_terminal(training, draw):
  """Sends SIGHUP to all processes of the learner, as a terminal does that is closed."""
  del draw
  return training.resume(training.stop_by(signal.SIGHUP))


def announce_the_end(training, draw):
  """Sends SIGUSR1, as a batch system does some time before it kills."""
  del draw
  return training.resume(training.stop_by(signal.SIGUSR1))


SIGNALS = {
  terminate: signal.SIGTERM,
  interrupt: signal.SIGINT,
  lose_the_terminal: signal.SIGHUP,
  announce_the_end: signal.SIGUSR1,
}


def end_somehow(training, draw):
  """Has the learner end by any signal; returns the frames that it saved, and the fault's name."""
  fault = draw.choice(list(SIGNALS))
  return training.stop_by(SIGNALS[fault]), fault.__name__
