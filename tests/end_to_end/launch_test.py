"""A cluster on one machine leaves nothing behind.

What it goes through when its parts are killed is in `cluster_test`.
"""

import signal

from tests.support.launched import Launched


def test_a_launcher_that_is_killed_leaves_nothing_behind(tmp_path):
  flags = ('--total_environment_frames=1_000_000_000', '--num_actors=1')
  with Launched(tmp_path, '--level_name=tests.support.catch:catch', *flags) as launched:
    launched.wait_until(lambda: 'frames/s' in launched.text(), 'training')
    launched.process.send_signal(signal.SIGKILL)
    assert launched.wait() == -signal.SIGKILL
    launched.wait_until(lambda: not launched.left_over(), 'end of all processes', 60)
    # Without a word of its starter's the learner saved.
    assert list((tmp_path / 'run').glob('ckpt-*.index'))
