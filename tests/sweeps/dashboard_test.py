"""The contents of TensorBoard's HParams page, from trials made up."""

import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from impala_tf.sweeps import dashboard, search_space
from impala_tf.sweeps.study import Trial


def trial(state):
  return Trial(1, {'learning_rate': 0.002, 'clip_global_norm': None}, state)


def hparams_of(folder):
  accumulator = event_accumulator.EventAccumulator(str(folder)).Reload()
  content = accumulator.summary_metadata
  plugin = {
    tag: m.plugin_data.content
    for tag, m in content.items()
    if m.plugin_data.plugin_name == 'hparams'
  }
  parsed = {tag: plugin_data_pb2.HParamsPluginData.FromString(data) for tag, data in plugin.items()}
  scalars = {
    tag: tf.make_ndarray(accumulator.Tensors(tag)[-1].tensor_proto).item()
    for tag in content
    if tag not in plugin
  }
  return parsed, scalars


def test_the_page_gets_space_values_state_and_metrics(tmp_path):
  space = search_space.parse(
    [
      'learning_rate=uniform(0,1)',
      'clip_global_norm=categorical(none,40)',
      'batch_size=uniform(1,8)',
    ]
  )
  dashboard.write_space(str(tmp_path), space)
  experiment = hparams_of(tmp_path)[0][metadata.EXPERIMENT_TAG].experiment
  assert [info.name for info in experiment.hparam_infos] == list(space)
  assert [info.name.tag for info in experiment.metric_infos] == [
    'sweep/final_return',
    'sweep/frames',
  ]

  folder = tmp_path / 'trial_001'
  dashboard.write_trial(str(folder), trial('running'), 0, None)
  start, scalars = hparams_of(folder)
  assert set(start) == {metadata.SESSION_START_INFO_TAG}
  assert scalars == {}
  dashboard.write_trial(str(folder), trial('finished'), 900, 5.0)
  parsed, scalars = hparams_of(folder)
  info = parsed[metadata.SESSION_START_INFO_TAG].session_start_info
  assert info.group_name == 'trial_001'
  assert info.hparams['learning_rate'].number_value == 0.002
  assert info.hparams['clip_global_norm'].string_value == 'none'
  assert parsed[metadata.SESSION_END_INFO_TAG].session_end_info.status == api_pb2.STATUS_SUCCESS
  assert scalars == {'sweep/final_return': 5.0, 'sweep/frames': 900.0}
  assert len(list(folder.iterdir())) == 1  # The first state does not stay beside the last.
  for state, status in (('failed', api_pb2.STATUS_FAILURE), ('pruned', api_pb2.STATUS_SUCCESS)):
    dashboard.write_trial(str(folder), trial(state), 900, None)
    parsed, scalars = hparams_of(folder)
    assert parsed[metadata.SESSION_END_INFO_TAG].session_end_info.status == status
    assert scalars == {'sweep/frames': 900.0}
