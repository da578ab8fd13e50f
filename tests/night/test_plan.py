"""The plan of a night: one table of what is known, and of what is done then and why."""

from dataclasses import replace

import pytest
import torch

from src_plugin.config import SleepConfig
from src_plugin.head.state import HeadState
from src_plugin.night.plan import Plan, Stages, plan_night
from src_plugin.report import BalanceReport
from src_plugin.waking.classes import Classes
from src_plugin.waking.summary import TrainingSummary

RECALLED = SleepConfig().constants.recalled

ON, PURE = SleepConfig(), SleepConfig.preset("src_only")
CLASSES = Classes(new=(2, 3), old=(0, 1))
SAMPLES = torch.zeros(4, 3), torch.arange(4)
UNBALANCED = BalanceReport(expected_share=0.5, share_trained=0.51)


def plan(config=ON, *, balance=UNBALANCED, n_layers=2, classes=CLASSES, **known):
    """The plan after a training of two new classes with two old ones; a change of `classes` is a dict."""
    classes = replace(CLASSES, **classes) if isinstance(classes, dict) else classes
    training = {"mean": torch.ones(3).numpy(), "before": HeadState((), ()), **known}
    balance = balance if classes.old and classes.new and not config.is_pure else None
    return plan_night(config, TrainingSummary(classes=classes, **training), n_layers=n_layers, balance=balance)


OFF, GATE = "switched off", "a gate leaves it out"
CROWD = "the classes of this experience crowd out others"
ONE_LAYER = "levels only: a head of one layer has no hidden units to replay with"
OWM = "settles and levels only: OWMPlugin protects what earlier inputs evoke"
BALANCED = "new classes do not dominate: noise gives them 50%, their share is 50%"
AGAIN, EVEN, NO_OLD = (
    "too few samples were right after it",
    "the outputs are levelled only",
    "there are no earlier classes",
)
UNKNOWN = "it is not known which classes are new"


def levelling(why):
    return Stages(why, why, levels_only=True)


