"""A fit that goes on from a checkpoint gives the same bits as one that never stopped, or is refused."""

import pytest
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch import nn

from callback_samples import ADVICE, Whole
from models import N_CLASSES, N_INPUTS, changed, copies
from src_plugin.callback import SRCCallback
from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError, HeadNotFoundError
from test_callback_files import SLEEPS, SLEPT, fit, read

pytestmark = [
    *ADVICE,
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create:UserWarning"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch:UserWarning"),
]


class Normed(Whole):
    """Batch norm beside a layer of the head, whose statistics are kept over all experiences."""

    def __init__(self):
        super().__init__(
            nn.Sequential(nn.Linear(N_INPUTS, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, N_CLASSES))
        )


def begin(module):
    """A network that has slept once, and its callback."""
    torch.manual_seed(0)
    network, callback = module(), SRCCallback(SLEEPS)
    fit(network, callback, enable_checkpointing=False)
    return network, callback


def files_of(folder):
    return {read(path)["global_step"]: path for path in sorted(folder.iterdir())}


CASES = {
    # module, classes of the second task, what stands beside, step at which the fit goes on
    "after an epoch": (Whole, (2, 3), [], 3),
    "with rehearsal": (Whole, (0, 1, 2, 3), [], 5),
    "with batch norm": (Normed, (2, 3), [], 3),
    "beside an EMA": (Whole, (2, 3), [lambda: EMAWeightAveraging(decay=0.5)], 3),
}


@pytest.mark.parametrize(("module", "classes", "beside", "step"), CASES.values(), ids=CASES)
def test_a_fit_that_goes_on_from_a_file_gives_the_same_bits(tmp_path, module, classes, beside, step):
    network, callback = begin(module)
    each = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1)
    fit(network, callback, each, *(make() for make in beside), classes=classes, max_epochs=3)
    path = files_of(tmp_path)[step]
    assert SLEPT not in read(path)  # it is of the middle, and stays awake

    other, fresh = module(), SRCCallback(SLEEPS, seed=99)
    fit(
        other,
        fresh,
        *(make() for make in beside),
        classes=classes,
        max_epochs=3,
        ckpt_path=path,
        enable_checkpointing=False,
    )
    assert changed(other, copies(network)) == []
    assert [r.to_dict() | {"seconds": 0} for r in fresh.reports] == [
        r.to_dict() | {"seconds": 0} for r in callback.reports
    ]
    assert str(fresh.state_dict()["waking"]) == str(callback.state_dict()["waking"])
    assert callback.reports[1].decision == "slept"


def test_a_slept_file_goes_on_with_the_next_task_as_the_network_in_memory_does(tmp_path):
    network, callback = begin(Whole)
    each = ModelCheckpoint(tmp_path)
    fit(network, callback, each, classes=(2, 3))
    assert callback.state_dict()["waking"]["now"]["recent"]["inputs"] == []  # no input is kept
    other, fresh = Whole(), SRCCallback(SLEEPS)
    fit(other, fresh, ckpt_path=each.best_model_path, max_epochs=4, classes=(0, 1), enable_checkpointing=False)
    assert len(fresh.reports) == 3
    assert str(fresh.reports[1].to_dict()) == str(callback.reports[1].to_dict())
    assert fresh.state_dict()["waking"]["seen"] == [0, 1, 2, 3]


def test_another_config_is_refused_by_the_names_of_its_settings(tmp_path):
    network, callback = begin(Whole)
    saves = ModelCheckpoint(tmp_path)
    fit(network, callback, saves, classes=(2, 3))
    fresh = SRCCallback(SleepConfig.preset("auto", depth=0.5))
    with pytest.raises(ConfigError, match=r"depth=None \(now 0.5\).*balance_gate=False \(now True\)"):
        fit(Whole(), fresh, ckpt_path=saves.best_model_path, max_epochs=4, enable_checkpointing=False)
    other = Whole.load_from_checkpoint(saves.best_model_path)  # as the message says
    assert changed(other, copies(network)) == []
    fit(other, SRCCallback(SleepConfig.preset("auto", depth=0.5)), enable_checkpointing=False)


def test_another_head_is_refused_by_its_name(tmp_path):
    network, callback = begin(Whole)
    fit(network, callback, ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1), classes=(2, 3))
    named = SRCCallback(SLEEPS, head="net.2")
    with pytest.raises(HeadNotFoundError, match=r"of the head net.0, net.2 .*head='net.2' is named now: name the"):
        fit(Whole(), named, ckpt_path=files_of(tmp_path)[2], enable_checkpointing=False)


class Grown(Whole):
    """The same weights, and one more step between the layers that is no layer."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(self.net, nn.Identity())

    def on_load_checkpoint(self, checkpoint):
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name.replace("net.", "net.0."): value for name, value in state.items()}


def test_a_head_that_is_found_elsewhere_is_refused_in_the_first_batch(tmp_path):
    network, callback = begin(Whole)
    fit(network, callback, ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1), classes=(2, 3))
    with pytest.raises(HeadNotFoundError, match=r"began with the head net.0, net.2, and goes on with net.0.0, net.0.2"):
        fit(Grown(), SRCCallback(SLEEPS), ckpt_path=files_of(tmp_path)[2], enable_checkpointing=False)


class Stops(Whole):
    """Breaks off, or stops early, at the beginning of its second epoch."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.how(self.trainer)


def break_off(trainer):
    raise RuntimeError("out of memory")


def test_after_a_fit_that_broke_off_the_next_one_goes_on_with_the_same_task(fit_nights):
    torch.manual_seed(0)
    network, callback = Stops(break_off), SRCCallback(SLEEPS)
    first = copies(network)
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(network, callback, classes=(0, 1), enable_checkpointing=False)
    assert callback.reports == []
    network.how = lambda trainer: None
    fit(network, callback, classes=(0, 1), enable_checkpointing=False)
    (night,) = fit_nights
    assert (night.new_classes, night.old_classes, night.iterations) == ((0, 1), (), 3 + 6)
    assert torch.equal(night.before.weights[0], first["net.0.weight"])


def test_a_fit_that_was_stopped_early_sleeps():
    callback = SRCCallback(SLEEPS)
    fit(
        Stops(lambda trainer: setattr(trainer, "should_stop", True)), callback, enable_checkpointing=False, max_epochs=9
    )
    assert [report.decision for report in callback.reports] == ["slept"]
