"""sleep(): which stages are gone through, which gate keeps it awake, and what it says of both."""

import numpy as np
import pytest
import torch

from models import changed, copies, mlp, same_bits
from sleep_samples import MEAN, NEW, PURE, QUICK, SIMULATED, night, simulated, trained
from src_plugin.config import SleepConfig
from src_plugin.head.find import find_head
from src_plugin.night.sleep import sleep


@pytest.mark.parametrize("stage", ["replay", "settle", "level"])
def test_a_stage_that_is_switched_off_says_so(stage):
    report = night(*trained(), SleepConfig.preset("auto", **{stage: False}))
    assert report.skipped == {stage: "switched off"}


def test_without_replay_the_head_still_settles_and_levels():
    model, before = trained()
    report = night(model, before, SleepConfig.preset("auto", replay=False, level=False))
    assert report.spikes == []
    assert report.settled_towards == "before"
    assert 0 < report.settled_at < 1
    # Settling alone is a point of the straight line between the weights before the experience and those after it.
    start, end, now = before, find_head(trained()[0], head="").read(), find_head(model, head="").read()
    line = start.towards(end, report.settled_at)
    assert all(same_bits(a, b) for a, b in zip(now.tensors(), line.tensors(), strict=True))


def test_without_current_inputs_the_noise_has_no_correlations_and_the_report_says_so():
    model, before = trained()
    without = night(model, before, inputs=None)
    assert without.skipped["correlated noise"] == "no inputs of the current experience were given"
    assert night(*trained()).skipped == {}


def test_binary_noise_tells_its_strength_and_gaussian_noise_has_none():
    gaussian, binary = (night(*trained(), SleepConfig(noise=kind)) for kind in ("gaussian", "binary"))
    assert gaussian.noise_strength is None
    assert 0.35 <= binary.noise_strength <= 1.0
    assert gaussian.settled_at != binary.settled_at


REASONS = {
    "pure": ({"config": PURE}, "pure SRC sleeps whenever it is told to"),
    "unknown classes": ({"new_classes": None}, "it is not known which classes are new"),
    "nothing earlier": ({"old_classes": ()}, "first sleep: all classes are new"),
    "old and new": ({}, "the classes of this experience crowd out others"),
}


@pytest.mark.parametrize(("arguments", "reason"), REASONS.values(), ids=REASONS)
def test_the_reason_to_sleep_claims_no_more_than_is_known(arguments, reason):
    assert night(*trained(), **arguments).reason.startswith(reason)


def test_the_first_gate_has_nothing_to_keep_without_replay():
    report = night(*trained(), simulated(replay=False), old_classes=())
    assert report.kept_fraction is None


IDLE = {"old_classes": "there are no earlier classes", "new_classes": "it is not known which classes are new"}


STILL = {
    "no replay": SleepConfig.preset("auto", replay=False),
    "depth 0": SleepConfig.preset("auto", depth=0.0),
    "simulated": simulated(depth=0.0),
}


@pytest.mark.parametrize("config", STILL.values(), ids=STILL)
@pytest.mark.parametrize(("missing", "why"), IDLE.items())
def test_a_night_in_which_nothing_could_be_done_is_no_sleep(config, missing, why):
    model, before = trained()
    state = copies(model)
    report = night(model, before, config, **{missing: None})
    assert (report.decision, report.gate) == ("awake", None)
    assert report.reason.startswith(f"without the sleep itself nothing is left to do: {why}")
    assert changed(model, state) == []


def test_without_the_weights_before_it_says_so_and_levels_all_the_same():
    report = night(trained()[0])
    assert report.skipped == {"settle": "the weights before the experience were not given"}
    assert report.share_settled is None
    assert report.offsets is not None


def test_without_classes_it_says_that_they_are_not_known():
    report = sleep(trained()[0], MEAN, QUICK)
    assert report.decision == "slept"
    assert report.skipped["settle"] == report.skipped["level"] == "it is not known which classes are new"


def test_without_earlier_classes_there_is_nothing_to_settle():
    model, before = trained()
    report = sleep(model, MEAN, QUICK, before=before, new_classes=NEW)
    assert report.decision == "slept"
    assert report.skipped == dict.fromkeys(("settle", "level"), "there are no earlier classes")


