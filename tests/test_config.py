"""SleepConfig refuses what cannot be meant, says how long the k-th sleep is, and goes through JSON unharmed."""

import dataclasses
import json
import math

import pytest

from src_plugin import SRCError
from src_plugin.config import (
    ClosedForm,
    Constants,
    Gates,
    Measuring,
    Simulation,
    SleepConfig,
    flat_names,
    simulation_only,
)
from src_plugin.errors import ConfigError

NAN, INF = math.nan, math.inf
SIMULATED = {"engine": "simulated"}

REFUSED = {
    "steps": [-1, 1.5, True, None, "800", (), (3, -1), (3, 1.5), NAN],
    "steps_growth": [-1, 0.5, True, None],
    "input_spikes": [0, -1.0, NAN, INF, None, "32", True],
    "input_share": [0, -0.5, 1.01, NAN, INF, None, "1/24", True],
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
    "potentiation": [0.1, None, (0.1, 0.1), (0.1, 0.1, -0.1), (0.1, 0.1, INF), (0.1,) * 4],
    "depression": [0.1, None, (0.1, 0.1), (0.1, 0.1, -0.1), (0.1, 0.1, INF), (0.1,) * 4],
    "depth": [-0.1, NAN, INF, "deep", True],
    "normalise": [1, 0, None, "yes"],
    "first_gate": [1, None],
    "measuring": [1, None],
}

REFUSED_AT_THE_TOP = {
    "replay": [1, None],
    "settle": [1, None],
    "level": [1, None],
    "constants": [1, None],
    "fractions": [(0.6, 0.2)],
}

OBJECTS = {  # kind, field, values that cannot be meant
    "depth of a closed form": (ClosedForm, "depth", [-0.1, NAN, True]),
    "fractions": (ClosedForm, "fractions", [0.6, None, (0.6, 0.2), (0.6, 0.2, -0.1), (1.1, 0.0, 0.0)]),
    "depression of a closed form": (ClosedForm, "depression", [0.1, None, (0.1, 0.1)]),
    **{f"gate {name}": (Gates, name, [1, None, "off"]) for name in ("rehearsal", "balance", "new_classes", "hidden")},
    "vectors": (Constants, "noise_vectors", [0, 1, 127, 128.0, None]),
    "rounds": (Constants, "level_rounds", [0, 1.5]),
    "step": (Constants, "settle_step", [0, 1.1]),
    "spread": (Constants, "noise_spread", [0, -1.0]),
    "gain of a judge": (Constants, "judge_gain", [-0.1, NAN]),
    "steps of a threshold": (Measuring, "threshold_steps", [0, 2.5]),
    "shares of a first sleep": (Measuring, "first_shares", [(), 0.5, (-0.1,)]),
    "kept of a first sleep": (Measuring, "first_kept", [0, 1.1]),
    "depth per variation": (Measuring, "depth_per_variation", [-0.1, None]),
}

CHOICES = {  # field -> a slip, and what was meant
    "engine": ("closed-form", "closed_form"),
    "noise": ("gausian", "gaussian"),
    "prior": ("count", "counts"),
    "keep": ("class_mean", "class_means"),
}

ACCEPTED = {
    "no sleep": {**SIMULATED, "steps": 0},
    "nothing is taken": {"fractions": (0, 0.0, 0)},
    "all is taken": {"fractions": (1, 1.0, 1)},
    "nothing is depressed": {"depth": 0.25, "depression": (0, 0.0, 0)},
    "a depth of nothing": {"depth": 0},
    "a first night awake": {**SIMULATED, "steps": (0, 30000)},
    "no leak": {**SIMULATED, "decay": 1},
    "as many spikes as inputs": {**SIMULATED, "input_share": 1},
    "nothing moves": {**SIMULATED, "depth": 0, "inc": 0, "dec": (0, 0.0)},
    "thresholds that fire in silence, and never": {**SIMULATED, "thresholds": (0, INF)},
    "whole numbers for real ones": {**SIMULATED, "gain": 2, "dt": 1, "input_spikes": 5, "max_rate": 64},
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_a_value_that_cannot_be_meant_is_refused_by_field_and_value(name, value):
    with pytest.raises(ConfigError) as refusal:
        SleepConfig.preset("simulated", **{name: value})
    assert f"Simulation({name}={value!r}): {name} must be" in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"), [(n, value) for n, values in REFUSED_AT_THE_TOP.items() for value in values]
)
def test_a_value_at_the_top_that_cannot_be_meant_is_refused(name, value):
    with pytest.raises(ConfigError) as refusal:
        SleepConfig.preset("auto", **{name: value})
    assert f"{'ClosedForm' if name == 'fractions' else 'SleepConfig'}({name}={value!r})" in str(refusal.value)


