"""Population-based training, as in Appendix F of the paper.

    python -m impala_tf.pbt --level_name=atari57 --agent=deep --logdir=runs/population
    python -m impala_tf.pbt --level_name=atari57 --agent=deep --logdir=/shared/pop --member=7
    python -m impala_tf.pbt --level_name=pong --logdir=runs/small --population=4 --time_slice=1800
    python -m impala_tf.pbt report --logdir=runs/small      # into the folder runs/small/report

The first line runs all members on this machine, the second one member of many machines, and the
third all in turn on a small machine. Each member is a run in a folder of its own, member_000 and so
on, and the same command resumes it. Learning rate, entropy cost and epsilon start from the
distributions of --space, the clipping of gradients, where there is one, from the preset's; all four
then change as `impala_tf.pbt.rules` says. Other hyper-parameters are fixed, and given as to
run_experiment.py.
"""

import collections
import functools
import os
import signal
import sys
from collections.abc import Callable

from absl import flags

from impala_tf import cli
from impala_tf.cli import config_flags
from impala_tf.cluster import trainer
from impala_tf.config import ConfigurationError
from impala_tf.pbt import folder
from impala_tf.pbt.population import Population
from impala_tf.pbt.rules import Rules
from impala_tf.reports import live
from impala_tf.sweeps import search_space
from impala_tf.system import machine, processes, signals

# The rest of the package is imported where it is needed: it loads TensorFlow, which takes seconds.


def run(
  path: str,
  population: Population,
  *,
  members: list[int] | None = None,
  time_slice: float | None = None,
  cluster: str | None = None,
) -> int:
  """Starts or resumes members of a population.

  Args:
    path: folder of the population, anything that tf.io.gfile takes; made if missing.
    population: what defines it.
    members: their numbers, None for all.
    time_slice: seconds for which they run in turn, None to run them side by side.
    cluster: how each of them is run, see `trainer`.

  Returns:
    0; 1 if a member failed; or the exit code that says which signal ended them early.

  Raises:
    ConfigurationError: if another population is in the folder.
  """
  folder.define(path, population)
  members = list(range(population.population)) if members is None else members
  if not all(0 <= number < population.population for number in members):
    raise ConfigurationError(
      f'--member={members[0]} must be from 0 to {population.population - 1}.'
    )

  # Side by side each is as large as its share of the machine.
  num_shares = len(members) if time_slice is None else 1
  num_learners = population.given.get('num_learners')
  num_cards = num_learners if isinstance(num_learners, int) else 1
  starts = {
    number: functools.partial(
      processes.RunProcess,
      trainer.module(cluster),
      population.member_arguments(number),
      folder.member_folder(path, number),
      environment=machine.environment_of_share(index % num_shares, num_shares, num_cards),
    )
    for index, number in enumerate(members)
  }
  lines = live.LiveLines()
  with signals.Stop() as stop, processes.Supervisor(stop, show=lines.print) as children:

    def watch():
      running = [number for number in members if _name(number) in children]
      lines.show({_name(number): folder.member_folder(path, number) for number in running})

    if time_slice is None:
      ended_well = run_together(starts, children, watch)
    else:
      ended_well = run_in_turn(starts, children, stop, time_slice, watch)

  return stop.exit_code or int(not ended_well)


def _name(number):
  return f'Member {number}'


def run_together(
  starts: dict, children: processes.Supervisor, watch: Callable[[], None] = lambda: None
) -> bool:
  """Runs members side by side until all have ended, or are to stop.

  Args:
    starts: from the numbers of the members to functions that start them.
    children: supervises the members.
    watch: called again and again.

  Returns:
    Whether none of them failed.
  """
  for number, start in starts.items():
    children.start(_name(number), start)
  return all([_ended_well(ended) for ended in children.ends(watch=watch)])


