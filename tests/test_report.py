"""SleepReport: made of the reports of stages, and flat in records."""

import copy
import json
import pickle

import pytest

from places import GOLDEN
from src_plugin.report import (
    BalanceReport,
    ClosedFormReport,
    JudgeReport,
    LevelReport,
    RefitReport,
    SettleReport,
    SimulationReport,
    SleepReport,
    Status,
    Verdict,
    summarise,
)

AWAKE = SleepReport("awake", "zero steps", ["0", "2"], [12, 16, 4])
SLEPT = SleepReport(
    "slept",
    "it was time",
    ["0", "2"],
    [12, 16, 4],
    sleep=ClosedFormReport("closed_form", 0.25, fractions=[0.5, 0.25], answers=[1.0, 2.0]),
    balance=BalanceReport(expected_share=0.5, share_trained=0.9, share_slept=0.8),
    settle=SettleReport(share_settled=0.55, settled_at=0.7, settled_towards="before"),
    level=LevelReport(gains=[0.5, 2.0], offsets=[-1.0, 1.0], share_levelled=0.45),
    refit=RefitReport(64, 0.5, 0.875),
    judge=JudgeReport([8, 2], 7.5, 0.01, 0.5, 0.75, [Verdict("the night", 0.75, 0.01, True)]),
    skipped={"correlated noise": "no inputs"},
    seconds=0.125,
)
BLANK = {
    **dict.fromkeys(("gate", "engine", "input_variation", "noise_strength", "expected_share", "share_trained")),
    **dict.fromkeys(("share_slept", "share_settled", "share_levelled", "settled_at", "settled_towards", "gains")),
    **dict.fromkeys(("offsets", "kept_fraction", "samples", "exemplars", "must_rise", "samples_trained")),
    **dict.fromkeys(("samples_after",)),
    **{name: [] for name in ("fractions", "answers", "spikes", "rates", "scales", "thresholds", "inc", "dec")},
    **{name: [] for name in ("potentiations", "depressions", "verdicts", "weight_change", "weight_norm")},
    **{
        "steps": 0,
        "strength": 0.0,
        "refit_vectors": 0,
        "refit_before": 0.0,
        "refit_after": 0.0,
        "skipped": {},
        "backbone_trained": False,
        "seconds": 0.0,
    },
}


def test_stages_that_were_not_done_stand_in_the_dict_as_nothing():
    own = {"decision": "awake", "reason": "zero steps", "layers": ["0", "2"], "sizes": [12, 16, 4]}
    assert AWAKE.to_dict() == {**own, **BLANK}
    assert set(SLEPT.to_dict()) == {*own, *BLANK}


def test_what_a_stage_did_can_be_read_from_the_whole_report():
    assert (SLEPT.fractions, SLEPT.share_slept, SLEPT.settled_at, SLEPT.gains) == ([0.5, 0.25], 0.8, 0.7, [0.5, 2.0])
    assert SLEPT.verdicts == [{"night": "the night", "after": 0.75, "asked": 0.01, "kept": True}]
    assert (AWAKE.fractions, AWAKE.share_slept, AWAKE.gains) == ([], None, None)
    with pytest.raises(AttributeError, match="'SleepReport' object has no attribute 'share_sleept'"):
        _ = SLEPT.share_sleept


def test_each_stage_prints_its_line():
    assert str(SLEPT).splitlines() == [
        "slept: it was time (0.12 s)",
        "  head    0, 2 (12-16-4)",
        "  sleep   in closed form: units answer the mean input less by 50%, 25%, layer by layer",
        "  settle  new classes win 80% -> 55% of noise (their share: 50%), at 0.70 of the way from the weights "
        "before to the slept ones",
        "  level   outputs times 0.5 to 2, offset by -1 to +1; new classes win 45%",
        "  refit   on 64 noise vectors around class means: 50% of them right before, 88% now",
        "  judge   by 8 rehearsed samples (7.5 different ones a class) and 2 new ones, of which 50.0% were right "
        "before, class by class",
        "          after the night 75.0%; it had to rise by 1.0 points: kept",
        "  skipped correlated noise: no inputs",
    ]


