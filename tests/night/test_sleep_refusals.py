"""sleep(): bad input is refused before anything changes."""

import numpy as np
import pytest
import torch
from torch import nn

from models import changed, copies, mlp
from sleep_samples import MEAN, NEW, OLD, QUICK, Seeing, night, simulated, trained
from src_plugin.errors import ConfigError, HeadNotFoundError, StimulusError, WeightsError
from src_plugin.head.find import find_head
from src_plugin.night.sleep import sleep

NAN_WEIGHT, INF_BIAS = {"0.weight": float("nan")}, {"4.bias": float("inf")}

REFUSED = {
    "NaN weights": ({}, NAN_WEIGHT, WeightsError, "'0.weight' has 1 of 192 values that are NaN or infinite"),
    "infinite bias": ({}, INF_BIAS, WeightsError, "'4.bias' has 1 of 4 values"),
    "negative mean, simulated": (
        {"mean_input": -MEAN, "config": "src_only"}, {}, StimulusError, r"negative at 12 of 12 inputs.*SleepConfig\(\)",
    ),
    "negative mean, and nothing says how low inputs are": (
        {"mean_input": -MEAN, "new_classes": (2,), "old_classes": (0,)}, {}, ConfigError, r"give lowest=x.amin\(0\)",
    ),
    "lowest of the wrong length": (
        {"lowest": [0.0], "new_classes": (2,), "old_classes": (0,)}, {}, ConfigError, r"lowest has shape \(1,\)",
    ),
    "lowest above the mean": (
        {"lowest": MEAN + 0.1, "new_classes": (2,), "old_classes": (0,)}, {}, ConfigError, "not above its mean",
    ),
    "NaN mean": ({"mean_input": MEAN * np.nan}, {}, StimulusError, "not finite"),
    "silent mean": ({"mean_input": 0 * MEAN}, {}, StimulusError, "0 everywhere"),
    "mean of the wrong length, named head": (
        {"mean_input": MEAN[:7], "head": ""}, {}, StimulusError, r"shape \(7,\); it must be \(12,\)",
    ),
    "class without output": (
        {"new_classes": (3, 4), "old_classes": (0,)}, {}, ConfigError, r"classes \[4\] have no output.*has 4 outputs",
    ),
    "negative class": ({"new_classes": (0,), "old_classes": (-1,)}, {}, ConfigError, r"classes \[-1\] have no output"),
    "unknown preset": ({"config": "atuo"}, {}, ConfigError, "did you mean 'auto'"),
    "thresholds of the wrong number": (
        {"config": simulated(thresholds=(1.0,))}, {}, ConfigError, "thresholds has 1 numbers, but the head has 3",
    ),
    "gains without data": ({"config": simulated(normalise=True)}, {}, ConfigError, "normalise=True"),
    "patch of features": ({"config": simulated(patch=3)}, {}, ConfigError, "patch=3 needs a square"),
    "unknown layer": ({"head": "fc"}, {}, HeadNotFoundError, "has no module 'fc'"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "broken", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_and_leaves_every_bit(arguments, broken, error, message):
    model, _ = trained()
    with torch.no_grad():
        for name, value in broken.items():
            model.state_dict()[name].view(-1)[2] = value
    state = copies(model)
    with pytest.raises(error, match=message):
        sleep(model, **{"mean_input": MEAN, "config": QUICK, **arguments})
    assert changed(model, state) == []


def test_a_head_that_cannot_sleep_is_refused():
    model = nn.Sequential(*mlp(12, 5, 4), nn.GELU())
    with pytest.raises(HeadNotFoundError, match="GELU"):
        sleep(model, MEAN)


UNCLEAR = {
    "mean of the wrong length": ({"mean_input": MEAN[:7]}, StimulusError, "12"),
    "inputs of the wrong width": ({"inputs": torch.rand(5, 7)}, ConfigError, "12"),
    "weights before of another head": ({"before": find_head(mlp(12, 4), head="").read()}, ConfigError, "layers"),
    "a class both old and new": ({"new_classes": (1, 2), "old_classes": (0, 1)}, ConfigError, "1"),
    "settings that are no config": ({"config": {"steps": 3}}, ConfigError, "config"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), UNCLEAR.values(), ids=UNCLEAR)
def test_more_bad_input_is_refused_in_our_own_words(arguments, error, message):
    model, before = trained()
    given = {"mean_input": MEAN, "config": QUICK, "before": before, "new_classes": NEW, "old_classes": OLD}
    with pytest.raises(error, match=message):
        sleep(model, **{**given, **({"old_classes": ()} if "inputs" in arguments else {}), **arguments})


def test_a_model_that_does_not_take_its_own_mean_asks_for_an_example():
    with pytest.raises(HeadNotFoundError, match="example"):
        sleep(Seeing(), MEAN)


def test_a_class_given_twice_counts_once():
    assert night(*trained(), new_classes=(2, 2, 3)).expected_share == 0.5
