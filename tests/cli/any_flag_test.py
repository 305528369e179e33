"""Every flag of every command with values that it can't have, or that others can't: what is refused
is refused in a few words that name the flag or the value.
"""

import itertools

import pytest

from tests.support import forked

# A command line of each command that is complete, and the flags that only go with another one.
COMPLETE = {
  'impala_tf': ('--level_name=pong', '--logdir=run'),
  'impala_tf.launch': ('--level_name=pong', '--logdir=run'),
  'impala_tf.sweeps': ('--level_name=pong', '--logdir=sweep'),
  'impala_tf.pbt': ('--level_name=pong', '--logdir=population'),
  'impala_tf.paper': ('commands', 'table2', '--logdir=paper'),
  'impala_tf.benchmark': ('train', '--level_name=pong', '--output=rate.json'),
  'impala_tf.curves': ('--logdirs=run', '--output=a.png'),
  'impala_tf.evaluation': ('--baseline=random', '--levels=pong', '--output=evaluation'),
  'impala_tf.evaluation.pretrained': ('--logdir=run', '--name=mine'),
  'atari57.evaluate': ('--baseline=random', '--levels=pong', '--output=evaluation'),
  'atari57.report': ('--output=report',),
  'dmlab30.evaluate': ('--baseline=random', '--output=evaluation'),
  'dmlab30.report': ('--output=report',),
}
VALUES = ('', ' ', '-1', '0', 'nan', 'inf', '-inf', '1e39', '1e-60', '10000000000000000000', 'true')
VALUES += ('none', '\u00fcn\u00ef\u2713', '\udcff', '[]', '{"a": 1}', '../..', 'x' * 5000, '1,,"2')
NUM_VALUES = len(VALUES) if forked.EXHAUSTIVE else 2  # Of each flag, in turn.


def _names(text):
  """Yields the names of a command's flags, as its help has them."""
  for line in text.splitlines():
    word = line.strip().partition(':')[0]
    if word.startswith('--') and word.isascii():
      yield word.removeprefix('--').removeprefix('[no]').partition('=')[0]


# Of absl itself: how it shows help, and looks for faults.
NOT_TRIED = {'pdb', 'pdb_post_mortem', 'profile_file', 'run_with_pdb', 'run_with_profiling'}
NOT_TRIED |= {'use_cprofile_for_profiling', 'only_check_args', 'only_check_flags', 'logger_levels'}


def lines_of(module, names):
  """Yields command lines with each flag, and the words of which a refusal has one."""
  # Each command begins with another value, so that a flag of many has most of them.
  others = itertools.cycle(VALUES)
  for _ in range(list(COMPLETE).index(module)):
    next(others)
  for name in dict.fromkeys(names):
    if name.startswith('help') or name in NOT_TRIED:
      continue
    for value in itertools.islice(others, NUM_VALUES):
      kept = [given for given in COMPLETE[module] if not given.startswith(f'--{name}=')]
      yield (module, *kept, f'--{name}={value}')


@pytest.mark.slow
def test_values_are_refused_by_the_name_of_their_flag(tmp_path):
  complete = [(module, *arguments) for module, arguments in COMPLETE.items()]
  ends = forked.run([*complete, *((module, '--helpfull') for module in COMPLETE)], tmp_path)
  begun = {end.module: end.text for end in ends[: len(complete)]}
  helps = ends[len(complete) :]
  lines = [line for end in helps for line in lines_of(end.module, _names(end.text))]
  assert {module for module, *_ in lines} == set(COMPLETE)
  problems = []
  for end in forked.run(lines, tmp_path):
    name, _, value = end.arguments[-1].removeprefix('--').partition('=')
    # What the flag may be leaves the command at what it lacks besides: a run to read.
    # Blanks may be stripped; and --status says of a folder what it has not.
    words = (name, value[:20].strip() or "''", repr(value), 'it has no ')
    if end.text != begun[end.module] and (problem := end.problem(*words)):
      problems.append(problem)
  assert not problems, '\n'.join(problems[:5])
