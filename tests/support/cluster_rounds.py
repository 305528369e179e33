"""What a cluster goes through when its parts are killed, and what must be true afterwards.

python -m tests.support.cluster_rounds 10 rounds      # ten rounds with random times
"""

import os
import pathlib
import random
import re
import signal
import sys
import time

import numpy as np

from tests.support import catch
from tests.support.launched import Launched
from tests.support.run_files import read_episodes, read_scalars_of_all, shared_memory_names

FRAMES = 32_000
_BATCH_FRAMES = catch.CONFIG.batch_size * catch.CONFIG.unroll_length
_EPISODE_FRAMES = catch.ROWS - 1


def run(folder, seed):
  """Launches a learner and three actors, kills an environment, an actor and the learner at times
  drawn from `seed`, and checks.

  Raises:
    AssertionError: if frames, learning rate or episodes are not continuous, or something is left
      behind.
  """
  draw = random.Random(seed)
  shared_memory = shared_memory_names()
  logdir = folder / 'run'
  flags = (
    # Slow, so that every machine is still at it when the last part is killed.
    '--level_name=tests.support.catch:slow_catch',
    f'--total_environment_frames={FRAMES}',
    '--checkpoint_interval=0.5',
    '--summary_interval=0.2',
    '--num_actors=2',
    '--num_actor_processes=3',
  )
  with Launched(folder, *flags) as launched:
    launched.wait_until(
      lambda: list(logdir.glob('ckpt-*.index')) and 'frames/s' in launched.text(), 'training'
    )
    first = launched.pids()
    victims = {
      'environment': draw.choice(launched.environments_of('actor 0')),
      'actor': first['actor 1'],
      'learner': first['learner'],
    }
    for name in draw.sample(list(victims), 3):
      time.sleep(draw.uniform(0.0, 3.0))
      print(f'kill {name}, {_frames(launched)}', flush=True)
      os.kill(victims[name], signal.SIGKILL)

    assert launched.wait(400) == 0, launched.text()
    text = launched.text()
    for name in ('actor 1', 'learner'):
      assert f'[launch] {name} was killed by SIGKILL and is restarted' in text, text
      assert launched.pids()[name] != first[name]
    assert launched.pids()['actor 0'] == first['actor 0']
    assert '[learner] Resuming from frame' in text, text
    assert re.search(r'\[learner\] 32\S*/32\S* frames, .* actors \d', text), text
    launched.wait_until(lambda: not launched.left_over(), 'end of all processes', 20)
  check_continuity(logdir)
  # Other tests may have some for a moment.
  launched.wait_until(lambda: shared_memory_names() <= shared_memory, 'end of shared memory', 20)


def _frames(launched):
  lines = [line for line in launched.text().splitlines() if 'frames/s' in line]
  return lines[-1].split('  ')[0] if lines else 'no frames'


def check_continuity(logdir):
  """Frames, learning rate and episodes of a run must look as if nothing had happened."""
  rates = sorted(read_scalars_of_all(logdir)['learner/learning_rate'])
  assert rates[-1][0] == FRAMES
  for frames, rate in rates:
    # Of the update that ended there, so of the frames before it.
    expected = catch.CONFIG.learning_rate * (1 - (frames - _BATCH_FRAMES) / FRAMES)
    np.testing.assert_allclose(rate, expected, rtol=1e-4, atol=1e-9)
  rows = read_episodes(logdir)
  frames = np.array([int(row['frames']) for row in rows])
  assert (np.diff(frames) >= 0).all()
  assert frames[-1] <= FRAMES
  assert np.diff([0, *frames, FRAMES]).max() <= 10 * _BATCH_FRAMES
  # No episode is counted twice: there can't be more than were played. Those under way when
  # something died are lost.
  assert 0.8 * FRAMES / _EPISODE_FRAMES < len(rows) <= FRAMES / _EPISODE_FRAMES
  assert {row['episode_frames'] for row in rows} == {str(_EPISODE_FRAMES)}


def main(rounds, folder):
  """Goes through so many rounds in folders below `folder`; returns the exit code, 1 if one of them
  failed.
  """
  failed = False
  for number in range(rounds):
    place = folder / str(number)
    place.mkdir(parents=True)
    began = time.monotonic()
    try:
      run(place, seed=number)
      outcome = 'good'
    except AssertionError as error:
      failed, outcome = True, f'FAILED: {error}'
    print(f'round {number}, {time.monotonic() - began:.0f} s: {outcome}', flush=True)
  return int(failed)


if __name__ == '__main__':
  sys.exit(main(int(sys.argv[1]), pathlib.Path(sys.argv[2])))
