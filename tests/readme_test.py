"""Programs of the READMEs run."""

import re
import subprocess
import sys

from atari57 import suite
from impala_tf.training import export
from tests.support import run_files
from tests.support.processes import ROOT


def test_an_exported_agent_plays_with_plain_gymnasium(tmp_path):
  (program,) = re.findall(
    r'```python\n(.*?)```', (ROOT / 'atari57' / 'README.md').read_text(), re.DOTALL
  )
  settings = suite.SUITE.configure('pong', agent='shallow')
  logdir = run_files.make_run(suite.AtariSuite(), settings, tmp_path / 'runs' / 'pong')
  export.export(suite.AtariSuite(), settings, logdir, f'{logdir}/saved_model')
  done = subprocess.run(
    [sys.executable, '-c', program],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert -21 <= float(done.stdout) <= 21
