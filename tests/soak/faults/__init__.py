"""Faults that the soak test inflicts on a training, each with what must be true afterwards.

A fault is a function of a `training.Training` and a `random.Random`. It returns a dict of what
there is to report: `frames_lost` and `frames_since_checkpoint`, the most that might have been lost,
in `left` what was left behind, and in `also` the name of another fault that was a part of it.
"""

from tests.soak.faults import commands, files, processes

EVERYWHERE = (
  processes.kill_environments,
  processes.kill_learner,
  processes.kill_while_it_saves,
  *processes.SIGNALS,
  files.corrupt_checkpoint,
  files.damage_a_file,
  files.damage_a_file_it_needs,
  files.fill_disk,
  commands.evaluate_beside,
  commands.sweep_beside,
  commands.population_beside,
  commands.start_a_second_learner,
  commands.give_bad_flags,
)
IN_A_CLUSTER = (processes.kill_actor, processes.stop_actor, commands.start_a_foreign_actor)
