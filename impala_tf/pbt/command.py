"""Population-based training, as in Appendix F of the paper.

    python -m impala_tf.pbt --level_name=atari57 --agent=deep --logdir=runs/population                  # all on this machine
    python -m impala_tf.pbt --level_name=atari57 --agent=deep --logdir=gs://bucket/population --member=7     # one a machine
    python -m impala_tf.pbt --level_name=pong --logdir=runs/small --population=4 --time_slice=1800      # in turn on a small one
    python -m impala_tf.pbt --logdir=runs/small --report

Each member is a run in a folder of its own, member_000 and so on, and goes on where it was when the
same command is given again. Learning rate, entropy cost, epsilon and the clipping of gradients,
where there is one, start from the distributions of
--space and then change as `pbt_rules` says. Other fixed hyper-parameters are given as to
run_experiment.py.
"""

import collections
import functools
import os
import signal
import sys

from absl import flags

from impala_tf import cli, config_flags, processes, signals
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.pbt import pbt_member, pbt_report, pbt_rules
from impala_tf.sweeps import search_space

flags.disclaim_key_flags()  # So that --help of the package shows them.

_ADAPTED = ('learning_rate', 'entropy_cost', 'epsilon', 'clip_global_norm')


def member_arguments(definition, number):
  """The command line of a member, a list of str; `definition` is as for `pbt_member.define`."""
  space = {name: search_space.parse_one(name, form) for name, form in definition['space'].items()}
  initial = search_space.draw(space, number + 1, definition['seed'])[number]
  # Each its own seed: members that copied each other would otherwise play the same episodes.
  own = {'learning_rate_decay': 'none', 'seed': definition['seed'] + number}
  return ['--population_member', *config_flags.arguments(definition['given'] | initial | own)]


def run_together(
  path: str, definition: dict, members: list[int], stop: signals.Stop, runner: str
) -> bool:
  """Runs members side by side until all have ended.

  Args:
    path: folder of the population.
    definition: as for `pbt_member.define`.
    members: their numbers.
    stop: when it is true the members save and end.
    runner: what trains, as for `processes.Child`.

  Returns:
    Whether all of them ended well.
  """
  failed = False
  with processes.Supervisor(stop) as children:
    for number in members:
      children.start(f'Member {number}', _starter(path, definition, number, runner))
    for ended in children.ends():
      failed |= _report_failure(ended)
  return not failed


def run_in_turn(
  path: str, definition: dict, members: list[int], stop: signals.Stop, runner: str, seconds: float
) -> bool:
  """Runs members one after the other, each for so many seconds and then again, until all have
  ended.

  Args:
    path, definition, members, stop, runner: as for `run_together`.
    seconds: of each turn; TensorFlow takes some ten of them to load.

  Returns:
    Whether all of them ended well.

  Raises:
    ConfigurationError: if that is too short for a member to begin.
  """
  left = collections.deque(members)
  failed = False
  with processes.Supervisor(stop) as children:
    while left and not stop:
      number = left.popleft()
      children.start(f'Member {number}', _starter(path, definition, number, runner))
      ended = next(children.ends(seconds), None)
      if ended is None:
        (ended,) = children.stop_all()
        if stop:
          break
        if ended.code == -signal.SIGTERM:  # A run that has begun handles the signal, and saves.
          raise ConfigurationError(
            f'{ended.name} was stopped before it had begun. '
            f'Give a longer --time_slice than {seconds:g}.'
          )
        if ended.code is None or processes.ended_by_signal(ended.code):
          left.append(number)
          continue
      failed |= _report_failure(ended)
  return not failed


def _report_failure(ended):
  """Says how a member failed if it did; returns whether it did."""
  if ended.code == 0:
    return False
  print(ended, file=sys.stderr, flush=True)
  return True


def check(definition):
  """Raises ConfigurationError if the settings of a population, as for `pbt_member.define`, make no
  sense.
  """
  pbt_rules.Rules(**definition['rules'])
  for name, form in definition['space'].items():
    if name not in _ADAPTED:
      raise ConfigurationError(
        f'{name} is not changed by a population, which adapts {", ".join(_ADAPTED)}. Fix --{name}.'
      )
    if None in getattr(search_space.parse_one(name, form), 'choices', ()):
      raise ConfigurationError(
        f'--space={name}={form}: a population multiplies numbers, and none is no number. Leave it out, or fix --{name}.'
      )
  unwanted = sorted(
    definition['given'].keys() & {*definition['space'], 'seed', 'learning_rate_decay'}
  )
  if unwanted:
    raise ConfigurationError(f'--{unwanted[0]} is set by the population itself. Leave it out.')


