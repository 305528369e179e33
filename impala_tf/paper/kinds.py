"""Methods of the paper, and the kinds of experiments that compare them."""

import dataclasses
from typing import Any

from impala_tf.config import ConfigurationError

BATCH_SIZE = 32  # Of A2C and IMPALA, unless the paper says otherwise (Table 1).

WATERMAZE, KEYS_DOORS, LASERTAG, EXPLORE, SEEKAVOID = TASKS = (
  'rooms_watermaze',
  'rooms_keys_doors_puzzle',
  'lasertag_three_opponents_small',
  'explore_goal_locations_small',
  'seekavoid_arena_01',
)


@dataclasses.dataclass(frozen=True)
class Method:
  """A row of a table, a line of a figure.

  Attributes:
    label: as in the paper.
    folder: short name for files.
    given: hyper-parameters by name. They get the actors as well where `environments` is given.
    environments: how many there are in all, the paper's actors; 'batch' stands for one for each new
      unroll of a batch, None for what `given` says.
    group: lines of one picture have the same.
    paper: what the paper found, by level or column.
    trainer: of `Agents`, 'sweep', 'population', or 'experts' for a run on each level.
  """

  label: str
  folder: str
  given: dict[str, Any] = dataclasses.field(default_factory=dict)
  environments: int | str | None = None
  group: str = ''
  paper: dict[str, Any] = dataclasses.field(default_factory=dict)
  trainer: str = 'sweep'

  def hyper_parameters(self, given: dict[str, Any]) -> dict[str, Any]:
    """Returns all that is given to a run.

    Each environment has an actor of its own, as in the paper and as A3C must have it: methods
    that are compared are not to differ by how their environments are hosted. Fewer actors, which
    are cheaper, are to be asked for.

    Args:
      given: what the user asks for; what makes the method goes first. Both --num_actors and
        --envs_per_actor together have another number of environments.

    Raises:
      ConfigurationError: if the method's environments can't be shared out as asked.
    """
    values = {'batch_size': BATCH_SIZE} | given | self.given
    if self.environments is None:
      return values
    if isinstance(self.environments, int):
      environments = self.environments
    else:
      environments = values['batch_size'] * values.get('num_learners', 1)
      if not values.get('replay_beside'):  # Replayed unrolls have no environments.
        environments -= round(environments * values.get('replay_fraction', 0.0))

    if given.get('envs_per_actor'):
      asked = given.get('num_actors', 0) * given['envs_per_actor']
      if asked and (isinstance(self.environments, int) or asked == environments):
        return values
      raise ConfigurationError(
        f'{self.label} has {environments} environments in all: leave --envs_per_actor out, which '
        'follows from --num_actors, or give both for another number of environments.'
      )

    shares = [n for n in range(1, environments + 1) if environments % n == 0]
    actors = given.get('num_actors') or environments
    if actors not in shares:
      raise ConfigurationError(
        f'--num_actors={actors} does not divide the {environments} environments of {self.label}. '
        f'Leave it out, or give one of {", ".join(map(str, shares))}.'
      )

    return values | {'num_actors': actors, 'envs_per_actor': environments // actors}


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A table or figure, of one of the kinds below.

  Attributes:
    name: as on the command line.
    title: for lists and reports.
    methods: its rows or lines.
    levels: names, if none are given.
  """

  name: str
  title: str
  methods: tuple[Method, ...]
  levels: tuple[str, ...] = TASKS


@dataclasses.dataclass(frozen=True)
class Throughput(Experiment):
  """Frames per second of each method, measured by `impala_tf.benchmark`.

  `Method.paper` has the paper's CPUs, GPUs and rates by level.
  """


@dataclasses.dataclass(frozen=True)
class Sweeps(Experiment):
  """Final returns and curves of each method on each level, with the same samples of
  hyper-parameters, by `impala_tf.sweeps`.

  Attributes:
    frames: of each training, in the authors' README; the paper prints none.
    trials: samples of hyper-parameters in the paper.
  """

  frames: int = 1_000_000_000
  trials: int = 24


@dataclasses.dataclass(frozen=True)
class Agents(Experiment):
  """An agent of each method, or experts, for a suite of levels, evaluated as the suite says.

  Attributes:
    suite: name of its package.
    frames: of the training of all levels.
    expert_frames: of that of one level.
    source: of these two numbers.
  """

  suite: str = 'dmlab30'
  frames: int = 10_000_000_000
  expert_frames: int = 1_000_000_000
  source: str = "the authors' README"
