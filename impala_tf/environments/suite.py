"""What `impala_tf` needs to know of a suite of levels."""

from typing import Protocol


class Suite(Protocol):
  """What `impala_tf` needs to know of a suite of levels."""

  def check(self, config):
    """Raises `config.ConfigurationError` if the hyper-parameters don't go with the suite."""

  def check_installed(self, config):
    """Raises `config.ConfigurationError` if something is missing that environments need: a module,
    a data set.
    """

  def levels(self, config):
    """The names of the levels that `config.level_name` stands for, a tuple of str."""

  def num_actions(self, config):
    """The number of actions the agent chooses from, an int."""

  def observation_spec(self, config):
    """`structs.Observation` of `structs.ArraySpec`."""

  def make_environment(self, level, seed, is_test, config):
    """A picklable function without arguments that makes an `base.Environment`.

    Args:
      level: str, one of `levels`.
      seed: int below 2**31.
      is_test: whether it serves an evaluation.
      config: the run's `config.Config`.
    """

  def make_agent(self, config):
    """An `agents.Agent` whose variables are yet to be made."""

  def scores(self, level_returns):
    """How well an agent does on all the levels together.

    Args:
      level_returns: a dict from the name of each level to a list of returns, one at least.

    Returns:
      A dict from names, as TensorBoard shall show them, to floats; empty if the suite has no such
      score.
    """

  def fitness(self, level_returns):
    """By what the members of a population are compared.

    Args:
      level_returns: as for `scores`.

    Returns:
      The mean over the levels of their human-normalised scores in percent, each capped at 100;
      where there are no references the mean return, in its own unit.
    """
