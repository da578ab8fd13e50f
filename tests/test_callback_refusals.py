"""SRCCallback refuses what cannot sleep in the first batch, before any weight changed."""

import copy

import pytest
from torch import nn
from torch.utils.data import TensorDataset

from callback_samples import ADVICE, PURE, QUICK, Part, Whole, data, fit
from models import N_CLASSES, N_INPUTS, changed, copies, hooks, mlp
from src_plugin.callback import SRCCallback
from src_plugin.errors import ConfigError, HeadNotFoundError, SRCError, StimulusError

pytestmark = ADVICE


class OnlyInputs(Whole):
    def training_step(self, batch, batch_idx):
        return self(batch[0]).square().sum()


def test_a_batch_without_targets_asks_where_they_are():
    module = OnlyInputs()
    state = copies(module)
    with pytest.raises(ConfigError, match=r"no targets in a batch.*SRCCallback\(targets=lambda batch"):
        fit(module, SRCCallback(QUICK), dataset=TensorDataset(data([0]).tensors[0]))
    assert changed(module, state) == []


def test_a_pure_sleep_needs_no_targets():
    callback = SRCCallback(PURE)
    fit(OnlyInputs(), callback, dataset=TensorDataset(data([0]).tensors[0]), max_epochs=1)
    assert callback.reports[0].decision == "slept"


def test_a_training_step_that_never_calls_the_model_asks_for_its_name():
    with pytest.raises(HeadNotFoundError, match=r"never called Part; name.*SRCCallback\(model='net'\)"):
        fit(Part(), SRCCallback(QUICK))


def test_an_unknown_part_is_refused_with_those_there_are():
    with pytest.raises(SRCError, match=r"SRCCallback\(model='nett'\): Whole has no such [a-z]+; it has \['net'\]"):
        fit(Whole(), SRCCallback(QUICK, model="nett"))


def test_negative_inputs_are_refused_by_a_simulated_sleep_before_any_weight_changed():
    module, (x, y) = Whole(), data([0, 1]).tensors
    state = copies(module)
    with pytest.raises(StimulusError, match=r"negative at 12 of 12 inputs.*Take the default, SleepConfig\(\)"):
        fit(module, SRCCallback("src_only"), dataset=TensorDataset(x - 2.0, y))
    assert changed(module, state) == []
    assert hooks(module) == 0


def test_a_model_without_a_head_is_refused_before_any_weight_changed():
    module = Whole(nn.Sequential(mlp(N_INPUTS, N_CLASSES), nn.GELU()))
    state = copies(module)
    with pytest.raises(HeadNotFoundError, match=r"'net.1' \(GELU\)"):
        fit(module, SRCCallback(QUICK))
    assert changed(module, state) == []
    assert hooks(module) == 0


class Bypass(nn.Module):
    """Has a head, and does not use it."""

    def __init__(self):
        super().__init__()
        self.used, self.head = nn.Linear(N_INPUTS, N_CLASSES), nn.Linear(N_INPUTS, N_CLASSES)

    def forward(self, x):
        return self.used(x)


def test_after_a_fit_of_which_nothing_passed_the_head_it_stays_awake():
    callback = SRCCallback(QUICK, head="net.head")
    with pytest.warns(UserWarning, match="SRCCallback: no sleep after this experience: nothing that was trained on"):
        fit(Whole(Bypass()), callback)
    assert [report.decision for report in callback.reports] == ["awake"]


def test_one_callback_over_another_network_is_refused_and_the_cures_work():
    module, callback = Whole(), SRCCallback(QUICK)
    fit(module, callback)
    other = Whole()
    state = copies(other)
    with pytest.raises(ConfigError, match=r"of another Whole, .*use a new SRCCallback\(\).*load_state_dict\(old.state"):
        fit(other, callback, classes=(2, 3))
    assert changed(other, state) == []
    fit(other, SRCCallback(QUICK))
    going_on = SRCCallback(QUICK)
    going_on.load_state_dict(callback.state_dict())
    fit(Whole(), going_on, classes=(2, 3))
    assert going_on.summary().startswith("2 nights")


def test_one_callback_goes_on_with_a_copy_of_its_network_and_with_what_was_trained_since():
    module, callback = Whole(), SRCCallback(QUICK)
    fit(module, callback)
    copied = copy.deepcopy(module)
    fit(copied, callback, classes=(2, 3))
    fit(copied)
    fit(copied, callback, classes=(0, 2))
    assert callback.summary().startswith("3 nights")


def test_a_new_callback_on_a_network_that_has_slept_is_warned_of_and_told_what_it_knows():
    module = Whole()
    fit(module, SRCCallback(QUICK))
    with pytest.warns(UserWarning, match="SRCCallback: this Whole has slept under another object.*use one for all"):
        fit(module, SRCCallback(QUICK), classes=(2, 3))
    callback = SRCCallback(QUICK, seen=[0, 1], mean_input=data([0, 1]).tensors[0].mean(0))
    fit(module, callback, classes=(2, 3))
    assert not callback.reports[0].reason.startswith("first sleep")
    with pytest.raises(ConfigError, match="give class numbers from 0"):
        SRCCallback(QUICK, seen=[-1])
