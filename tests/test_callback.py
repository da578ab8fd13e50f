"""SRCCallback in a plain Lightning Trainer: one sleep per fit, on the mean of the training batches."""

import warnings

import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.utils.data import TensorDataset

from callback_samples import ADVICE, QUICK, Whole, data, fit, loader, ways
from models import N_CLASSES, N_INPUTS, changed, copies, mlp
from src_plugin.callback import SRCCallback
from src_plugin.config import SleepConfig
from src_plugin.waking.observer import ONE_HEAD_PER_TASK

pytestmark = ADVICE


@ways
def test_a_fit_ends_in_one_sleep_that_changes_the_head(module, model):
    torch.manual_seed(0)
    slept, awake = module(), module()
    callback = SRCCallback(QUICK, model=model)
    fit(slept, callback)
    fit(awake)
    assert [report.decision for report in callback.reports] == ["slept"]
    assert changed(slept, copies(awake)) != []


@ways
@pytest.mark.parametrize("validate", [False, True], ids=["training only", "with validation"])
def test_the_mean_is_that_of_the_training_batches(fit_nights, module, model, validate):
    # Validation shows other, shifted inputs, before training (the sanity check) and in every epoch.
    fit(module(), SRCCallback(QUICK, model=model), validate=validate)
    assert_allclose(fit_nights[0].mean, data([0, 1]).tensors[0].double().mean(0), rtol=1e-6)


def test_two_fits_are_two_tasks(fit_nights):
    module, callback = Whole(), SRCCallback(QUICK)
    fit(module, callback, classes=(0, 1))
    left = module.net[0].weight.detach().clone()
    fit(module, callback, classes=(2, 3))
    first, second = fit_nights
    assert (first.new_classes, first.old_classes) == ((0, 1), ())
    assert (second.new_classes, second.old_classes) == ((2, 3), (0, 1))
    assert torch.equal(second.before.weights[0], left)
    assert [n.index for n in fit_nights] == [0, 1]
    assert_allclose(second.mean, data([0, 1, 2, 3]).tensors[0].double().mean(0), rtol=1e-6)
    assert len(callback.reports) == 2


def test_rehearsed_samples_judge_the_sleep_of_a_fit():
    module, callback = Whole(), SRCCallback(SleepConfig.preset("auto", balance_gate=False))
    fit(module, callback, classes=(0, 1))
    fit(module, callback, classes=(0, 1, 2, 3), shuffle=True)
    second = callback.reports[1]
    assert second.samples == [40, 40]  # of both epochs
    assert (second.decision == "slept") == (second.samples_after - second.samples_trained >= second.must_rise)
    assert second.exemplars == 10.0  # of a class, each seen in both epochs


class TaskHeads(Whole):
    """One output layer per task."""

    def __init__(self):
        super().__init__(mlp(N_INPUTS, 16))
        self.heads, self.task = nn.ModuleList(nn.Linear(16, N_CLASSES) for _ in range(2)), 0

    def forward(self, x):
        return self.heads[self.task](torch.relu(self.net(x)))


def test_one_output_layer_per_task_is_left_alone_from_the_second_on():
    module, twin = TaskHeads(), TaskHeads()
    twin.load_state_dict(module.state_dict())
    callback = SRCCallback(QUICK)
    fit(module, callback, classes=(0, 1))
    twin.load_state_dict(module.state_dict())
    module.task = twin.task = 1
    with pytest.warns(UserWarning, match="SRCCallback: TaskHeads has one head per task"):
        fit(module, callback, classes=(2, 3))
    fit(twin, classes=(2, 3))
    assert [report.decision for report in callback.reports] == ["slept", "awake"]
    assert callback.reports[1].reason == ONE_HEAD_PER_TASK
    assert callback.reports[1].layers == ["net.0", "heads.1"]
    assert changed(module, copies(twin)) == []


def test_targets_are_found_where_the_user_says():
    class Keyed(Whole):
        def training_step(self, batch, batch_idx):
            return super().training_step((batch[1], batch[0]), batch_idx)

    x, y = data([0, 1]).tensors
    callback = SRCCallback(QUICK, targets=lambda batch: batch[0])
    fit(Keyed(), callback, dataset=TensorDataset(y, x))
    assert callback.reports[0].decision == "slept"


def test_a_fit_that_trains_nothing_does_not_sleep():
    module, callback = Whole(), SRCCallback(QUICK)
    trainer = fit(module, callback)
    state = copies(module)
    trainer.fit(module, loader(data([2, 3])))  # the same trainer again: its two epochs are over
    assert len(callback.reports) == 1
    assert changed(module, state) == []


def test_a_model_left_in_eval_mode_between_two_fits_is_seen_all_the_same():
    # Lightning trains a module in the mode it finds it in, and evaluating between tasks is what everyone does.
    module, callback = Whole(), SRCCallback(QUICK)
    fit(module, callback)
    module.eval()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training", category=UserWarning)
        fit(module, callback, classes=(2, 3), max_epochs=5)
    assert [report.decision for report in callback.reports] == ["slept", "slept"]
