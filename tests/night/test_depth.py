"""How deep a sleep is: what it is told, or a constant; simulated, from how much inputs differ from their mean."""

import math

import numpy as np
import pytest
import torch

from sleep_samples import MEAN, QUICK, simulated, trained
from src_plugin.config import ClosedForm, Measuring, SleepConfig
from src_plugin.night.calibrate import measured_depth, variation
from src_plugin.night.sleep import sleep

USUAL = Measuring()
DEEPEST, PER_VARIATION, UNMEASURED = USUAL.depth_most, USUAL.depth_per_variation, USUAL.depth_unmeasured
FRACTIONS = ClosedForm().fractions

HALF = np.array([0.5, 0.5])

VARIATIONS = {
    "inputs that are their mean": ([[0.5, 0.5]], HALF, 0.0),
    "one input at a time": ([[1.0, 0.0], [0.0, 1.0]], HALF, 1.0),  # 0.5 away each, and the mean's squared norm is 0.5
    "a common half": ([[1.0, 0.5], [0.5, 1.0]], np.array([0.75, 0.75]), 1 / 9),
    "classes that are not here any more": ([[1.0, 0.0]], HALF, 1.0),  # the mean is of all that was ever seen
}


@pytest.mark.parametrize(("inputs", "mean", "expected"), VARIATIONS.values(), ids=VARIATIONS)
def test_variation_by_hand(inputs, mean, expected):
    assert variation(torch.tensor(inputs), mean) == pytest.approx(expected)


def test_variation_does_not_depend_on_the_unit_of_inputs_or_on_copies():
    x = torch.rand(5000, 7, generator=torch.Generator().manual_seed(0))
    mean = x.double().mean(0).numpy()
    assert variation(255 * x, 255 * mean) == pytest.approx(variation(x, mean))
    assert variation(torch.cat([x, x]), mean) == pytest.approx(variation(x, mean))


def test_depth_is_proportional_up_to_a_bound():
    assert measured_depth(0.0) == 0.0
    assert measured_depth(1.0) == PER_VARIATION == 0.3
    assert measured_depth(1e9) == DEEPEST == 1.0


def depth_of(config, inputs):
    """Strength and step sizes of a first sleep, on which no gate has a say."""
    return sleep(trained()[0], MEAN, config, inputs=inputs)


INPUTS = torch.rand(20, 12, generator=torch.Generator().manual_seed(1))


def test_a_sleep_is_as_deep_as_its_inputs_say():
    report = depth_of(simulated(steps=120), INPUTS)
    assert report.input_variation == variation(INPUTS, np.asarray(MEAN, dtype=np.float64))
    assert report.strength == measured_depth(report.input_variation)
    assert report.dec == depth_of(simulated(steps=120, depth=report.strength), None).dec


@pytest.mark.parametrize("inputs", [None, INPUTS[:0], INPUTS[:1]], ids=["none", "no row", "one row"])
def test_without_inputs_depth_is_a_constant_and_the_report_says_so(inputs):
    report = depth_of(simulated(steps=120), inputs)
    assert (report.strength, report.input_variation) == (UNMEASURED, None)
    assert "no inputs" in report.skipped["depth by inputs"]


GIVEN = {
    "a depth": {"depth": 0.5},
    "steps of the rule": {"inc": 0.001, "dec": 0.001},
    "no sleep itself": {"replay": False},
}


@pytest.mark.parametrize("changes", GIVEN.values(), ids=GIVEN)
def test_nothing_is_measured_where_nothing_is_asked_for(changes):
    report = depth_of(simulated(steps=120, **changes), INPUTS)
    assert report.input_variation is None
    assert "depth by inputs" not in report.skipped
    if "depth" in changes:
        assert report.strength == 0.5


def test_a_sleep_in_closed_form_measures_no_depth():
    report = depth_of(QUICK, INPUTS)
    assert (report.engine, report.strength, report.input_variation) == ("closed_form", FRACTIONS[0], None)
    assert "depth by inputs" not in report.skipped
    without = depth_of(QUICK, None)
    assert (without.strength, without.fractions) == (FRACTIONS[0], report.fractions)
    assert "depth by inputs" not in without.skipped


def test_a_sleep_in_closed_form_takes_depth_times_depression():
    whole, twice, other = (
        depth_of(SleepConfig.preset("auto", depth=depth, depression=depression), INPUTS)
        for depth, depression in ((0.2, (0.4, 0.2, 0.1)), (0.4, (0.2, 0.1, 0.05)), (0.4, (0.4, 0.2, 0.1)))
    )
    assert (whole.strength, twice.strength) == (0.2, 0.4)
    assert whole.fractions == twice.fractions
    # The first layer's exponent is proportional to the depth.
    assert math.log1p(-other.fractions[0]) == pytest.approx(2 * math.log1p(-whole.fractions[0]))