def test_a_simulated_sleep_prints_its_rates_and_how_much_of_it_was_kept():
    sleep = SimulationReport("simulated", 0.2, steps=120, rates=[0.5, 0.25, 0.01], kept_fraction=0.6)
    assert str(SleepReport("slept", "why", [], [], sleep=sleep)).splitlines()[1:] == [
        "  sleep   simulated: 120 steps, depth 0.2; units fire in 25 %, 1 % of them",
        "  keep    60% of the change of this first sleep",
    ]


@pytest.mark.parametrize("report", [AWAKE, SLEPT], ids=["awake", "slept"])
def test_a_report_can_be_written_read_copied_and_pickled(report):
    assert SleepReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report
    assert copy.deepcopy(report) == pickle.loads(pickle.dumps(report)) == report


def test_records_made_before_reports_had_stages_read_back_as_they_are():
    nights = [
        night for head in json.loads((GOLDEN / "nights.json").read_text("utf-8")).values() for night in head.values()
    ]
    for report in (night["report"] for night in nights):
        assert SleepReport.from_dict(report).to_dict() == {**report, "seconds": 0.0}


def test_a_name_that_reports_no_longer_have_is_left_out_and_a_new_one_need_not_be_there():
    older = {**SLEPT.to_dict(), "may_fall": 0.1}
    del older["noise_strength"]
    assert SleepReport.from_dict(older) == SLEPT


CLOSED, LEVEL = ClosedFormReport("closed_form", 1.0, fractions=[0.5]), LevelReport([1.2], [0.1], 0.5)
SIMULATED = SimulationReport("simulated", steps=9, potentiations=[3], depressions=[0])
STATUSES = {
    "a sleep in closed form": (Status.SLEPT, {"sleep": CLOSED, "settle": SettleReport(0.5, 0.7, "before")}),
    "a simulated sleep": (Status.SLEPT, {"sleep": SIMULATED, "level": LEVEL}),
    "a sleep that took nothing": (
        Status.SETTLED,
        {"sleep": ClosedFormReport("closed_form", 1.0, fractions=[0.0]), "settle": SettleReport(0.5, 0.7, "before")},
    ),
    "a sleep in which no unit fired": (
        Status.LEVELLED,
        {"sleep": SimulationReport("simulated", steps=9), "level": LEVEL},
    ),
    "a sleep that settling took back": (Status.SETTLED, {"sleep": CLOSED, "settle": SettleReport(0.5, 0.0, "before")}),
    "settling that stayed where it was": (
        Status.LEVELLED,
        {"settle": SettleReport(0.5, 1.0, "before"), "level": LEVEL},
    ),
    "levelling": (Status.LEVELLED, {"level": LEVEL}),
    "a refit": (Status.LEVELLED, {"refit": RefitReport(64, 0.5, 0.875)}),
}


@pytest.mark.parametrize(("status", "stages"), STATUSES.values(), ids=STATUSES)
def test_the_status_is_the_first_stage_that_changed_the_head(status, stages):
    balance = BalanceReport(expected_share=0.5, share_trained=0.9, share_slept=0.8)
    report = SleepReport("slept", "it was time", ["0"], [12, 4], balance=balance, **stages)
    assert report.status is status
    assert str(report).startswith(f"{status}: it was time")
    assert SleepReport.from_dict(json.loads(json.dumps(report.to_dict()))).status is status
    assert SleepReport("awake", "samples undid it", ["0"], [12, 4], **stages).status is Status.AWAKE


def test_a_summary_counts_nights():
    assert summarise([]) == "0 nights"
    assert summarise([AWAKE]) == "1 night: 1 awake"
    assert summarise([SLEPT, AWAKE, SLEPT]) == "3 nights: 2 slept, 1 awake"