def run(path, definition, *, members=None, time_slice=None, runner=processes.RUN_EXPERIMENT):
  """Starts members of a population, or lets them go on.

  Args:
    path: folder of the population, anything that tf.io.gfile takes; made if missing.
    definition: as for `pbt_member.define`.
    members: list of int, None for all.
    time_slice: seconds for which they run in turn, None to run them side by side.
    runner: what trains, as for `processes.Child`.

  Returns:
    0; 1 if a member failed; or the exit code that tells which signal ended them early.

  Raises:
    ConfigurationError: if another population is in the folder, or the settings make no sense.
  """
  check(definition)
  pbt_member.define(path, definition)
  members = list(range(definition['population'])) if members is None else members
  if not all(0 <= number < definition['population'] for number in members):
    raise ConfigurationError(
      f'--member={members[0]} is none of 0 to {definition["population"] - 1}.'
    )
  with signals.Stop() as stop:
    if time_slice is None:
      well = run_together(path, definition, members, stop, runner)
    else:
      well = run_in_turn(path, definition, members, stop, runner, time_slice)
  return stop.exit_code or int(not well)


def _starter(path, definition, number, runner):
  """Returns what starts a member's run."""
  folder = pbt_member.member_folder(path, number)
  return functools.partial(
    processes.RunProcess, runner, member_arguments(definition, number), folder
  )


def define_flags():
  """Defines the flags of the command."""
  config_flags.define()
  rules = pbt_rules.Rules()
  flags.DEFINE_string(
    'logdir', None, 'folder of the population, which all its machines see', required=True
  )
  flags.DEFINE_integer('population', 24, 'members', lower_bound=1)
  flags.DEFINE_integer(
    'population_seed', 1, 'of the first hyper-parameters and of what is drawn later', lower_bound=0
  )
  flags.DEFINE_integer(
    'member', None, 'run only this one here, counted from 0; left out, all', lower_bound=0
  )
  flags.DEFINE_float(
    'time_slice',
    None,
    'seconds that each member runs in turn; left out, all run side by side',
    lower_bound=1,
  )
  flags.DEFINE_multi_string(
    'space',
    None,
    "first values, 'field=distribution' or a YAML file; left out, the paper's Table D.1",
  )
  flags.DEFINE_integer(
    'burn_in_frames', rules.burn_in_frames, 'frames of a member before it takes part'
  )
  flags.DEFINE_integer('episodes', rules.episodes, 'returns to collect for an evaluation')
  flags.DEFINE_float(
    'threshold', rules.threshold, 'by how much another must be better to be copied, in percent'
  )
  flags.DEFINE_float(
    'probability', rules.probability, 'with which each hyper-parameter then changes'
  )
  flags.DEFINE_float('factor', rules.factor, 'by which it is multiplied or divided')
  flags.DEFINE_string(
    'runner',
    processes.RUN_EXPERIMENT,
    'module that trains, as after python -m; flags of its own may follow',
  )
  flags.DEFINE_boolean(
    'report',
    False,
    "write the best agent's ancestry and schedule to <logdir>/report, and train nothing",
  )


@cli.report_user_errors(OSError)
def main(argv):
  """Trains or reports as the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  values = flags.FLAGS
  if values.report:
    print(pbt_report.write(values.logdir, os.path.join(values.logdir, 'report')), end='')
    return 0
  given = config_flags.given()
  if 'level_name' not in given:
    raise ConfigurationError(
      '--level_name is missing: name the level to train on, such as --level_name=dmlab30.'
    )
  if values.runner == processes.RUN_EXPERIMENT:
    suites.check(given)
  space = search_space.TABLE_D1 if values.space is None else search_space.parse(values.space)
  definition = {
    'population': values.population,
    'seed': values.population_seed,
    'given': given,
    'space': search_space.as_texts(space),
    'rules': {
      name: values[name].value
      for name in ('burn_in_frames', 'episodes', 'threshold', 'probability', 'factor')
    },
  }
  members = None if values.member is None else [values.member]
  return run(
    values.logdir, definition, members=members, time_slice=values.time_slice, runner=values.runner
  )
