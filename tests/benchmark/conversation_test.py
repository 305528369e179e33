"""What many actors repeat of what one said: the same, but for what must differ between them."""

from tensorflow.core.protobuf import tensorflow_server_pb2

from impala_tf.benchmark import conversation as conversation_lib
from impala_tf.benchmark.conversation import Conversation, Function, _fields, _rewritten, _varint

ID, OTHER = b'\x01\x82\x03\x84\x05\x86\x07\x88', b'another field'
STEP = 2**62 + 12345


def number(field, value):
  return _varint(8 * field) + _varint(value)


def text(field, value):
  return _varint(8 * field + 2) + _varint(len(value)) + value


def fixed(field, value):
  return _varint(8 * field + 1) + value


def make_conversation():
  server = tensorflow_server_pb2.ServerDef(job_name='learner', protocol='grpc')
  for name, task, address in (('actor', 1000, '127.0.0.1:40000'), ('learner', 0, '10.0.0.1:8470')):
    server.cluster.job.add(name=name).tasks[task] = address
  key = b'/job:learner/task:0;1f;/job:actor/task:1000;edge_7;0:0'
  function = Function(
    run=fixed(1, ID) + text(2, number(1, 3) + text(2, b'pull /task:1000/') + number(9, STEP)),
    fetched=(number(1, STEP) + text(2, key) + number(7, 99),),
    given={},
    cleaned_up=fixed(1, ID) + text(3, text(5, number(1, STEP))),
    step=STEP,
  )
  context = text(1, server.SerializeToString()) + text(9, OTHER) + fixed(7, ID)
  registered = fixed(1, ID) + text(3, text(4, b'a function at /task:1000/'))
  return Conversation(1000, context, ID, (registered,), (function,))


def test_messages_are_taken_apart_and_put_together():
  message = number(1, 0) + number(300, 2**63) + text(2, b'') + text(2, 200 * b'x') + fixed(4, ID)
  assert _rewritten(message, lambda field, value: value) == message
  assert _fields(message, 2) == [b'', 200 * b'x']
  assert _fields(message, 300) == [2**63]
  assert _fields(b'\xff', 1) == []


def test_each_connects_under_its_own_name_and_address():
  conversation = make_conversation()
  actors = [
    conversation_lib.Actor(conversation, task, f'127.1.0.{task}:5') for task in (1000, 1234)
  ]
  contexts = [actor.context() for actor in actors]
  for task, context in zip((1000, 1234), contexts, strict=True):
    server = tensorflow_server_pb2.ServerDef.FromString(_fields(context, 1)[0])
    jobs = {job.name: dict(job.tasks) for job in server.cluster.job}
    assert jobs == {'actor': {task: f'127.1.0.{task}:5'}, 'learner': {0: '10.0.0.1:8470'}}
    assert server.job_name == 'learner'
    assert _fields(context, 9) == [OTHER]
  ids = [_fields(context, 7)[0] for context in contexts]
  assert len({ID, *ids}) == 3
  (registered,) = actors[1].registered()
  assert registered == fixed(1, ids[1]) + text(3, text(4, b'a function at /task:1234/'))
  assert actors[1].end() == fixed(1, ids[1])


def test_parts_of_a_run_belong_together_and_runs_do_not():
  conversation = make_conversation()
  actor = conversation_lib.Actor(conversation, 1234, '127.1.0.1:5')
  context_id = _fields(actor.context(), 7)
  steps, requests = [], []
  for count in (1, 2):
    run, (fetched,), clean_up = actor.run(conversation.functions[0])
    assert _fields(run, 1) == _fields(clean_up, 1) == context_id
    (operation,) = _fields(run, 2)
    assert _fields(operation, 1) == [count]
    assert _fields(operation, 2) == [b'pull /task:1234/']
    (step,) = _fields(operation, 9)
    assert _fields(fetched, 1) == [step]
    assert _fields(_fields(_fields(clean_up, 3)[0], 5)[0], 1) == [step]
    assert conversation_lib.edge(fetched) == b'edge_7'
    assert b'task:1234;' in fetched
    steps.append(step)
    requests += _fields(fetched, 7)
  assert len({STEP, *steps}) == 3
  assert len({99, *requests}) == 3