JUDGED = {"samples": SAMPLES, "classes": {"recall": 0.9}}
EVENLY = {"balance": BalanceReport(expected_share=0.5, share_trained=0.5)}
PLANS = {
    # what is known -> reason, nights, gate, is_judged
    "old and new classes": ({}, CROWD, [Stages()], None, False),
    "a head of one layer": ({"n_layers": 1}, ONE_LAYER, [levelling(ONE_LAYER)], None, False),
    "one layer, gate off": (
        {"n_layers": 1, "config": SleepConfig.preset("auto", hidden_gate=False)}, CROWD, [Stages()], None, False,
    ),
    "one layer, no sleep": (
        {"n_layers": 1, "config": SleepConfig.preset("auto", replay=False)}, CROWD, [Stages(OFF)], None, False,
    ),
    "one layer, no levelling": (
        {"n_layers": 1, "config": SleepConfig(level=False)}, CROWD, [Stages(level=OFF)], None, False,
    ),
    "no weights before": (
        {"before": None}, CROWD, [Stages(settle="the weights before the experience were not given")],
        None, False,
    ),
    "no depth": (
        {"config": SleepConfig.preset("auto", depth=0.0)}, CROWD, [Stages("it is to change nothing")], None, False,
    ),
    "no fractions": (
        {"config": SleepConfig.preset("auto", fractions=(0, 0, 0))}, CROWD, [Stages("it is to change nothing")],
        None, False,
    ),
    "no depth, but given steps": (
        {"config": SleepConfig.preset("auto", depth=0.0, inc=0.1, dec=0.1, engine="simulated")}, CROWD, [Stages()],
        None, False,
    ),
    "protected": ({"protector": "OWMPlugin"}, OWM, [Stages(GATE)], None, False),
    "protected, gate off": (
        {"protector": "OWMPlugin", "config": SleepConfig.preset("auto", rehearsal_gate=False)}, CROWD, [Stages()],
        None, False,
    ),
    "judged": (JUDGED, CROWD, [Stages(), levelling(AGAIN)], "rehearsal_gate", True),
    "judged, and recalled": (
        {**JUDGED, "classes": {"recall": 1.0}}, CROWD, [Stages(), levelling(AGAIN)], "rehearsal_gate", True,
    ),
    "judged, protected": (
        {**JUDGED, "protector": "OWMPlugin"}, OWM, [Stages(GATE), levelling(AGAIN)], "rehearsal_gate", True,
    ),
    "judged, one layer": ({**JUDGED, "n_layers": 1}, ONE_LAYER, [levelling(ONE_LAYER)], "rehearsal_gate", True),
    "judged, no levelling": (
        {**JUDGED, "config": SleepConfig(level=False)}, CROWD, [Stages(level=OFF)], "rehearsal_gate", True,
    ),
    "judged, levelling alone": (
        {**JUDGED, "config": SleepConfig.preset("auto", replay=False, settle=False)}, CROWD,
        [Stages(OFF, OFF, levels_only=True)], "rehearsal_gate", True,
    ),
    "judging switched off": (
        {**JUDGED, "config": SleepConfig.preset("auto", rehearsal_gate=False)}, CROWD, [Stages()], None, False,
    ),
    "recalled": (
        {"classes": {"recall": 0.9}}, "rehearsal works: 90% of rehearsed samples are recalled", [],
        "rehearsal_gate", False,
    ),
    "recalled, just": (
        {"classes": {"recall": RECALLED + 0.01}}, "rehearsal works: 51% of rehearsed samples are recalled", [],
        "rehearsal_gate", False,
    ),
    "not recalled": ({"classes": {"recall": RECALLED}}, CROWD, [Stages()], None, False),
    "recalled, gate off": (
        {"classes": {"recall": 0.9}, "config": SleepConfig.preset("auto", rehearsal_gate=False)}, CROWD, [Stages()],
        None, False,
    ),
    "balanced": (EVENLY, BALANCED, [], "balance_gate", False),
    "balanced, gate off": (
        {**EVENLY, "config": SleepConfig.preset("auto", balance_gate=False)}, CROWD, [Stages()], None, False,
    ),
    "balanced, judged": ({**EVENLY, **JUDGED}, BALANCED, [levelling(EVEN)], "balance_gate", True),
    "balanced, judged, one layer": (
        {**EVENLY, **JUDGED, "n_layers": 1}, ONE_LAYER, [levelling(EVEN)], "balance_gate", True,
    ),
    "balanced, judged, no levelling": (
        {**EVENLY, **JUDGED, "config": SleepConfig(level=False)}, BALANCED, [], "balance_gate", True,
    ),
    "no new classes": ({"classes": {"new": ()}}, "no new classes in this experience", [], "new_classes_gate", False),
    "no new classes, gate off": (
        {"classes": {"new": ()}, "config": SleepConfig.preset("auto", new_classes_gate=False)},
        "the classes of this experience crowd out others", [Stages(None, NO_OLD, NO_OLD)], None, False,
    ),
    "the first classes": (
        {"classes": Classes(new=(0, 1))}, "first sleep: all classes are new", [Stages(None, NO_OLD, NO_OLD)],
        None, False,
    ),
    "the first classes, recall": (
        {"classes": Classes(new=(0, 1), recall=0.9)}, "first sleep: all classes are new",
        [Stages(None, NO_OLD, NO_OLD)], None, False,
    ),
    "the first classes, no sleep": (
        {"classes": Classes(new=(0, 1)), "config": SleepConfig.preset("auto", replay=False)},
        "without the sleep itself nothing is left to do: there are no earlier classes (old_classes)", [], None, False,
    ),
    "the first classes, one layer": (
        {"classes": Classes(new=(0, 1)), "n_layers": 1},
        f"{ONE_LAYER}; there are no earlier classes (old_classes)", [], "hidden_gate", False,
    ),
    "unknown classes": (
        {"classes": Classes()}, f"{UNKNOWN}, so no gate could tell", [Stages(None, UNKNOWN, UNKNOWN)],
        None, False,
    ),
    "pure": ({"config": PURE}, "pure SRC sleeps whenever it is told to", [Stages(None, OFF, OFF)], None, False),
    "pure, whatever is known": (
        {"config": PURE, "protector": "OWMPlugin", "n_layers": 1, "classes": {"new": (), "recall": 1.0}},
        "pure SRC sleeps whenever it is told to", [Stages(None, OFF, OFF)], None, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("known", "reason", "nights", "gate", "is_judged"), PLANS.values(), ids=PLANS)
def test_what_is_known_decides_what_is_done(known, reason, nights, gate, is_judged):
    assert plan(**known) == Plan(reason, tuple(nights), gate, is_judged)


def test_the_share_that_noise_gives_is_told():
    reason = plan(balance=BalanceReport(expected_share=0.4, share_trained=0.1)).reason
    assert reason == "new classes do not dominate: noise gives them 10%, their share is 40%"


def test_nights_have_names():
    assert [stages.name for stages in plan(**JUDGED).nights] == ["the night", "levelling alone"]