@pytest.mark.parametrize(("kind", "name", "values"), OBJECTS.values(), ids=OBJECTS)
def test_a_part_refuses_what_cannot_be_meant_by_its_own_name(kind, name, values):
    for value in values:
        with pytest.raises(ConfigError) as refusal:
            kind(**{name: value})
        assert f"{kind.__name__}({name}={value!r}): {name} must be" in str(refusal.value)


@pytest.mark.parametrize("value", ["closed_form", {}, True])
@pytest.mark.parametrize("name", ["sleep", "gates", "constants"])
def test_a_part_is_an_object_and_nothing_else(name, value):
    with pytest.raises(ConfigError, match=rf"SleepConfig\({name}="):
        SleepConfig(**{name: value})


def test_every_flat_setting_has_a_refusal():
    gates = {f"{gate.name}_gate" for gate in dataclasses.fields(Gates)}
    assert {*REFUSED, *REFUSED_AT_THE_TOP, *CHOICES} | gates == set(flat_names())


def test_there_are_at_most_eight_fields_at_the_top():
    assert len(dataclasses.fields(SleepConfig)) <= 8


def test_parts_of_the_constants_may_be_given_flat_and_an_unknown_one_is_refused():
    assert SleepConfig.from_dict({"constants": {"noise_vectors": 64}}).constants == Constants(noise_vectors=64)
    simulated = SleepConfig.preset("simulated", measuring={"threshold_steps": 9})
    assert simulated.simulation.measuring == Measuring(threshold_steps=9)
    for key, kind in (("constants", "Constants"), ("measuring", "Measuring")):
        with pytest.raises(ConfigError, match=f"unknown {kind} field 'zzz'"):
            SleepConfig.preset("simulated", **{key: {"zzz": 1}})


def test_a_sleep_in_closed_form_has_no_simulation_to_ask_for():
    with pytest.raises(ConfigError, match=r"simulates no sleep; give Simulation\(\)"):
        _ = SleepConfig().simulation


@pytest.mark.parametrize(("name", "slip", "meant"), [(name, *both) for name, both in CHOICES.items()])
def test_an_unknown_word_is_refused_with_the_nearest_known_one(name, slip, meant):
    with pytest.raises(ConfigError, match=rf"SleepConfig\({name}='{slip}'\): unknown {name}; did you mean '{meant}'"):
        SleepConfig.preset("auto", **{name: slip})


@pytest.mark.parametrize("value", [None, 1, "zzz"])
@pytest.mark.parametrize("name", CHOICES)
def test_a_word_that_is_near_nothing_is_answered_with_all_that_are_known(name, value):
    with pytest.raises(ConfigError, match=f"unknown {name}; known: .*{CHOICES[name][1]}"):
        SleepConfig.preset("auto", **{name: value})


def test_what_is_known_is_said_once():
    with pytest.raises(ConfigError) as refusal:
        SleepConfig.preset("auto", engine="zzz")
    assert str(refusal.value).count("known: ") == 1


# A value of each field that only a simulation reads, other than its default.
IDLE = {
    "steps": 60, "steps_growth": 100, "input_spikes": 16.0, "input_share": 1.0, "max_rate": 64.0, "dt": 0.002,
    "patch": 11, "decay": 0.9, "gate_width": 0.001, "inhibition": 0.5, "gain": 2.0, "normalise": True,
    "thresholds": (1.0,), "target_rates": (0.1, 0.1, 0.1), "inc": 0.1, "dec": 0.1, "potentiation": (0.0, 0.0, 0.0),
    "measuring": Measuring(threshold_steps=9),
}  # fmt: skip