def run_in_turn(
  starts: dict,
  children: processes.Supervisor,
  stop: signals.Stop,
  seconds: float,
  watch: Callable[[], None] = lambda: None,
) -> bool:
  """Runs members one after the other, each for so many seconds and then again, until all have
  ended, or are to stop.

  Args:
    starts, children, watch: as for `run_together`.
    stop: what the supervisor looks at.
    seconds: of each turn; TensorFlow takes some ten of them to load.

  Returns:
    Whether none of them failed.

  Raises:
    ConfigurationError: if that is too short for a member to begin.
  """
  left = collections.deque(starts.items())
  all_well = True
  while left and not stop:
    number, start = left.popleft()
    children.start(_name(number), start)
    first = children.process(_name(number))
    ended = next(children.ends(seconds, watch), None)

    if ended is None:  # Its time is over, or that of all members.
      was_restarted = children.process(_name(number)) is not first
      (ended,) = children.stop_all()
      if stop:
        break
      # A run that has begun handles the signal, and saves.
      if ended.code == -signal.SIGTERM and not was_restarted:
        raise ConfigurationError(
          f'{ended.name} was stopped before it had begun. '
          f'Give a longer --time_slice than {seconds:g}.'
        )
      if ended.code is None or signals.ended_by_signal(ended.code):
        left.append((number, start))
        continue
    all_well &= _ended_well(ended)

  return all_well


def _ended_well(ended):
  """Returns whether a member did not fail, and prints how it failed if it did."""
  if ended.code != 0:
    print(ended, file=sys.stderr, flush=True)
  return ended.code == 0


def define_flags() -> None:
  """Defines the flags of the command."""
  config_flags.define()
  cli.define_path(
    'logdir', None, 'folder of the population, which all its machines see', required=True
  )
  flags.DEFINE_integer('population', 24, 'number of members (24 in the paper)', lower_bound=1)
  flags.DEFINE_integer(
    'population_seed',
    1,
    'seed of the first hyper-parameters and of what is drawn later; member N trains with --seed '
    'of this plus N',
    lower_bound=0,
  )
  flags.DEFINE_integer(
    'member',
    None,
    'number of the only member to run here, counted from 0; left out, all run',
    lower_bound=0,
  )
  flags.DEFINE_float(
    'time_slice',
    None,
    'seconds for which the members run in turn; left out, all run side by side',
    lower_bound=1,
  )
  flags.DEFINE_multi_string(
    'space',
    None,
    "distribution of a hyper-parameter's first value, as 'field=distribution', or a YAML file of "
    "them; left out, the paper's Table D.1",
  )
  rules = Rules()
  flags.DEFINE_integer(
    'burn_in_frames',
    rules.burn_in_frames,
    'environment frames of a member before it takes part in comparisons and exploration',
  )
  flags.DEFINE_integer(
    'episodes', rules.episodes, 'number of episodes whose returns make an evaluation of a member'
  )
  flags.DEFINE_float(
    'threshold',
    rules.threshold,
    'points of the normalised score (percent, absolute) by which another member must be better to '
    'be copied',
  )
  flags.DEFINE_float(
    'probability',
    rules.probability,
    'probability with which each hyper-parameter changes after an evaluation',
  )
  flags.DEFINE_float(
    'factor', rules.factor, 'factor by which a hyper-parameter that changes grows or shrinks'
  )
  trainer.define_flag()


@cli.report_user_errors(OSError)
def main(argv: list[str]) -> int:
  """Trains, or after the word `report` reports; returns the exit code."""
  wants_report = argv[1:2] == ['report']
  cli.no_positional_arguments(argv[1:] if wants_report else argv)
  values = flags.FLAGS
  if wants_report:
    from impala_tf.pbt import report

    print(report.write(values.logdir, os.path.join(values.logdir, 'report')), end='')
    return 0

  given = config_flags.given_with_level()
  space = search_space.TABLE_D1 if values.space is None else search_space.parse(values.space)
  population = Population(
    population=values.population,
    seed=values.population_seed,
    given=given,
    space=search_space.as_texts(space),
    rules=Rules(
      burn_in_frames=values.burn_in_frames,
      episodes=values.episodes,
      threshold=values.threshold,
      probability=values.probability,
      factor=values.factor,
    ),
  )
  together = population.population if values.member is None and not values.time_slice else 1
  trainer.check(values.cluster, at_a_time=together)
  trainer.check_training(values.cluster, given)
  return run(
    values.logdir,
    population,
    members=None if values.member is None else [values.member],
    time_slice=values.time_slice,
    cluster=values.cluster,
  )


if __name__ == '__main__':
  define_flags()
  cli.run(main, config_flags.parse_flags)
