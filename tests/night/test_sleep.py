"""sleep(): what it changes, and what it reports of it."""

import json
import warnings

import pytest
import torch

from models import changed, copies
from sleep_samples import MEAN, PURE, QUICK, SIMULATED, SIZES, night, trained
from src_plugin.config import ClosedForm, SleepConfig
from src_plugin.errors import HeadNotFoundError
from src_plugin.head.find import find_head
from src_plugin.night.closed_form import inhibit
from src_plugin.night.sleep import sleep
from src_plugin.report import SleepReport


def test_a_sleep_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sleep(trained()[0], torch.ones(12), QUICK)


@pytest.mark.parametrize("config", [QUICK, SIMULATED], ids=["closed form", "simulated"])
def test_a_night_with_earlier_classes_goes_through_all_stages(config):
    model, before = trained()
    state = copies(model)
    report = night(model, before, config)
    assert report.decision == "slept"
    assert report.skipped == {}
    assert report.engine == config.to_dict()["engine"]
    assert report.steps == (120 if config.simulates else 0)
    assert report.share_trained > report.expected_share == 0.5
    assert report.share_settled == pytest.approx(0.5, abs=0.02)
    assert report.share_levelled == pytest.approx(0.5, abs=0.1)  # shares of a softmax, told by 128 vectors
    assert f"new classes win {report.share_levelled:.0%}" in str(report)
    assert len(report.offsets) == 4
    assert changed(model, state) == [name for name in state if "weight" in name or "bias" in name]


def test_the_report_counts_the_spikes_of_every_layer():
    report = night(trained()[0], config=SIMULATED)
    assert report.layers == ["0", "2", "4"]
    assert report.sizes == list(SIZES)
    assert len(report.spikes) == len(report.rates) == 4
    assert report.spikes[0] > 0
    assert report.rates == pytest.approx([s / (n * 120) for s, n in zip(report.spikes, SIZES, strict=True)])
    for per_layer in (report.scales, report.thresholds, report.inc, report.dec, report.potentiations):
        assert len(per_layer) == 3
    assert (report.fractions, report.answers) == ([], [])
    assert report.seconds > 0


def test_the_report_of_a_sleep_in_closed_form_says_what_was_taken_of_which_answers():
    model, _ = trained()
    state, mean = find_head(model, head="").read(), torch.from_numpy(MEAN).float()
    report = night(model)
    assert report.fractions == list(ClosedForm().fractions)
    assert report.answers == inhibit(state, mean, report.fractions).answers
    assert report.answers[0] == pytest.approx(float((state.weights[0] @ mean).relu().mean()))
    assert (report.spikes, report.rates, report.thresholds) == ([], [], [])
    told = ", ".join(f"{fraction:.0%}" for fraction in report.fractions)
    assert f"in closed form: units answer the mean input less by {told}, layer by layer" in str(report)


def test_the_report_measures_the_change_of_the_weights():
    model, before = trained()
    state = copies(model)
    report = night(model, before)
    names = [f"{layer}.weight" for layer in report.layers]
    now = model.state_dict()
    assert report.weight_change == pytest.approx([float((now[n] - state[n]).norm()) for n in names], rel=1e-5)
    assert report.weight_norm == pytest.approx([float(state[n].norm()) for n in names], rel=1e-5)


@pytest.mark.parametrize(
    "arguments", [{}, {"config": SleepConfig.preset("auto", steps=0)}, {"recall": 1.0}], ids=["slept", "no", "gate"]
)
def test_the_report_goes_through_json_unharmed(arguments):
    report = night(*trained(), **arguments)
    assert SleepReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report


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


def test_layers_that_are_frozen_do_not_sleep_and_the_cure_works():
    model, _ = trained()
    model.requires_grad_(False)
    state = copies(model)
    with pytest.raises(
        HeadNotFoundError, match=r"is frozen .*Unfreeze the model before: model.requires_grad_"
    ) as refusal:
        sleep(model, MEAN, PURE)
    assert changed(model, state) == []
    exec(str(refusal.value).partition("before: ")[2], {"model": model})
    sleep(model, MEAN, PURE)
    assert changed(model, state)


def test_of_a_head_that_ends_above_a_frozen_layer_the_report_says_so():
    model, _ = trained()
    model[0].requires_grad_(False)
    state = copies(model)
    report = sleep(model, MEAN[:1].repeat(model[2].in_features), PURE, head=["2", "4"], example=None)
    named = sleep(model, MEAN[:1].repeat(model[2].in_features), PURE, head="")
    assert "layers below" not in report.skipped
    assert named.skipped["layers below"] == "'0' (Linear) is frozen (requires_grad=False)"
    assert not [name for name in changed(model, state) if name.startswith("0.")]


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
