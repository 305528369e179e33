"""Settings of runs that are other than the paper's are shown, all of them."""

import dataclasses

import pytest

from impala_tf.environments import suites
from impala_tf.paper.deviations import Deviations
from impala_tf.paper.experiments import EXPERIMENTS
from impala_tf.sweeps import search_space
from impala_tf.sweeps.definition import Sweep

METHOD = EXPERIMENTS['table1'].methods[5]
CONFIG = suites.resolve('pong', **METHOD.hyper_parameters({}))[1]
NOT_COMPARED = {'level_name', 'total_environment_frames', 'seed'}
COMPARED = sorted({*CONFIG.learning_fields()} - NOT_COMPARED)


def deviations(**changes):
  """What is said of a run of IMPALA with 48 actors with these settings."""
  found = Deviations()
  found.add(METHOD, 'pong', dataclasses.asdict(CONFIG) | changes)
  return found.text()


@pytest.mark.parametrize('together', [False, True])
def test_each_setting_that_differs_is_shown(together):
  expected = {name: f'{name} other, not {getattr(CONFIG, name)}' for name in COMPARED}
  assert len(expected) > 20
  if together:
    text = deviations(**dict.fromkeys(COMPARED, 'other'))
    assert all(part in text for part in expected.values())
    return
  for name, part in expected.items():
    text = deviations(**{name: 'other'})
    assert part in text
    assert text.count(', not ') == 1


def test_numbers_of_environments_are_shown():
  assert METHOD.label == 'IMPALA, 48 actors'
  text = deviations(num_actors=3, envs_per_actor=5)
  assert 'environments of a process 15, not 48' in text
  assert 'environments of an actor 5, not 1' in text


def test_what_is_as_in_the_paper_and_what_no_paper_has_is_not_shown():
  assert ', not ' not in deviations(seed=7, total_environment_frames=9)


def test_what_the_paper_drew_and_a_sweep_did_not_is_shown():
  found = Deviations()
  space = search_space.parse(['seed=uniform(1,9)', 'epsilon=categorical(0.1,0.2)'])
  found.add_sweep(METHOD, 'pong', Sweep({'learning_rate': 0.006}, space))
  assert 'learning_rate 0.006, not drawn' in found.text()
  assert f'entropy_cost {CONFIG.entropy_cost}, not drawn' in found.text()
  assert 'epsilon 0' not in found.text()


def test_a_run_whose_suite_is_not_installed_is_not_said_to_be_as_in_the_paper():
  found = Deviations()
  found.add(METHOD, 'no_such_package.suite:level', dataclasses.asdict(CONFIG))
  assert found.text() == ''


def test_methods_that_share_settings_are_named_once_a_whole_group_by_its_name():
  methods = EXPERIMENTS['figureE1'].methods
  assert len({method.group for method in methods}) > 1
  found = Deviations()
  for method in methods:
    _, config = suites.resolve('pong', **method.hyper_parameters({}))
    changes = {'entropy_cost': 9.0}
    if method.group == methods[0].group:
      changes |= {'discounting': 0.5, 'baseline_cost': 8.0}
    if method is methods[-1]:
      changes |= {'reward_scale': 2.0}
    found.add(method, 'pong', dataclasses.asdict(config) | changes)
  of_all, of_group, of_one = found.text().split('. Settings of ')
  assert of_all == f"Settings other than the paper's: entropy_cost 9.0, not {config.entropy_cost}"
  assert of_group.startswith(f'"{methods[0].group}" other')
  assert 'discounting 0.5' in of_group
  assert 'baseline_cost 8.0' in of_group
  assert of_one.startswith(f'{methods[-1].label} ({methods[-1].group}) other')
  assert 'reward_scale 2.0' in of_one
