"""Command lines in forks of a process that can't load TensorFlow: a process of its own for each
would take seconds, and loading TensorFlow some more.

Tests that generate command lines try some of the values at each place, and all of them, which takes
minutes, with EXHAUSTIVE=1 in the environment.
"""

import base64
import gc
import itertools
import json
import os
import pathlib
import runpy
import subprocess
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tests.support import without_tensorflow
from tests.support.processes import ROOT

EXHAUSTIVE = bool(os.environ.get('EXHAUSTIVE'))

# The exit code of what was about to load TensorFlow, or to start a process: it was not refused.
BEGUN = 77


class End(NamedTuple):
  """The end of a command line: its exit code, and what it printed."""

  module: str
  arguments: tuple[str, ...]
  code: int
  text: str

  def problem(self, *words: str) -> str:
    """What is wrong with the end: a traceback, a refusal that is too long, or one that names none
    of the words; empty if nothing is.
    """
    if self.code in (0, BEGUN) and 'Traceback' not in self.text:
      return ''
    lines = self.text.strip().splitlines()
    if self.code != 1 or 'Traceback' in self.text:
      return f'{self.module} {self.arguments} ended with {self.code}:\n{self.text[-2000:]}'
    if len(lines) > 3 or not any(word in self.text for word in words):
      return f'{self.module} {self.arguments} said:\n{self.text[-2000:]}'
    return ''


def run(
  lines: Iterable[Sequence[str]],
  folder: pathlib.Path,
  contents: Iterable[Mapping[pathlib.Path, bytes]] = (),
) -> list[End]:
  """Runs command lines, each a module and its arguments, in a folder; returns their ends.

  Args:
    lines: the command lines.
    folder: the working directory.
    contents: for each line, what files have in them while it runs; by default what they have.
  """
  lines = [tuple(line) for line in lines]
  by_module: dict[str, list] = {}
  for (module, *arguments), of_line in itertools.zip_longest(lines, contents, fillvalue={}):
    texts = {str(path): base64.b64encode(content).decode() for path, content in of_line.items()}
    by_module.setdefault(module, []).append((arguments, texts))
  outputs = {module: folder / f'.ends_{i}.json' for i, module in enumerate(by_module)}
  work = [(module, of_module, str(outputs[module])) for module, of_module in by_module.items()]
  done = subprocess.run(
    [sys.executable, '-m', 'tests.support.forked'],
    input=json.dumps(work),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    cwd=folder,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    check=False,
  )
  assert done.returncode == 0, done.stdout
  found = {}
  for module, output in outputs.items():
    assert output.exists(), done.stdout
    found[module] = iter(json.loads(output.read_text()))
    output.unlink()
  return [End(module, tuple(rest), *next(found[module])) for module, *rest in lines]


def main(work):
  """Runs each module's command lines; the ends of those of a module go into a file of its own.

  Args:
    work: for each module its name, its command lines with contents in base64, and the file.
  """
  without_tensorflow.refuse(lambda name: os._exit(BEGUN))
  subprocess.Popen.__init__ = lambda *_, **__: os._exit(BEGUN)
  # What commands load when they need it, each once for all of them.
  import ale_py  # noqa: F401
  import cv2  # noqa: F401
  import gymnasium  # noqa: F401
  import matplotlib.figure
  import optuna  # noqa: F401
  import scipy.stats  # noqa: F401

  from impala_tf.environments import suites

  matplotlib.figure.Figure.savefig = lambda *_, **__: None
  suites.registered()
  for module, lines, output in work:
    _fork_for(module, lines, output)


def _fork_for(module, lines, output):
  from impala_tf import cli

  original = cli.run

  def run(main, parse=None):
    ends = []
    for arguments, contents in lines:
      sound = _exchange({path: base64.b64decode(text) for path, text in contents.items()})
      read, write = os.pipe()
      if not os.fork():
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(read)
        sys.argv[1:] = arguments
        _end(lambda: original(main, parse))
      os.close(write)
      with open(read, errors='replace') as file:
        text = file.read()
      ends.append((os.waitstatus_to_exitcode(os.wait()[1]), text))
      _exchange(sound)
    with open(output, 'w') as file:
      json.dump(ends, file)

  gc.freeze()
  # Flags of a module can only be defined once, so each has a fork, too.
  if not os.fork():
    cli.run = run
    runpy.run_module(module, run_name='__main__', alter_sys=True)
    sys.exit()
  os.wait()


def _end(command):
  """Ends the process as a command does, at once: to clean up takes longer than all the rest."""
  code = 1
  try:
    command()
  except SystemExit as end:
    code = end.code if isinstance(end.code, int) else int(bool(end.code))
  except BaseException:
    traceback.print_exc()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def _exchange(contents):
  """Puts contents into files; returns what was in them."""
  before = {}
  for path, content in contents.items():
    with open(path, 'r+b') as file:
      before[path] = file.read()
      file.seek(0)
      file.write(content)
      file.truncate()
  return before


if __name__ == '__main__':
  main(json.load(sys.stdin))
