"""How many environments a run has, and how old the policies are that it learns from.

The policy lag follows from the number of environments: while one plays an unroll, all others play
one, too, and the learner learns from theirs. What is slower, actors or learner, changes nothing.

    expected_lag(environments=192, unrolls=32)      # 7 updates
    choose(cores=64, levels=57, unrolls=32)         # Sizes(3, 57, 29)
"""

import math
from typing import NamedTuple

# The paper's largest number of actors, each with one environment, and its batch (Section 5.3 and
# Table D.3).
_PAPER_ENVIRONMENTS, _PAPER_BATCH = 210, 32
_STAGED = 1  # batches that wait for the learner, on its device

# Two for each core keep it busy: one steps while another waits for its actions.
_PROCESSES_PER_CORE = 2


class Sizes(NamedTuple):
  """Numbers of actors, of environments of each, and of processes that share those."""

  num_actors: int
  envs_per_actor: int
  processes_per_actor: int


def expected_lag(environments: int, unrolls: int, queued: int = 1) -> float:
  """Returns the mean policy lag of a run in updates: environments / batch size + 1, about.

  Args:
    environments: of all actors together.
    unrolls: new ones in each update, of all learners together.
    queued: how many unrolls may wait in the queue, `Config.queue_capacity`.
  """
  return (environments + queued - 1) / unrolls + _STAGED


# What the paper had at most.
MOST_LAG = expected_lag(_PAPER_ENVIRONMENTS, _PAPER_BATCH)


def most_environments(unrolls: int, queued: int = 1) -> int:
  """Returns for how many environments the expected lag is at most `MOST_LAG`; at least 1.

  Args:
    unrolls, queued: as for `expected_lag`.
  """
  # The rounding is against the noise of floating point.
  return max(1, math.floor(round((MOST_LAG - _STAGED) * unrolls, 6)) + 1 - queued)


def choose(
  cores: int,
  levels: int,
  unrolls: int,
  *,
  most: int | None = None,
  usual_envs_per_actor: int = 16,
  num_actors: int = 0,
  envs_per_actor: int = 0,
  processes_per_actor: int = 0,
) -> Sizes:
  """Chooses those of the sizes that are not given.

  There are as many environments as the cores can use, up to `most`, but at least one for each
  level, and equally many for all levels. With several levels an actor has all of them, in equal
  shares, so that each block of unrolls that it sends has, and so has a batch. Cores beyond are used
  by more processes for each actor.

  Args:
    cores: of the machine.
    levels: how many the run has.
    unrolls: new ones in each update, of all learners together.
    most: environments at most; by default those of the largest lag.
    usual_envs_per_actor: how many share calls of the network, as long as there are that many; 1
      where an environment is as large as a process, and steps too unevenly to wait for others.
    num_actors, envs_per_actor, processes_per_actor: given ones, 0 for those to choose.
  """
  most = max(levels, most_environments(unrolls) if most is None else most)
  wanted = _PROCESSES_PER_CORE * cores * usual_envs_per_actor

  if not envs_per_actor:
    usual = usual_envs_per_actor
    if usual > 1:
      usual = max(levels, usual // levels * levels)
    envs_per_actor = max(1, min(usual, most // max(1, num_actors)))
    if levels <= envs_per_actor:
      envs_per_actor = envs_per_actor // levels * levels
    # Where so few actors are given that the levels would not all be played.
    if num_actors:
      envs_per_actor = max(envs_per_actor, math.ceil(levels / num_actors))

  if not num_actors:
    # With two of them one acts while the other's environments step.
    total = min(max(wanted, 2 * envs_per_actor), most)
    # So many actors together have equally many environments of each level.
    together = levels // math.gcd(levels, envs_per_actor)
    num_actors = max(1, total // envs_per_actor // together) * together

  if not processes_per_actor:
    processes_per_actor = _processes(envs_per_actor, _PROCESSES_PER_CORE * cores / num_actors)

  return Sizes(num_actors, envs_per_actor, processes_per_actor)


def shared_out(whole: Sizes, processes: int, levels: int) -> Sizes:
  """Returns what each of some actor processes has, so that all together have as much as `whole`.

  Each level has an environment, if that takes more, too.

  Args:
    whole: of one process alone.
    processes: how many there are.
    levels: how many the run has.
  """
  actors, environments, _ = whole
  if processes <= actors:
    actors //= processes
    if actors * processes * environments < levels:
      actors += 1
  else:
    environments = max(actors * environments // processes, math.ceil(levels / processes), 1)
    environments -= environments % levels if environments > levels else 0
    actors = 1
  wanted = whole.num_actors * whole.processes_per_actor / (processes * actors)
  return Sizes(actors, environments, _processes(environments, wanted))


def _processes(environments, wanted):
  """Returns how many processes share an actor's environments: about as many as wanted, and no more
  than what the largest one needs for its environments.
  """
  each = min(environments, max(1, round(wanted)))
  return math.ceil(environments / math.ceil(environments / each))
