"""What a soak reports of itself."""

from tests.soak import summary

LOST = {'frames_lost': 160, 'frames_since_checkpoint': 320}


def event(outcome, fault='kill_learner', where='alone', **more):
  return {'where': where, 'fault': fault, 'seconds': 1.0, 'outcome': outcome, **more}


def test_what_was_skipped_is_neither_injected_nor_survived():
  events = [
    event('survived', '(start)'),
    event('skipped', 'fill_disk', detail='no rights'),
    event('survived', **LOST),
  ]
  header, *rows = summary.table(events)
  by_fault = {row[1] or row[0]: dict(zip(header, row, strict=True)) for row in rows}
  assert by_fault['fill_disk']['injected'] == by_fault['fill_disk']['survived'] == '0'
  assert by_fault['fill_disk']['skipped'] == '1'
  assert [
    by_fault['all faults'][name] for name in ('injected', 'survived', 'FAILED', 'skipped')
  ] == ['1', '1', '0', '1']
  assert by_fault['kill_learner']['frames lost, most'] == '160'
  assert 'no rights' in summary.line(events[1])
  assert summary.is_good(events)


def test_what_makes_it_a_failure():
  good = [event('survived', **LOST), event('survived', '(end)', left={})]
  assert summary.is_good(good)
  assert not summary.is_good([*good, event('FAILED', '(end)')])
  assert not summary.is_good([*good, event('survived', left={'threads': 2})])
  assert not summary.is_good([*good, event('survived', **LOST | {'frames_lost': 321})])
  assert not summary.is_good([event('survived', '(start)'), event('skipped')])
  assert not summary.is_good([])
  assert (
    summary.table([event('survived', left={'threads': 2}), event('survived', left={'threads': 1})])[
      -1
    ][-1]
    == '3 threads'
  )


def test_memory_over_time_is_that_of_each_training():
  sizes = {'0_0_alone': [10, 30, 20, 20, 40, 40, 90], '1_0_cluster': [7]}
  events = [event('survived', '(start)', training='0_0_alone', memory=1000)]
  events += [
    event('survived', training=name, memory=size) for name in sizes for size in sizes[name]
  ]
  events.append(event('survived', 'terminate', training='0_0_alone'))  # A part of another fault.
  assert summary.memory(events)[1:] == [
    ['0_0_alone', '7', '20', '40', '90'],
    ['1_0_cluster', '1', '7', '-', '-'],
  ]
