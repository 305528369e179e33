"""How well a run ended, as one number.

The final return of a run on one level is the mean of its last 100 episodes' unclipped returns in training. A run on several
levels has its suite's score instead, that of the last round in which each level finished an episode.
"""

import os

from impala_tf import atomic_files, episode_log

WINDOW = 100
_SCORE_FILE = 'score.json'


def note_score(logdir, frames, score):
  """Keeps the score of a run on several levels after so many frames, in place of an earlier one."""
  atomic_files.write_json(os.path.join(logdir, _SCORE_FILE), {'frames': int(frames), 'score': float(score)})


def read(logdir, max_frames=None):
  """The final return of a run, or what it would have been had it ended at `max_frames`.

  Args:
    logdir: folder of the run, anything that tf.io.gfile takes.
    max_frames: int, the last frame that counts; None for all. The score of several levels is not known for the past.

  Returns:
    A float, or None if nothing has ended yet.
  """
  rows = episode_log.read(logdir)
  if len({row.level for row in rows}) > 1:
    noted = atomic_files.read_json(os.path.join(logdir, _SCORE_FILE))
    return noted['score'] if noted and (max_frames is None or noted['frames'] <= max_frames) else None
  returns = [row.episode_return for row in rows if max_frames is None or row.frames <= max_frames][-WINDOW:]
  return sum(returns) / len(returns) if returns else None
