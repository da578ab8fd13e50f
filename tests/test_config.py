"""SleepConfig refuses what cannot be meant, says how long the k-th sleep is, and goes through JSON unharmed."""

import dataclasses
import json
import math

import pytest

from src_plugin import SRCError
from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError

NAN, INF = math.nan, math.inf

REFUSED = {
    "steps": [-1, 1.5, True, None, "800", (), (3, -1), (3, 1.5), NAN],
    "steps_growth": [-1, 0.5, True, None],
    "input_spikes": [0, -1.0, NAN, INF, None, "32", True],
    "max_rate": [0, -1.0, NAN, INF, "64", True],
    "dt": [0, -0.001, NAN, INF, None],
    "patch": [0, -3, 2.5, True, "11"],
    "decay": [0, -0.1, 1.01, NAN, INF, None, "0.9"],
    "gate_width": [0, -0.001, NAN, INF, "none"],
    "inhibition": [-0.1, NAN, INF, None],
    "gain": [0, -1.0, NAN, INF, None],
    "thresholds": [(), 1.0, (-0.1,), (1.0, NAN), (1.0, None), "abc"],
    "target_rates": [(0.1, 0.1), 0.1, None, (0.0, 0.1, 0.1), (0.1, 1.0, 0.1), (0.1, 0.1, NAN), (0.1,) * 4],
    "inc": [-0.1, NAN, INF, (), (0.1, -0.1), (0.1, None), "0.1", True],
    "dec": [-0.1, NAN, INF, (), (0.1, -0.1), (0.1, None), "0.1", True],
    "potentiation": [0.1, None, (0.1, 0.1), (0.1, 0.1, -0.1), (0.1, 0.1, INF)],
    "depression": [0.1, None, (0.1, 0.1), (0.1, 0.1, -0.1), (0.1, 0.1, INF)],
    "depth": [-0.1, NAN, INF, "deep", True],
    "normalise": [1, 0, None, "yes"],
    "replay": [1, None],
    "settle": [1, None],
    "level": [1, None],
    "rehearsal_gate": [1, None],
    "balance_gate": [1, None],
    "first_gate": [1, None],
    "new_classes_gate": [1, None],
    "hidden_gate": [0, "off"],
}

ACCEPTED = {
    "no sleep": {"steps": 0},
    "a first night awake": {"steps": (0, 30000)},
    "no leak": {"decay": 1},
    "nothing moves": {"depth": 0, "inc": 0, "dec": (0, 0.0)},
    "thresholds that fire in silence, and never": {"thresholds": (0, INF)},
    "whole numbers for real ones": {"gain": 2, "dt": 1, "input_spikes": 5, "max_rate": 64},
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_a_value_that_cannot_be_meant_is_refused_by_field_and_value(name, value):
    with pytest.raises(ConfigError) as refusal:
        SleepConfig(**{name: value})
    assert f"{name}={value!r}" in str(refusal.value)
    assert f"{name} must be" in str(refusal.value)


def test_every_field_has_a_refusal():
    assert set(REFUSED) == {field.name for field in dataclasses.fields(SleepConfig)}


def test_truth_values_are_no_thresholds():
    with pytest.raises(ConfigError, match="thresholds must be"):
        SleepConfig(thresholds=(True, False))


@pytest.mark.parametrize("settings", ACCEPTED.values(), ids=ACCEPTED)
def test_the_edge_of_what_can_be_meant_is_accepted(settings):
    config = SleepConfig(**settings)
    assert {name: getattr(config, name) for name in settings} == settings


def test_a_refusal_is_a_value_error_and_one_of_ours():
    # `except ValueError` of code that knows nothing of this library keeps working.
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, SRCError)


def test_a_config_cannot_be_changed_and_can_be_a_key():
    config = SleepConfig(steps=[1, 2], inc=[0.1])
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.steps = 3
    assert {config: "found"}[SleepConfig(steps=(1, 2), inc=(0.1,))] == "found"