def test_without_inputs_a_first_simulated_sleep_is_not_kept_shallow_and_says_so():
    report = sleep(trained()[0], MEAN, SIMULATED, new_classes=NEW)
    assert report.skipped["first_gate"] == "no inputs of the current experience were given"


def test_the_first_simulated_sleep_looks_at_inputs_and_says_how_much_it_kept():
    report = sleep(trained()[0], MEAN, SIMULATED, new_classes=NEW, inputs=torch.rand(20, 12))
    assert 0 <= report.kept_fraction <= 1
    assert "first_gate" not in report.skipped
    off = sleep(trained()[0], MEAN, simulated(steps=120, first_gate=False), new_classes=NEW, inputs=torch.rand(20, 12))
    assert off.kept_fraction is None


def test_a_first_sleep_in_closed_form_is_kept_whole():
    report = sleep(trained()[0], MEAN, QUICK, new_classes=NEW, inputs=torch.rand(20, 12))
    assert report.kept_fraction is None
    assert "first_gate" not in report.skipped


GATES = {
    "rehearsal": ({"recall": 0.9}, "rehearsal_gate", "rehearsal works"),
    "no new classes": ({"new_classes": ()}, "new_classes_gate", "no new classes"),
}


@pytest.mark.parametrize(("changes", "switch", "reason"), GATES.values(), ids=GATES)
def test_a_gate_that_closes_leaves_every_bit_and_says_why(changes, switch, reason):
    model, before = trained()
    state = copies(model)
    report = night(model, before, **changes)
    assert (report.decision, report.gate) == ("awake", switch)
    assert reason in report.reason
    assert changed(model, state) == []
    if switch is not None:
        assert night(model, before, SleepConfig.preset("auto", **{switch: False}), **changes).decision == "slept"


def test_a_balanced_head_stays_awake_unless_that_gate_is_off():
    model, before = trained()
    with torch.no_grad():
        model[4].weight[2:] -= 2.0  # new classes win nothing
    state = copies(model)
    report = night(model, before)
    assert report.decision == "awake"
    assert "do not dominate" in report.reason
    assert changed(model, state) == []
    report = night(model, before, SleepConfig.preset("auto", balance_gate=False))
    assert report.decision == "slept"
    assert report.settled_towards == "trained"


def test_a_sleep_is_as_deep_as_it_is_told_to_be():
    full, part = (night(*trained(), simulated(steps=120, depth=depth)) for depth in (0.4, 0.2))
    assert part.strength == pytest.approx(0.5 * full.strength)
    assert part.dec == pytest.approx([0.5 * d for d in full.dec])


@pytest.mark.parametrize("engine", ["closed_form", "simulated"])
def test_at_depth_0_the_head_settles_and_levels_all_the_same(engine):
    report = night(*trained(), SleepConfig.preset("auto", engine=engine, depth=0.0))
    assert (report.decision, report.spikes, report.fractions, report.steps) == ("slept", [], [], 0)
    assert report.skipped == {"replay": "it is to change nothing"}
    assert report.settled_at == night(*trained(), SleepConfig.preset("auto", replay=False)).settled_at


def test_a_sleep_in_which_nothing_fires_warns_and_changes_nothing():
    model, _ = trained()
    state = copies(model)
    config = SleepConfig.preset("src_only", steps=50, thresholds=(1e9, 1e9, 1e9))
    with pytest.warns(UserWarning, match="no unit of the head fired.*thresholds are too high"):
        report = sleep(model, MEAN, config)
    assert report.spikes[1:] == [0, 0, 0]
    assert changed(model, state) == []


def test_a_paper_preset_sleeps_by_name_with_gains_from_inputs():
    report = sleep(
        mlp(100, 4, bias=False), np.full(100, 0.5), "paper/patches", index=1, inputs=torch.full((4, 100), 0.5)
    )
    assert (report.steps, report.thresholds, report.inc, report.dec) == (30000, [1.045], [0.0035], [0.0002])
    assert report.skipped["settle"] == report.skipped["level"] == "switched off"


def test_a_head_that_grew_settles_what_it_had():
    _, before = trained()
    grown = mlp(12, 16, 10, 6)
    with torch.no_grad():
        grown[4].weight[4:] += 1.0
    report = night(grown, before, new_classes=(4, 5), old_classes=(0, 1, 2, 3))
    assert report.decision == "slept"
    assert report.skipped == {"settle of grown units": "20 weights have no counterpart before the experience"}
