"""The section of a configuration that is about the machine."""

import dataclasses

from impala_tf.config.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
  """Options that are about the machine, and do not change what is learned."""

  jit_compile: bool = option(
    "whether XLA compiles the learner's update, for graphics cards", default=False, runtime=True
  )
  # A suite fills in what is 0, see `Suite.with_sizes` and `sizes`.
  num_actors: int = option(
    'actors, each a thread that acts for some environments; 0 for as many as the cores can use '
    'with a policy lag of at most about 7 updates; paper: 150 to 210, of one environment each',
    default=0,
    minimum=0,
    runtime=True,
  )
  # Sharing their actor's calls of the network makes a step much cheaper up to about 16.
  envs_per_actor: int = option(
    'environments of each actor, which share calls of the network, and among which the levels are '
    'dealt out; 0 for 16 (one for each of more levels than that, 1 on DMLab-30), or fewer if the '
    'policy lag asks for it; paper: 1',
    default=0,
    minimum=0,
    runtime=True,
  )
  processes_per_actor: int = option(
    "processes that share an actor's environments and step at the same time; 0 for as many as the "
    'cores can use',
    default=0,
    minimum=0,
    runtime=True,
  )
  # As in the authors' code: what waits in a longer queue was made by an older policy.
  queue_capacity: int = option(
    "finished unrolls that may wait for the learner; 1 in the authors' code",
    default=1,
    minimum=1,
    runtime=True,
  )
  checkpoint_interval: float = option(
    'seconds between checkpoints', default=300.0, above=0, runtime=True
  )
  summary_interval: float = option(
    'seconds between summaries for TensorBoard', default=30.0, above=0, runtime=True
  )
  track: str = option(
    'service that gets the numbers of the run beside TensorBoard: wandb (Weights & Biases; '
    'WANDB_MODE=offline keeps them here), or none',
    default='none',
    choices=('none', 'wandb'),
    runtime=True,
  )

  inference: str = option(
    'who runs the network for acting: each actor (own), or one batch for all that wait (shared); '
    'auto is shared on a graphics card, in one process, with impala or a2c_sync_trajectories',
    default='auto',
    choices=('auto', 'own', 'shared'),
    runtime=True,
  )
  inference_maximum_batch: int = option(
    'largest number of observations in a batch of shared inference',
    default=1024,
    minimum=1,
    runtime=True,
  )
  # At the end of a run actors may wait that long, too.
  inference_timeout_ms: float = option(
    'milliseconds for which a batch of shared inference waits for more observations; 0 takes those '
    'that are there',
    default=0.0,
    minimum=0,
    maximum=10_000,
    runtime=True,
  )
  hang_warning: float = option(
    'seconds after which a process of environments of which none finishes its step is named in a '
    'warning, and in a cluster a level of which no unrolls come',
    default=120.0,
    above=0,
    runtime=True,
  )
  hang_timeout: float = option(
    'seconds after which a process of environments of which none finishes its step is killed and '
    'restarted; constructors and first resets may take five times as long',
    default=600.0,
    above=0,
    runtime=True,
  )