def test_lists_become_tuples():
    # YAML and JSON have no tuples.
    lists = {"steps": [5, 6], "thresholds": [1.0], "target_rates": [0.1] * 3, "inc": [0.1], "dec": [0.2]}
    config = SleepConfig(**lists, potentiation=[0.1] * 3, depression=[0.1] * 3)
    for name in (*lists, "potentiation", "depression"):
        assert isinstance(getattr(config, name), tuple), name


CONFIGS = {
    "auto": SleepConfig(),
    "tuples": SleepConfig(steps=(1, 2), thresholds=(1.0, 2.0), inc=(0.1, 0.2), dec=(0.3, 0.4), target_rates=(0.1,) * 3),
    "numbers": SleepConfig(steps_growth=3, max_rate=64.0, patch=11, gate_width=0.001, inc=0.1, dec=0.2, normalise=True),
    "all off": SleepConfig(
        replay=False, settle=False, level=False, rehearsal_gate=False, balance_gate=False, first_gate=False
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_config_comes_back_from_json_as_it_went(config):
    assert SleepConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_to_dict_names_every_field():
    assert set(SleepConfig().to_dict()) == {field.name for field in dataclasses.fields(SleepConfig)}


@pytest.mark.parametrize(
    ("key", "nearest"), [("stepz", "steps"), ("threshold", "thresholds"), ("rehersal_gate", "rehearsal_gate")]
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(key, nearest):
    with pytest.raises(ConfigError, match=f"{key!r}; did you mean '{nearest}'"):
        SleepConfig.from_dict({key: 1})
    with pytest.raises(ConfigError, match=f"{key!r}; did you mean '{nearest}'"):
        SleepConfig.preset("src_only", **{key: 1})


def test_a_key_that_is_near_nothing_is_answered_with_all_that_is_known():
    with pytest.raises(ConfigError, match=r"'qqqqqq'; known: balance_gate, .*thresholds"):
        SleepConfig.from_dict({"qqqqqq": 1})


def test_a_key_that_is_not_text_is_refused_too():
    with pytest.raises(ConfigError, match="unknown SleepConfig field 1"):
        SleepConfig.from_dict({1: 2})


LENGTHS = {
    # k-th sleep from 0: steps + k * growth
    "constant": (SleepConfig(steps=7), [7, 7, 7, 7]),
    "growing": (SleepConfig(steps=15000, steps_growth=5000), [15000, 20000, 25000, 30000]),
    "a tuple, its last from then on": (SleepConfig(steps=(3, 5)), [3, 5, 5, 5]),
    "a growing tuple": (SleepConfig(steps=(3, 5), steps_growth=10), [3, 15, 25, 35]),
    "no sleep does not grow into one": (SleepConfig(steps=0, steps_growth=10), [0, 0, 0, 0]),
    "nor does a first night awake": (SleepConfig(steps=(0, 5), steps_growth=10), [0, 15, 25, 35]),
}


@pytest.mark.parametrize(("config", "lengths"), LENGTHS.values(), ids=LENGTHS)
def test_length_of_the_kth_sleep(config, lengths):
    assert [config.steps_at(k) for k in range(4)] == lengths


OFF = {
    "zero steps": ({"steps": 0}, True),
    "zero steps, each": ({"steps": (0, 0), "steps_growth": 10}, True),
    "zero steps at first": ({"steps": (0, 5)}, False),
    "every stage": ({"replay": False, "settle": False, "level": False}, True),
    "all but levelling": ({"replay": False, "settle": False}, False),
    "all but replay": ({"settle": False, "level": False}, False),
    "nothing": ({}, False),
}


@pytest.mark.parametrize(("settings", "is_off"), OFF.values(), ids=OFF)
def test_a_config_is_off_if_no_sleep_can_change_anything(settings, is_off):
    assert SleepConfig(**settings).is_off is is_off


def test_a_sleep_is_pure_if_nothing_settles_or_levels():
    assert SleepConfig(settle=False, level=False).is_pure
    assert not SleepConfig(settle=True, level=False).is_pure
    assert not SleepConfig(settle=False, level=True).is_pure
