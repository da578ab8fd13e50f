"""sleep() of a head without hidden units: its outputs are levelled, and nothing else is done."""

import numpy as np
import pytest
import torch
from torch import nn

from models import changed, copies
from src_plugin.config import SleepConfig
from src_plugin.head.find import find_head
from src_plugin.night.sleep import sleep

MEAN = np.linspace(0.05, 0.9, 12)
OLD, NEW = (0, 1), (2, 3)
CURRENT = torch.rand((50, 12), generator=torch.Generator().manual_seed(0))
REASON = "levels only: a head of one layer has no hidden units to replay with"


def trained(*, dominance=0.4):
    """A layer that learnt classes 0, 1 and then 2, 3, whose outputs are above the old ones.

    Returns:
        The layer, and its state before classes 2 and 3.
    """
    torch.manual_seed(0)
    layer = nn.Linear(12, 4, bias=False)
    with torch.no_grad():
        layer.weight[2:] -= 0.8
        before = find_head(layer, head="").read()
        layer.weight[2:] += 0.8 + dominance
    return layer, before


def night(layer, before, config=None, **changes):
    arguments = {"before": before, "new_classes": NEW, "old_classes": OLD, "inputs": CURRENT, **changes}
    return sleep(layer, MEAN, config, **arguments)


def test_it_is_levelled_and_neither_replayed_nor_settled():
    layer, before = trained()
    was = layer.weight.detach().clone()
    report = night(layer, before)
    assert (report.decision, report.reason, report.gate) == ("slept", REASON, None)
    assert report.skipped == {"replay": REASON, "settle": REASON}
    assert (report.spikes, report.settled_at) == ([], None)
    assert report.share_trained > 0.9
    assert report.share_levelled == pytest.approx(0.5, abs=0.1)
    # Each row is scaled, and moved along the mean of the noise; all rows along the same direction.
    moved = layer.weight.detach() - torch.tensor(report.gains)[:, None] * was
    assert torch.linalg.matrix_rank(moved, rtol=1e-4) == 1


def test_it_is_what_levelling_alone_makes_of_it():
    (layer, before), (other, _) = trained(), trained()
    night(layer, before)
    night(other, before, SleepConfig.preset("auto", replay=False, settle=False))
    assert torch.equal(layer.weight, other.weight)


def test_after_the_first_experience_it_stays_as_it_is():
    layer, before = trained()
    state = copies(layer)
    report = night(layer, before, old_classes=())
    assert (report.decision, report.gate) == ("awake", "hidden_gate")
    assert report.reason == f"{REASON}; there are no earlier classes (old_classes)"
    assert changed(layer, state) == []


MISSING = {
    "new_classes": "it is not known which classes are new (new_classes)",
    "old_classes": "there are no earlier classes",
}


@pytest.mark.parametrize(("name", "why"), MISSING.items())
def test_without_classes_it_says_which_argument_is_missing(name, why):
    layer, before = trained()
    state = copies(layer)
    report = night(layer, before, **{name: None})
    assert report.decision == "awake"
    assert why in report.reason
    assert "the module itself (12-4)" in str(report)
    assert changed(layer, state) == []


TAKES = (0.6, 0.2, 0.1)  # a single layer is an output layer, of which the default takes nothing

ASKED = {
    "gate off": SleepConfig.preset("auto", hidden_gate=False, fractions=TAKES),
    "no levelling": SleepConfig.preset("auto", level=False, fractions=TAKES),
    "gate off, simulated": SleepConfig.preset("auto", engine="simulated", hidden_gate=False),
    "no levelling, simulated": SleepConfig.preset("auto", engine="simulated", level=False),
    "pure": SleepConfig.preset("src_only"),
}


@pytest.mark.parametrize("config", ASKED.values(), ids=ASKED)
def test_who_asks_for_its_sleep_gets_one(config):
    report = night(*trained(), config)
    assert report.engine == config.to_dict()["engine"]
    if config.simulates:
        assert sum(report.spikes) > 0
    else:
        assert report.fractions[0] > 0


def test_the_rival_settles_it_all_the_same():
    report = night(*trained(), SleepConfig.preset("auto", replay=False))
    assert report.settled_towards == "before"
    assert report.skipped == {"replay": "switched off"}


# -- with rehearsal ----------------------------------------------------------------------------------------------------


def samples(*, old_right):
    """Inputs that the trained layer takes for new classes, of old ones and new ones."""
    x = torch.rand((80, 12), generator=torch.Generator().manual_seed(1))
    layer, before = trained()
    night(layer, before)
    y = layer(x).argmax(1) if old_right else trained()[0](x).argmax(1)
    y[0], y[1] = OLD[0], NEW[0]  # at least one of each
    return x, y


def test_samples_that_level_outputs_would_set_right_let_it_be_levelled():
    report = night(*trained(), recall=0.2, samples=samples(old_right=True))
    assert report.decision == "slept"
    assert [(v["night"], v["kept"]) for v in report.verdicts] == [("levelling alone", True)]
    assert report.skipped["replay"] == REASON


def test_samples_that_levelling_would_set_wrong_keep_it_awake():
    layer, before = trained()
    state = copies(layer)
    report = night(layer, before, recall=0.9, samples=samples(old_right=False))
    assert (report.decision, report.gate) == ("awake", "rehearsal_gate")
    assert [(v["night"], v["kept"]) for v in report.verdicts] == [("levelling alone", False)]
    assert changed(layer, state) == []


def test_a_balanced_head_is_levelled_if_samples_say_that_it_helps():
    layer, before = trained(dominance=-0.2)
    assert night(layer, before).gate == "balance_gate"
    report = night(layer, before, recall=0.9, samples=samples(old_right=True))
    assert report.decision == "slept"
    assert [(v["night"], v["kept"]) for v in report.verdicts] == [("levelling alone", True)]
    assert report.skipped["replay"] == "the outputs are levelled only"
