"""sleep(): what it changes, what it must not touch, and that it leaves no head half-slept, whatever happens."""

import json
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from models import changed, copies, global_states, hooks, mlp, same_bits
from src_plugin import consolidation, stimulus
from src_plugin.config import SleepConfig
from src_plugin.consolidation import sleep
from src_plugin.errors import ConfigError, HeadNotFoundError, StimulusError, WeightsError
from src_plugin.finding import find_head
from src_plugin.report import SleepReport

MEAN = np.linspace(0.05, 0.9, 12)
SIZES = (12, 16, 10, 4)
OLD, NEW = (0, 1), (2, 3)
QUICK = SleepConfig(steps=120)
PURE = SleepConfig.preset("src_only", steps=120)


def trained(*, dtype=torch.float32, bias=True):
    """A head that learnt classes 0, 1 and then 2, 3: under noise the old win nearly all before, the new after.

    Returns:
        The model, and the state of its head before classes 2 and 3.
    """
    model = mlp(*SIZES, bias=bias, dtype=dtype)
    head = find_head(model, head="")
    with torch.no_grad():
        head.layers[-1].weight[:2] += 0.3
        head.layers[-1].weight[2:] -= 0.8
        before = head.read()
        for layer in head.layers:
            for parameter in layer.parameters():
                parameter += 0.05
        head.layers[-1].weight[2:] += 1.4
    return model, before


CURRENT = torch.rand((50, 12), generator=torch.Generator().manual_seed(0))


def night(model, before=None, config=QUICK, **changes):
    """A sleep after classes 2 and 3, with 0 and 1 known."""
    arguments = {"before": before, "new_classes": NEW, "old_classes": OLD, "inputs": CURRENT, **changes}
    return sleep(model, MEAN, config, **arguments)


def test_a_sleep_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sleep(trained()[0], torch.ones(12), QUICK)


# -- what a sleep changes ----------------------------------------------------------------------------------------------


def test_a_night_with_earlier_classes_goes_through_all_stages():
    model, before = trained()
    state = copies(model)
    report = night(model, before)
    assert report.decision == "slept"
    assert report.skipped == {}
    assert report.steps == 120
    assert report.share_trained > report.expected_share == 0.5
    assert report.share_settled == pytest.approx(0.5, abs=0.02)
    assert len(report.offsets) == 4
    assert changed(model, state) == [name for name in state if "weight" in name or "bias" in name]


def test_the_report_counts_the_spikes_of_every_layer():
    report = night(trained()[0])
    assert report.layers == ["0", "2", "4"]
    assert report.sizes == list(SIZES)
    assert len(report.spikes) == len(report.rates) == 4
    assert report.spikes[0] > 0
    assert report.rates == pytest.approx([s / (n * 120) for s, n in zip(report.spikes, SIZES, strict=True)])
    for per_layer in (report.scales, report.thresholds, report.inc, report.dec, report.potentiations):
        assert len(per_layer) == 3
    assert report.seconds > 0


def test_the_report_measures_the_change_of_the_weights():
    model, before = trained()
    state = copies(model)
    report = night(model, before)
    names = [f"{layer}.weight" for layer in report.layers]
    now = model.state_dict()
    assert report.weight_change == pytest.approx([float((now[n] - state[n]).norm()) for n in names], rel=1e-5)
    assert report.weight_norm == pytest.approx([float(state[n].norm()) for n in names], rel=1e-5)


@pytest.mark.parametrize(
    "arguments", [{}, {"config": SleepConfig(steps=0)}, {"recall": 1.0}], ids=["slept", "no", "gate"]
)
def test_the_report_goes_through_json_unharmed(arguments):
    report = night(*trained(), **arguments)
    assert SleepReport(**json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report


def test_depression_without_potentiation_only_lowers_weights():
    model, _ = trained()
    state = copies(model)
    report = sleep(model, MEAN, SleepConfig.preset("src_only", steps=120, potentiation=(0, 0, 0)))
    assert sum(report.depressions) > 0
    assert all((model.state_dict()[n] <= state[n]).all() for n in state if "weight" in n)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_heads_of_every_float_type_sleep_and_keep_it(dtype):
    model, _ = trained(dtype=dtype)
    state = copies(model)
    report = night(model, find_head(model, head="").read())
    assert report.decision == "slept"
    assert changed(model, state)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert all(p.isfinite().all() for p in model.parameters())


def test_layers_that_need_no_gradient_sleep_as_well():
    model, _ = trained()
    model.requires_grad_(False)
    state = copies(model)
    sleep(model, MEAN, PURE)
    assert changed(model, state)
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_head_on_the_gpu_sleeps_as_on_the_cpu():
    here, before = trained()
    there = trained()[0].to("cuda")
    night(here, before)
    night(there, before)
    assert {p.device.type for p in there.parameters()} == {"cuda"}
    for a, b in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=0, atol=0)


