"""SRCCallback above a backbone: what lies below the head stays as it is, or a warning says so."""

import copy

import pytest
import torch
from pytorch_lightning import Callback
from torch import nn

import callback_samples
from callback_samples import ADVICE, PURE, Whole, fit, ways
from models import N_CLASSES, N_INPUTS, Opaque, changed, copies, mlp
from src_plugin.callback import SRCCallback
from src_plugin.config import SleepConfig

pytestmark = ADVICE

FIRES = SleepConfig.preset("src_only", steps=400)  # so small a head needs a while until a unit fires


def on_a_backbone():
    torch.manual_seed(0)
    return nn.Sequential(Opaque(nn.Linear(N_INPUTS, 8), nn.BatchNorm1d(8), nn.ReLU()), mlp(8, N_CLASSES))


def test_all_below_the_head_stays_bit_identical_in_the_sleep():
    module = Whole(on_a_backbone())
    twin = copy.deepcopy(module)
    with pytest.warns(UserWarning, match="below the head"):
        fit(module, SRCCallback(FIRES))
    fit(twin)
    assert {name.rsplit(".", 1)[0] for name in changed(module, copies(twin))} == {"net.1.0"}


def test_a_backbone_that_is_trained_is_warned_of_once_at_the_line_of_the_user_and_told_in_every_report():
    module, callback = Whole(on_a_backbone()), SRCCallback(FIRES)
    with pytest.warns(UserWarning, match="SRCCallback: 4 parameters below the head.*'net.0.0.weight'") as caught:
        fit(module, callback, classes=(0, 1))
    (ours,) = (
        warning for warning in caught if "SRCCallback" in str(warning.message)
    )  # Lightning warns of this and that
    assert ours.filename == callback_samples.__file__
    fit(module, callback, classes=(2, 3))
    assert [report.backbone_trained for report in callback.reports] == [True, True]


class OnlyHead(Whole):
    """Gradients reach the backbone, but its optimizer has the head alone."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.net[1].parameters(), lr=0.1)


def test_a_backbone_that_the_optimizer_does_not_have_is_not_warned_of():
    module, callback = OnlyHead(on_a_backbone()), SRCCallback(FIRES)
    del module.net[0][1]  # its running statistics would move all the same
    fit(module, callback)
    assert module.net[0][0].weight.grad.any()
    assert not callback.reports[0].backbone_trained


def test_of_such_a_backbone_running_statistics_that_move_are_warned_of_once_and_told_in_every_report():
    module, callback = OnlyHead(on_a_backbone()), SRCCallback(FIRES)
    with pytest.warns(UserWarning, match=r"SRCCallback: buffers of 'net.0.1' \(BatchNorm1d\) below the head"):
        fit(module, callback, classes=(0, 1))
    fit(module, callback, classes=(2, 3))
    assert [report.backbone_trained for report in callback.reports] == [True, True]


HELD = {
    "a sleep": (FIRES, False),
    "every stage off": (SleepConfig.preset("auto", replay=False, settle=False, level=False), True),
}


@ways
@pytest.mark.parametrize(("config", "moves"), HELD.values(), ids=HELD)
def test_a_frozen_backbone_stays_bit_identical_in_training_unless_the_callback_is_off(module, model, config, moves):
    module, callback = module(on_a_backbone()), SRCCallback(config, model=model)
    module.net[0].requires_grad_(False)
    before = copies(module)
    fit(module, callback, classes=(0, 1), validate=True)
    fit(module, callback, classes=(2, 3))
    assert any(name.startswith("net.0.") for name in changed(module, before)) is moves
    assert [report.backbone_trained for report in callback.reports] == [False, False]  # when off, nobody looks


@ways
@pytest.mark.parametrize("name", ["net.0.0.bias", "net.1.0.weight"], ids=["below the head", "in the head"])
def test_training_that_diverged_is_told_by_the_name_in_the_module_and_not_slept_over(module, model, name):
    class Diverge(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            with torch.no_grad():
                pl_module.get_parameter(name).view(-1)[2] = float("nan")

    callback = SRCCallback(PURE, model=model)
    with pytest.warns(UserWarning, match=rf"'{name}' has 1 of .* NaN or infinite.*nothing was changed"):
        fit(module(on_a_backbone()), callback, Diverge(), max_epochs=1)
    assert [report.decision for report in callback.reports] == ["awake"]
