"""What a tree of processes uses, with real processes."""

import subprocess
import sys

from impala_tf.benchmark.process_tree import ProcessTree

BUSY = """
import sys, time
block = bytearray(80 * 2**20)
block[::4096] = b'x' * len(block[::4096])
while time.process_time() < 0.5: pass
print('done', flush=True)
sys.stdin.read()
"""


def test_children_count_and_do_not_vanish_when_they_end():
  tree = ProcessTree()
  before, memory = tree.cpu_seconds(), tree.memory_mebibytes()
  with subprocess.Popen(
    [sys.executable, '-c', BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  ) as child:
    child.stdout.readline()
    during = tree.cpu_seconds()
    assert during - before >= 0.45
    assert tree.memory_mebibytes() - memory > 70
    child.stdin.close()
  assert tree.cpu_seconds() >= during
