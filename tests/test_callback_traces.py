"""SRCCallback leaves no trace but the slept head, and goes on where it was saved."""

import pytest
import torch
from numpy.testing import assert_allclose
from pytorch_lightning import Callback
from torch import nn
from torch.overrides import _len_torch_function_stack

from callback_samples import ADVICE, QUICK, SIMULATED, Whole, fit
from models import N_CLASSES, N_INPUTS, changed, copies, global_states, hooks, mlp
from src_plugin.callback import SRCCallback
from src_plugin.config import SleepConfig

pytestmark = ADVICE


def test_zero_steps_are_bit_identical_to_no_callback():
    torch.manual_seed(0)
    without = Whole()
    fit(without, shuffle=True)
    states = global_states()
    torch.manual_seed(0)
    module, callback = Whole(), SRCCallback(SleepConfig.preset("simulated", steps=0))
    fit(module, callback, shuffle=True)
    assert changed(module, copies(without)) == []
    assert global_states() == states
    assert callback.reports[0].reason == "zero steps"


def test_no_hook_is_left_after_a_fit():
    module, stack = Whole(), _len_torch_function_stack()
    fit(module, SRCCallback(QUICK), validate=True)
    assert hooks(module) == 0
    assert _len_torch_function_stack() == stack


class BreakDown(Callback):
    """Raises in a training batch, after or before the callback has set up its watch."""

    def __init__(self, error, batch, at):
        self.error, self.batch = error, batch
        setattr(self, at, self.strike)

    def strike(self, trainer, pl_module, *args, **kwargs):
        if self.batch == 0:
            raise self.error
        self.batch -= 1


@pytest.mark.parametrize("at", ["on_train_batch_start", "on_before_zero_grad"])
@pytest.mark.parametrize("batch", [0, 2])
def test_an_exception_in_training_leaves_no_hook_and_no_sleep(fit_nights, batch, at):
    module, callback, stack = Whole(), SRCCallback(QUICK), _len_torch_function_stack()
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(module, callback, BreakDown(RuntimeError("out of memory"), batch, at))
    assert hooks(module) == 0
    assert _len_torch_function_stack() == stack
    assert fit_nights == callback.reports == []


class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("out of memory")


def test_a_forward_pass_that_raises_leaves_no_hook_and_no_mode():
    module, stack = Whole(nn.Sequential(mlp(N_INPUTS, N_CLASSES), Broken())), _len_torch_function_stack()
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(module, SRCCallback(QUICK))
    assert hooks(module) == 0
    assert _len_torch_function_stack() == stack


def test_an_interrupt_by_the_user_leaves_no_hook_and_no_sleep(fit_nights):
    module, callback, stack = Whole(), SRCCallback(QUICK), _len_torch_function_stack()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(module, callback, BreakDown(KeyboardInterrupt(), 1, "on_train_batch_start"))
    assert hooks(module) == 0
    assert _len_torch_function_stack() == stack
    assert fit_nights == []


SLEEPS = {
    "closed form": (QUICK, "src_plugin.night.stages.inhibit"),
    "simulated": (SIMULATED, "src_plugin.night.replay.simulate"),
}


@pytest.mark.parametrize(("config", "function"), SLEEPS.values(), ids=SLEEPS)
def test_an_exception_in_the_sleep_leaves_the_trained_network(monkeypatch, config, function):
    module, seen = Whole(), []

    def broken(*args, **kwargs):
        seen.append(copies(module))
        raise RuntimeError("broken")

    monkeypatch.setattr(function, broken)
    with pytest.raises(RuntimeError, match="broken"):
        fit(module, SRCCallback(config))
    assert changed(module, seen[0]) == []


def test_its_state_carries_mean_classes_and_noise_to_another_process(fit_nights):
    torch.manual_seed(0)
    one, other = Whole(), Whole()
    first = SRCCallback(QUICK)
    fit(one, first, classes=(0, 1))
    other.load_state_dict(one.state_dict())
    second = SRCCallback(QUICK, seed=99)
    second.load_state_dict(first.state_dict())
    fit(one, first, classes=(2, 3))
    fit(other, second, classes=(2, 3))
    assert changed(other, copies(one)) == []
    assert fit_nights[2].old_classes == (0, 1)
    assert_allclose(fit_nights[2].mean, fit_nights[1].mean, rtol=0)


def test_its_state_is_in_the_checkpoints_of_the_trainer(fit_nights, tmp_path):
    module, callback = Whole(), SRCCallback(QUICK)
    fit(module, callback).save_checkpoint(tmp_path / "task.ckpt")
    saved = torch.load(tmp_path / "task.ckpt", weights_only=False)["callbacks"]["SRCCallback"]
    fresh = SRCCallback(QUICK, seed=99)
    fresh.load_state_dict(saved)
    fit(module, fresh, classes=(2, 3))
    assert fit_nights[1].old_classes == (0, 1)
