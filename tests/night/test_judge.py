"""Whether a sleep helped a rehearsing network: samples of old and of new classes tell."""

import numpy as np
import pytest
import torch
from torch import nn

from models import changed, copies
from sleep_samples import CURRENT, MEAN, NEW, OLD, QUICK, night, trained
from src_plugin.config import Constants, SleepConfig
from src_plugin.errors import ConfigError
from src_plugin.head.find import find_head
from src_plugin.head.probe import Probe
from src_plugin.head.state import HeadState
from src_plugin.night.judge import by_class, must_rise
from src_plugin.night.sleep import sleep
from src_plugin.report import JudgeReport, SleepReport, Verdict
from src_plugin.waking.samples import count_exemplars, fingerprints, merge_repeated

GAIN = Constants().judge_gain

EYE = torch.eye(3, dtype=torch.float64)


def one_layer(weight):
    """A head of one layer, and its state."""
    layer = nn.Linear(3, len(weight), bias=False)
    return find_head(layer, head=""), HeadState((torch.tensor(weight, dtype=torch.float64),), (None,))


def test_classes_count_alike_however_many_samples_they_have():
    head, state = one_layer([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    inputs = torch.cat([EYE[:1].repeat(9, 1), EYE[1:2]])
    classes = torch.tensor([0] * 9 + [2])  # nine of class 0, all right; one of class 2 that is taken for class 1
    assert by_class(Probe(head, inputs), state, classes, torch.ones(10), among=(0, 1, 2)) == 0.5
    merged, own, times = merge_repeated(inputs, classes)
    assert (own.tolist(), times.tolist()) == ([0, 2], [9, 1])
    assert by_class(Probe(head, merged), state, own, times, among=(0, 1, 2)) == 0.5


def test_a_sample_that_came_three_times_counts_three_times():
    head, state = one_layer([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    inputs, classes = EYE[[0, 1, 0, 0, 2]], torch.tensor([0, 0, 0, 0, 2])
    merged, own, times = merge_repeated(inputs, classes)
    assert torch.equal(merged, EYE[[0, 1, 2]])
    assert (own.tolist(), times.tolist()) == ([0, 0, 2], [3, 1, 1])
    assert by_class(Probe(head, merged), state, own, times, among=(0, 1, 2)) == (0.75 + 1) / 2


def test_equal_inputs_of_two_classes_and_inputs_of_one_fingerprint_stay_apart(monkeypatch):
    x = EYE[[0, 0, 1]]
    assert merge_repeated(x, torch.tensor([0, 1, 1]))[2].tolist() == [1, 1, 1]
    monkeypatch.setattr("src_plugin.waking.samples.fingerprints", lambda inputs: torch.zeros(len(inputs)))
    inputs, _, times = merge_repeated(EYE[[0, 1, 0, 1]], torch.zeros(4, dtype=torch.int64))
    assert torch.equal(inputs, EYE[[0, 1, 1]])  # what is not like the first of its likes is not merged at all
    assert times.tolist() == [2, 1, 1]


def test_an_exemplar_counts_once_however_often_it_was_shown():
    inputs = torch.cat([EYE, EYE, EYE[:1], 2 * EYE[:1]])
    classes = torch.tensor([0, 1, 3, 0, 1, 3, 1, 0])  # class 0: two different; class 1: two; class 3 is not an old one
    assert count_exemplars(fingerprints(inputs), classes, old=(0, 1)) == 2.0
    assert count_exemplars(fingerprints(inputs), classes, old=(0, 1, 2)) == pytest.approx(4 / 3)


def test_fingerprints_do_not_depend_on_the_batch_or_on_rounding_errors():
    x = torch.rand((300, 784), generator=torch.Generator().manual_seed(1))
    prints = fingerprints(x)
    assert len(prints.unique()) == 300
    assert torch.equal(torch.cat([fingerprints(part) for part in x.split(7)]), prints)
    wobbly = fingerprints(x * (1 + 1e-7))
    assert float((wobbly == prints).double().mean()) > 0.8


def test_the_more_exemplars_the_less_accuracy_may_fall():
    # GAIN - PRIOR_MARGIN / sqrt(n), of the 4 in 5 classes that are old; a single exemplar allows a half, none not more.
    assert must_rise(25, recall=1.0, old=4, new=1) == pytest.approx(0.01 - 0.5 / 5 * 4 / 5)
    assert must_rise(10_000, recall=1.0, old=4, new=1) == pytest.approx(0.01 - 0.004)
    assert must_rise(1, recall=1.0, old=1, new=1) == must_rise(0, recall=1.0, old=1, new=1) == pytest.approx(-0.24)


def test_where_nothing_is_memorised_accuracy_has_to_rise():
    assert must_rise(25, recall=0.875, old=4, new=1) == pytest.approx(0.01 - 0.5 * 0.08)
    assert must_rise(1, recall=0.75, old=4, new=1) == must_rise(1, recall=0.2, old=4, new=1) == 0.01


@pytest.mark.parametrize(("asked", "decision"), [(0.0, "awake"), (-1.0, "slept")])
def test_a_night_may_take_as_much_as_is_memorised(monkeypatch, asked, decision):
    monkeypatch.setattr("src_plugin.night.judge.must_rise", lambda *_, **__: asked)
    assert night(*trained(), recall=0.2, samples=harmed_by_a_night()).decision == decision


def test_outputs_of_classes_never_seen_are_not_chosen():
    head, state = one_layer([[1.0, 0, 0], [9, 9, 9], [0, 0, 1]])
    assert by_class(Probe(head, EYE[[0, 2]]), state, torch.tensor([0, 2]), torch.ones(2), among=(0, 2)) == 1.0


def answers_of(model):
    with torch.no_grad():
        return model(CURRENT).argmax(1)


def harmed_by_a_night():
    """Samples of which fewer are right after a night: nearly all as the trained network says, and none as it will."""
    plain = trained()
    wanted = answers_of(plain[0])
    night(*plain, recall=0.0)
    after = answers_of(plain[0])
    i = int((after < 2).nonzero()[0])
    wanted[i] = 1 - after[i]  # one of an old class, which is wrong before and after
    return CURRENT, wanted


def test_a_night_after_which_fewer_samples_are_right_is_undone():
    model, before = trained()
    samples = harmed_by_a_night()
    state = copies(model)
    report = night(model, before, recall=0.2, samples=samples)
    assert (report.decision, report.gate) == ("awake", "rehearsal_gate")
    assert changed(model, state) == []
    assert "samples say that neither the night nor levelling alone helped" in report.reason
    assert [(v["night"], v["kept"]) for v in report.verdicts] == [("the night", False), ("levelling alone", False)]
    assert report.samples_after < report.samples_trained + report.must_rise
    assert report.samples == [1, 49]


def test_a_night_after_which_more_samples_are_right_is_kept():
    plain = trained()
    night(*plain, recall=0.2)
    wanted = answers_of(plain[0])
    model, before = trained()
    assert not torch.equal(answers_of(model), wanted)
    report = night(model, before, recall=0.2, samples=(CURRENT, wanted))
    assert report.decision == "slept"
    assert torch.equal(answers_of(model), wanted)
    assert report.samples_trained < report.samples_after == 1.0
    assert report.fractions[0] > 0
    old = int((wanted < 2).sum())
    assert report.samples == [old, 50 - old]
    assert report.verdicts == [{"night": "the night", "after": 1.0, "asked": GAIN, "kept": True}]
    told = str(report)
    assert f"by {old} rehearsed samples ({report.exemplars:.3g} different ones a class) and {50 - old} new ones" in told
    assert "after the night 100.0%; it had to rise by 1.0 points: kept" in told


ASKED = {0.0: "it had to rise", 0.01: "it had to rise by 1.0 points", -0.05: "it might fall by 5.0 points"}


@pytest.mark.parametrize(("asked", "text"), ASKED.items())
@pytest.mark.parametrize(("kept", "outcome"), [(True, "kept"), (False, "undone")])
def test_the_report_says_what_was_asked_of_samples(asked, text, kept, outcome):
    verdict = Verdict("levelling alone", after=0.5, asked=asked, kept=kept)
    judge = JudgeReport(samples=[8, 2], exemplars=7.5, samples_trained=1.0, verdicts=[verdict])
    told = str(SleepReport("slept", "why", layers=[], sizes=[], judge=judge))
    assert "by 8 rehearsed samples (7.5 different ones a class) and 2 new ones, of which 100.0% were right" in told
    assert told.endswith(f"after levelling alone 50.0%; {text}: {outcome}")


LEVELS = {"replay": False, "settle": False}


def levelled(model, before):
    """A trained head, its weights before, and samples of which all are right once its outputs are levelled."""
    night(model, before, SleepConfig.preset("auto", balance_gate=False, **LEVELS))
    return copies(model), (CURRENT, answers_of(model))


def test_if_the_whole_night_is_not_kept_outputs_are_levelled_if_that_helps():
    strict = Constants(judge_gain=2.0)
    wanted, samples = levelled(*trained())
    model, before = trained()
    report = night(model, before, SleepConfig(constants=strict), recall=0.2, samples=samples)
    assert report.decision == "slept"
    assert report.skipped == dict.fromkeys(("replay", "settle"), "too few samples were right after it")
    assert (report.engine, report.settled_at, report.must_rise) == (None, None, 0.0)
    assert changed(model, wanted) == []
    config = SleepConfig(level=False, constants=strict)
    assert night(*trained(), config, recall=0.2, samples=samples).decision == "awake"


def balanced():
    """A head under whose noise new classes win nothing."""
    model, before = trained()
    with torch.no_grad():
        model[4].weight[2:] -= 2.0
    return model, before


def test_a_balanced_network_that_rehearses_levels_only_and_only_if_that_helps():
    wanted, samples = levelled(*balanced())
    model, before = balanced()
    report = night(model, before, recall=0.2, samples=samples)
    assert report.decision == "slept"
    assert "new classes do not dominate" in report.reason
    assert report.skipped == dict.fromkeys(("replay", "settle"), "the outputs are levelled only")
    assert changed(model, wanted) == []
    model, before = balanced()
    state = copies(model)
    worse = (CURRENT, torch.where(answers_of(model) < 2, answers_of(model), 0))
    worse[1][0] = 2  # one sample of a new class, which is wrong before and may be right after
    report = night(model, before, recall=0.2, samples=worse)
    if report.decision == "awake":
        assert changed(model, state) == []
    assert (report.decision == "slept") == (report.samples_after > report.samples_trained)


def test_a_high_recall_forbids_only_what_cannot_be_judged():
    plain = trained()
    night(*plain, recall=0.9, config=SleepConfig.preset("auto", rehearsal_gate=False))
    samples = (CURRENT, answers_of(plain[0]))
    assert night(*trained(), recall=0.9).decision == "awake"
    assert night(*trained(), recall=0.9, samples=samples).decision == "slept"


UNJUDGED = {
    "the gate is off": {"config": SleepConfig.preset("auto", rehearsal_gate=False), "recall": 0.2},
    "pure SRC": {"config": SleepConfig.preset("src_only", steps=120), "recall": 0.2},
    "the first sleep": {"new_classes": OLD + NEW, "old_classes": (), "recall": 0.2},
}


@pytest.mark.parametrize("arguments", UNJUDGED.values(), ids=UNJUDGED)
def test_samples_do_not_count(arguments):
    runs = []
    for samples in (None, (CURRENT, torch.zeros(50, dtype=torch.int64))):
        model, before = trained()
        report = night(model, before, samples=samples, **arguments)
        assert (report.samples_trained, report.samples_after) == (None, None)
        runs.append(copies(model))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


WRONG = {
    "too narrow": (CURRENT[:, :5], torch.zeros(50, dtype=torch.int64)),
    "a class too few": (CURRENT, torch.zeros(49, dtype=torch.int64)),
    "none": (CURRENT[:0], torch.zeros(0, dtype=torch.int64)),
    "not a matrix": (CURRENT[0], torch.zeros(12, dtype=torch.int64)),
}


@pytest.mark.parametrize("samples", WRONG.values(), ids=WRONG)
def test_samples_of_a_wrong_shape_are_refused_before_anything_changes(samples):
    model, before = trained()
    state = copies(model)
    with pytest.raises(ConfigError, match=r"they must be inputs of the head, \(n, 12\)"):
        night(model, before, recall=0.2, samples=samples)
    assert changed(model, state) == []


CLASSES = {"no output": [0, 2, 7], "neither old nor new": [-1, 0, 2], "no old ones": [2, 3], "no new ones": [0, 1]}


@pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES)
def test_samples_are_of_old_and_of_new_classes_and_of_no_others(classes):
    labels = torch.tensor(classes).repeat(50)[:50]
    with pytest.raises(
        ConfigError, match=r"samples are of classes .*; they must be of old classes, \[0, 1\], and of new"
    ):
        night(*trained(), recall=0.2, samples=(CURRENT, labels))


def test_samples_may_be_arrays_and_must_be_two_and_finite():
    model, before = trained()
    x, y = harmed_by_a_night()
    assert night(model, before, recall=0.2, samples=[x.numpy(), y.numpy()]).decision == "awake"
    with pytest.raises(ConfigError, match=r"samples are a Tensor; give two arrays"):
        night(model, before, recall=0.2, samples=x)
    with pytest.raises(ConfigError, match="samples are not finite"):
        night(model, before, recall=0.2, samples=(x * float("nan"), y))


@pytest.mark.parametrize("recall", [-0.1, 75, float("nan"), "0.3", [0.3]])
def test_recall_is_a_fraction(recall):
    with pytest.raises(ConfigError, match=r"recall must be a fraction in \[0, 1\]"):
        night(*trained(), recall=recall)


def test_recall_may_be_a_number_of_any_library():
    reasons = {night(*trained(), recall=share).reason for share in (0.9, np.float32(0.9), torch.tensor(0.9))}
    assert reasons == {"rehearsal works: 90% of rehearsed samples are recalled"}


def test_recall_says_nothing_where_there_is_nothing_to_balance():
    for nothing in ({"new_classes": OLD + NEW, "old_classes": ()}, {"new_classes": None}):
        told, plain = night(*trained(), recall=0.3, **nothing), night(*trained(), **nothing)
        assert (told.reason, told.fractions, told.weight_change) == (plain.reason, plain.fractions, plain.weight_change)
        assert told.fractions[0] > 0


def test_samples_that_are_no_arrays_are_refused():
    for samples in (([[1.0], [1.0, 2.0]], [0, 1]), ("ab", "cd")):
        with pytest.raises(ConfigError, match="cannot be read as two arrays"):
            night(*trained(), recall=0.2, samples=samples)


def test_samples_without_recall_are_refused():
    with pytest.raises(ConfigError, match="give recall, too"):
        night(*trained(), samples=harmed_by_a_night())


def test_the_public_function_takes_samples():
    model, before = trained()
    asked = {"before": before, "new_classes": NEW, "old_classes": OLD, "recall": 0.4, "inputs": CURRENT}
    report = sleep(model, MEAN, QUICK, **asked, samples=harmed_by_a_night())
    assert report.decision == "awake"