# -- what it must not touch --------------------------------------------------------------------------------------------


class Seeing(nn.Module):
    """A small image network: a convolution with BatchNorm, and a head of two layers."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
        self.classifier = nn.Sequential(nn.Dropout(), *mlp(12, 10, 4))

    def forward(self, x):
        return self.classifier(self.features(x))


def test_all_below_the_head_stays_bit_identical_and_every_mode_as_it_was():
    model = Seeing()
    model.features[1].eval()
    state, modes = copies(model), [m.training for m in model.modules()]
    report = sleep(model, MEAN, PURE, example=torch.rand(2, 1, 4, 4))
    assert report.layers == ["classifier.1", "classifier.3"]
    assert {name.split(".")[0] for name in changed(model, state)} == {"classifier"}
    assert [m.training for m in model.modules()] == modes
    assert hooks(model) == 0


def test_a_head_by_name_needs_no_example():
    model = Seeing()
    state = copies(model)
    assert sleep(model, MEAN, PURE, head=["classifier.1", "classifier.3"]).layers == ["classifier.1", "classifier.3"]
    assert {name.split(".")[0] for name in changed(model, state)} == {"classifier"}


def test_the_head_alone_takes_the_mean_itself_as_example():
    model = Seeing()
    state = copies(model)
    assert sleep(model.classifier, MEAN, PURE).layers == ["1", "3"]
    assert {name.split(".")[0] for name in changed(model, state)} == {"classifier"}


def test_parameters_and_optimizer_state_stay_the_same_objects_and_bits():
    model, before = trained()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model(torch.rand(5, 12)).sum().backward()
    optimizer.step()
    parameters = {name: id(p) for name, p in model.named_parameters()}
    gradients = [p.grad.clone() for p in model.parameters()]
    momenta = [optimizer.state[p]["momentum_buffer"].clone() for p in model.parameters()]
    assert night(model, before).decision == "slept"
    assert {name: id(p) for name, p in model.named_parameters()} == parameters
    assert all(same_bits(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(
        same_bits(optimizer.state[p]["momentum_buffer"], m) for p, m in zip(model.parameters(), momenta, strict=True)
    )


def test_a_slept_model_can_go_on_training():
    model, before = trained()
    night(model, before)
    model(torch.rand(5, 12)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_global_random_states_are_untouched():
    model, before = trained()
    states = global_states()
    night(model, before, inputs=torch.full((8, 12), 0.5))
    assert global_states() == states


def test_what_was_given_is_not_changed():
    model, before = trained()
    mean, inputs = torch.from_numpy(MEAN).clone(), torch.full((8, 12), 0.5)
    given = [mean.clone(), inputs.clone(), *[t.clone() for t in before.tensors()]]
    sleep(model, mean, QUICK, before=before, new_classes=NEW, old_classes=OLD, inputs=inputs)
    assert all(same_bits(a, b) for a, b in zip([mean, inputs, *before.tensors()], given, strict=True))


def test_pure_sleep_leaves_biases_alone():
    model, _ = trained()
    state = copies(model)
    sleep(model, MEAN, PURE)
    assert changed(model, state) == ["0.weight", "2.weight", "4.weight"]


def test_pure_sleep_does_not_know_of_biases():
    model, twin = trained()[0], trained()[0]
    with torch.no_grad():
        for layer in find_head(twin, head="").layers:
            layer.bias += 3.0
    sleep(model, MEAN, PURE)
    sleep(twin, MEAN, PURE)
    for a, b in zip(find_head(model, head="").layers, find_head(twin, head="").layers, strict=True):
        assert same_bits(a.weight, b.weight)


@pytest.mark.parametrize("steps", [0, (0, 50)])
def test_zero_steps_change_nothing_in_any_stage(steps):
    model, before = trained()
    state = copies(model)
    report = night(model, before, SleepConfig(steps=steps))
    assert (report.decision, report.reason) == ("awake", "zero steps")
    assert changed(model, state) == []


def test_the_index_of_the_sleep_selects_its_length():
    config = SleepConfig.preset("src_only", steps=(0, 50), steps_growth=10)
    assert sleep(trained()[0], MEAN, config, index=1).steps == 60
    assert sleep(trained()[0], MEAN, config, index=3).steps == 80


# -- the same seed, the same sleep -------------------------------------------------------------------------------------


def slept_weights(**changes):
    model, before = trained()
    night(model, before, **changes)
    return copies(model)


SEEDS = {
    "number": lambda: 7,
    "numpy": lambda: np.random.default_rng(7),
    "torch": lambda: torch.Generator().manual_seed(7),
}


@pytest.mark.parametrize("seed", SEEDS.values(), ids=SEEDS)
def test_the_same_seed_gives_the_same_sleep_and_another_another(seed):
    first = slept_weights(generator=seed())
    again = slept_weights(generator=seed())
    other = slept_weights(generator=8)
    assert all(same_bits(first[name], again[name]) for name in first)
    assert not all(same_bits(first[name], other[name]) for name in first)


def test_a_generator_goes_on_from_where_it_is():
    generator = np.random.default_rng(7)
    first, second = slept_weights(generator=generator), slept_weights(generator=generator)
    assert not all(same_bits(first[name], second[name]) for name in first)


def test_cutting_the_stimulus_into_chunks_does_not_change_a_sleep(monkeypatch):
    whole = slept_weights(config=PURE)
    monkeypatch.setattr(stimulus, "CHUNK", 33)
    parts = slept_weights(config=PURE)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=1e-6)


def test_mean_input_may_be_a_list_an_array_or_a_tensor():
    mean = [0.5] * 6 + [0.25] * 6  # exact in every float type
    results = []
    for given in (mean, np.array(mean), torch.tensor(mean), torch.tensor(mean, dtype=torch.float16)):
        model, _ = trained()
        sleep(model, given, PURE)
        results.append(copies(model))
    for other in results[1:]:
        assert all(same_bits(results[0][name], other[name]) for name in other)


KINDS = {"bfloat16": torch.full((12,), 0.5, dtype=torch.bfloat16), "reversed": np.full(12, 0.5)[::-1]}


@pytest.mark.parametrize("mean", KINDS.values(), ids=KINDS)
def test_mean_input_may_be_of_any_layout_and_precision(mean):
    assert sleep(trained()[0], mean, PURE).decision == "slept"


# -- stages and gates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["replay", "settle", "level"])
def test_a_stage_that_is_switched_off_says_so(stage):
    report = night(*trained(), SleepConfig(steps=120, **{stage: False}))
    assert report.skipped == {stage: "switched off"}


def test_without_replay_the_head_still_settles_and_levels():
    model, before = trained()
    report = night(model, before, SleepConfig(steps=120, replay=False, level=False))
    assert report.spikes == []
    assert report.settled_towards == "before"
    assert 0 < report.settled_at < 1
    # Settling alone is a point of the straight line between the weights before the experience and those after it.
    start, end, now = before, find_head(trained()[0], head="").read(), find_head(model, head="").read()
    line = start.towards(end, report.settled_at)
    assert all(same_bits(a, b) for a, b in zip(now.tensors(), line.tensors(), strict=True))


def test_new_outputs_without_a_past_are_silenced_before_the_head_settles():
    model, before = trained()
    plain = night(trained()[0], before)
    before.weights[-1][2:] = 0.05
    report = night(model, before)
    assert (plain.silenced, report.silenced) == (False, True)
    assert "silenced" in str(report)
    assert "silenced" not in str(plain)
    assert report.settled_towards == "before"


def test_outputs_of_classes_that_came_back_are_not_silenced():
    model, before = trained()
    before.weights[-1][2:] = 0.05
    assert not night(model, before, returned_classes=(2, 3)).silenced


def test_a_class_that_came_back_is_one_of_the_new_ones():
    with pytest.raises(ConfigError, match=r"classes \[0\] are given as returned and not as new"):
        night(*trained(), returned_classes=(0, 2))


def test_without_current_inputs_the_noise_has_no_correlations_and_the_report_says_so():
    model, before = trained()
    without = night(model, before, inputs=None)
    assert without.skipped == {"correlated noise": "no inputs of the current experience were given"}
    assert night(*trained()).skipped == {}


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
    report = night(*trained(), SleepConfig(replay=False), old_classes=())
    assert report.kept_fraction is None


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
    assert report.skipped["settle"] == report.skipped["level"] == "there are no earlier classes"
    assert report.skipped["first_gate"] == "no inputs of the current experience were given"


def test_the_first_sleep_looks_at_inputs_and_says_how_much_it_kept():
    report = sleep(trained()[0], MEAN, QUICK, new_classes=NEW, inputs=torch.rand(20, 12))
    assert 0 <= report.kept_fraction <= 1
    assert "first_gate" not in report.skipped
    off = sleep(
        trained()[0], MEAN, SleepConfig(steps=120, first_gate=False), new_classes=NEW, inputs=torch.rand(20, 12)
    )
    assert off.kept_fraction is None


GATES = {
    "rehearsal": ({"recall": 0.9}, "rehearsal_gate", "rehearsal works"),
    "no new classes": ({"new_classes": ()}, None, "no new classes"),
}


@pytest.mark.parametrize(("changes", "switch", "reason"), GATES.values(), ids=GATES)
def test_a_gate_that_closes_leaves_every_bit_and_says_why(changes, switch, reason):
    model, before = trained()
    state = copies(model)
    report = night(model, before, **changes)
    assert report.decision == "awake"
    assert reason in report.reason
    assert changed(model, state) == []
    if switch is not None:
        assert night(model, before, SleepConfig(steps=120, **{switch: False}), **changes).decision == "slept"


def test_a_balanced_head_stays_awake_unless_that_gate_is_off():
    model, before = trained()
    with torch.no_grad():
        model[4].weight[2:] -= 2.0  # new classes win nothing
    state = copies(model)
    report = night(model, before)
    assert report.decision == "awake"
    assert "do not dominate" in report.reason
    assert changed(model, state) == []
    report = night(model, before, SleepConfig(steps=120, balance_gate=False))
    assert report.decision == "slept"
    assert report.settled_towards == "trained"


def test_a_rehearsing_network_that_forgets_sleeps_in_proportion():
    full, part = night(*trained(), recall=0.0), night(*trained(), recall=0.5)
    assert part.strength == pytest.approx(0.5 * full.strength)
    assert part.dec == pytest.approx([0.5 * d for d in full.dec])


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


# -- refusals: before anything changes ---------------------------------------------------------------------------------

NAN_WEIGHT, INF_BIAS = {"0.weight": float("nan")}, {"4.bias": float("inf")}

REFUSED = {
    "NaN weights": ({}, NAN_WEIGHT, WeightsError, "'0.weight' has 1 of 192 values that are NaN or infinite"),
    "infinite bias": ({}, INF_BIAS, WeightsError, "'4.bias' has 1 of 4 values"),
    "negative mean": ({"mean_input": -MEAN}, {}, StimulusError, "negative at 12 of 12 inputs.*Scale the features"),
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
        {"config": SleepConfig(thresholds=(1.0,))}, {}, ConfigError, "thresholds has 1 numbers, but the head has 3",
    ),
    "gains without data": ({"config": SleepConfig(normalise=True)}, {}, ConfigError, "normalise=True"),
    "patch of features": ({"config": SleepConfig(patch=3)}, {}, ConfigError, "patch=3 needs a square"),
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


# -- never half-slept --------------------------------------------------------------------------------------------------


def raising(function, error, nth):
    """The function, but its nth call (from 0) raises."""
    calls = []

    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == nth + 1:
            raise error
        return function(*args, **kwargs)

    return wrapped


PLACES = {
    "while thresholds are measured": (consolidation, "calibrate", 0),
    "in the first chunk": (consolidation, "simulate", 0),
    "in the second chunk": (consolidation, "simulate", 1),
    "while settling": (consolidation.settling, "settle", 0),
    "while levelling": (consolidation.settling, "level", 0),
    "in the middle of the write": (torch.Tensor, "copy_", 3),
}


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=["exception", "interrupt"])
@pytest.mark.parametrize(("owner", "name", "nth"), PLACES.values(), ids=PLACES)
def test_whatever_happens_the_head_is_as_it_was(monkeypatch, owner, name, nth, error):
    model, before = trained()
    state, modes = copies(model), [m.training for m in model.modules()]
    monkeypatch.setattr(stimulus, "CHUNK", 50)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, raising(getattr(owner, name), error, nth))
        with pytest.raises(type(error)):
            night(model, before)
    assert changed(model, state) == []
    assert [m.training for m in model.modules()] == modes
    assert hooks(model) == 0
    assert night(model, before).decision == "slept"  # and nothing stands in the way of the next try


def test_an_interrupt_after_the_last_stage_finds_the_head_as_it_was(monkeypatch):
    model, before = trained()
    state = copies(model)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "norm", raising(torch.Tensor.norm, KeyboardInterrupt(), 0))
        with pytest.raises(KeyboardInterrupt):
            night(model, before)
    assert changed(model, state) == []


def test_a_report_prints_as_one_line_a_stage():
    report = night(*trained())
    lines = str(report).splitlines()
    assert lines[0].startswith("slept: the classes of this experience crowd out others (")
    assert [line.split()[0] for line in lines[1:]] == ["head", "replay", "settle", "level"]
    assert "skipped replay: switched off" in str(night(*trained(), SleepConfig(replay=False)))


def test_weights_before_that_are_no_copy_of_a_head_are_refused():
    model, _ = trained()
    with pytest.raises(ConfigError, match=r"before is a OrderedDict; it must be a copy of the head, find_head"):
        night(model, model.state_dict())