def test_every_field_of_a_simulation_has_a_value_here():
    assert set(IDLE) == set(simulation_only())


@pytest.mark.parametrize(("name", "value"), IDLE.items())
def test_what_only_a_simulation_reads_is_refused_without_one(name, value):
    with pytest.raises(ConfigError) as refusal:
        SleepConfig.preset("auto", **{name: value})
    said = f"SleepConfig({name}={value!r}): only a simulated sleep reads {name}; add engine='simulated'"
    assert str(refusal.value) == said
    assert getattr(SleepConfig.preset("simulated", **{name: value}).sleep, name) == value


@pytest.mark.parametrize("engine", ["closed_form", "simulated"])
def test_both_engines_read_the_depth_of_a_simulated_sleep(engine):
    sleep = SleepConfig.preset("auto", engine=engine, depth=0.5, depression=(0.1, 0.2, 0.3)).sleep
    assert (sleep.depth, sleep.depression) == (0.5, (0.1, 0.2, 0.3))


NEVER_READ = {
    "fractions of a simulation": {"engine": "simulated", "fractions": (0.5, 0.1, 0.0)},
    "fractions beside a depth": {"fractions": (0.5, 0.1, 0.0), "depth": 0.25},
    "depression without a depth": {"depression": (0.1, 0.2, 0.3)},
}


@pytest.mark.parametrize("settings", NEVER_READ.values(), ids=NEVER_READ)
def test_a_number_that_nothing_would_read_is_refused(settings):
    with pytest.raises(ConfigError, match=r"reads fractions|give one of the two|only a depth reads it"):
        SleepConfig.preset("auto", **settings)


def test_what_only_a_simulation_reads_may_be_named_if_it_is_as_it_would_be():
    # A record holds all fields, and is read again.
    usual = Simulation()
    assert SleepConfig.preset("auto", **{name: getattr(usual, name) for name in simulation_only()}) == SleepConfig()


def test_truth_values_are_no_thresholds():
    with pytest.raises(ConfigError, match="thresholds must be"):
        SleepConfig.preset("simulated", thresholds=(True, False))


@pytest.mark.parametrize("settings", ACCEPTED.values(), ids=ACCEPTED)
def test_the_edge_of_what_can_be_meant_is_accepted(settings):
    sleep = SleepConfig.preset("auto", **settings).sleep
    given = {name: value for name, value in settings.items() if name != "engine"}
    assert {name: getattr(sleep, name) for name in given} == given


def test_a_refusal_is_a_value_error_and_one_of_ours():
    # `except ValueError` of code that knows nothing of this library keeps working.
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, SRCError)


def test_a_config_cannot_be_changed_and_can_be_a_key():
    config = SleepConfig.preset("auto", fractions=[0.1] * 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.settle = False
    assert {config: "found"}[SleepConfig.preset("auto", fractions=(0.1,) * 3)] == "found"


def test_lists_become_tuples():
    # YAML and JSON have no tuples.
    lists = {"steps": [5, 6], "thresholds": [1.0], "target_rates": [0.1] * 3, "inc": [0.1], "dec": [0.2]}
    triples = dict.fromkeys(("potentiation", "depression"), [0.1] * 3)
    config = SleepConfig.preset("auto", **SIMULATED, **lists, **triples)
    for name in (*lists, *triples):
        assert isinstance(getattr(config.sleep, name), tuple), name


CONFIGS = {
    "auto": SleepConfig(),
    "words": SleepConfig.preset("auto", engine="simulated", noise="binary", prior="equal"),
    "tuples": SleepConfig.preset(
        "auto",
        **SIMULATED,
        steps=(1, 2),
        thresholds=(1.0, 2.0),
        inc=(0.1, 0.2),
        dec=(0.3, 0.4),
        target_rates=(0.1,) * 3,
    ),
    "numbers": SleepConfig.preset(
        "auto", **SIMULATED, steps_growth=3, max_rate=64.0, patch=11, gate_width=0.001, inc=0.1, dec=0.2, normalise=True
    ),
    "all off": SleepConfig.preset(
        "auto", replay=False, settle=False, level=False, rehearsal_gate=False, balance_gate=False, first_gate=False
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_config_comes_back_from_json_as_it_went(config):
    assert SleepConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_to_dict_names_every_field():
    # But for constants and measuring, which are told where they are not those of the default.
    assert set(SleepConfig().to_dict()) == {*flat_names()} - {"constants", "measuring"}
    config = SleepConfig.preset("simulated", constants=Constants(level_rounds=9), measuring=Measuring(first_kept=0.5))
    assert set(config.to_dict()) == {*flat_names()}
    assert SleepConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_change_by_flat_names_leaves_all_else():
    config = SleepConfig(sleep=ClosedForm(depth=0.5), gates=Gates(balance=False), prior="equal")
    assert config.changed(settle=False) == dataclasses.replace(config, settle=False)
    assert config.changed(hidden_gate=False).gates == Gates(balance=False, hidden=False)
    assert config.changed(replay=False) == dataclasses.replace(config, sleep=None)
    # What was the default of one engine is that of the other.
    assert SleepConfig().changed(engine="simulated") == SleepConfig(sleep=Simulation())


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
    "constant": (SleepConfig.preset("simulated", steps=7), [7, 7, 7, 7]),
    "growing": (SleepConfig.preset("auto", **SIMULATED, steps=15000, steps_growth=5000), [15000, 20000, 25000, 30000]),
    "a tuple, its last from then on": (SleepConfig.preset("simulated", steps=(3, 5)), [3, 5, 5, 5]),
    "a growing tuple": (SleepConfig.preset("auto", **SIMULATED, steps=(3, 5), steps_growth=10), [3, 15, 25, 35]),
    "no sleep does not grow into one": (
        SleepConfig.preset("auto", **SIMULATED, steps=0, steps_growth=10),
        [0, 0, 0, 0],
    ),
    "nor does a first night awake": (
        SleepConfig.preset("auto", **SIMULATED, steps=(0, 5), steps_growth=10),
        [0, 15, 25, 35],
    ),
}


@pytest.mark.parametrize(("config", "lengths"), LENGTHS.values(), ids=LENGTHS)
def test_length_of_the_kth_sleep(config, lengths):
    assert [config.simulation.steps_at(k) for k in range(4)] == lengths
    assert [config.why_off(k) for k in range(4)] == [None if length else "zero steps" for length in lengths]


OFF = {
    "zero steps": ({"steps": 0}, True),
    "zero steps, each": ({**SIMULATED, "steps": (0, 0), "steps_growth": 10}, True),
    "zero steps at first": ({**SIMULATED, "steps": (0, 5)}, False),
    "every stage": ({"replay": False, "settle": False, "level": False}, True),
    "all but levelling": ({"replay": False, "settle": False}, False),
    "all but replay": ({"settle": False, "level": False}, False),
    "nothing": ({}, False),
}


@pytest.mark.parametrize(("settings", "is_off"), OFF.values(), ids=OFF)
def test_a_config_is_off_if_no_sleep_can_change_anything(settings, is_off):
    assert SleepConfig.preset("auto", **settings).is_off is is_off


def test_a_sleep_is_pure_if_nothing_settles_or_levels():
    assert SleepConfig(settle=False, level=False).is_pure
    assert not SleepConfig(settle=True, level=False).is_pure
    assert not SleepConfig(settle=False, level=True).is_pure


def test_a_config_simulates_if_it_is_told_to_and_has_a_sleep_at_all():
    assert SleepConfig.preset("auto", engine="simulated").simulates
    assert not SleepConfig.preset("auto", engine="simulated", replay=False).simulates
    assert not SleepConfig().simulates
