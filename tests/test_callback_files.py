"""What a user keeps of a fit has slept: files, averages of weights, whatever the order of callbacks."""

import csv
import os
import warnings
from itertools import permutations

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint, StochasticWeightAveraging
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins.io import AsyncCheckpointIO

from callback_samples import ADVICE, Whole, data, loader
from models import changed, copies
from src_plugin.callback import SRCCallback
from src_plugin.config import SleepConfig
from src_plugin.files.results import SLEPT

pytestmark = [
    *ADVICE,
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning"),
    pytest.mark.filterwarnings("ignore:The `lr` parameter has been deprecated:UserWarning"),
]


SLEEPS = SleepConfig.preset("auto", balance_gate=False)
"""So small a network need not be balanced after so short a training; here it is, so that there is something to see."""


class Scored(Whole):
    """Epoch 0 is the best one, as a monitor has it."""

    def training_step(self, batch, batch_idx):
        self.log("score", float(-self.current_epoch))
        return super().training_step(batch, batch_idx)

    def test_step(self, batch, batch_idx):
        self.log("right", (self(batch[0]).argmax(1) == batch[1]).float().mean())


def fit(module, *callbacks, classes=(0, 1), ckpt_path=None, **settings):
    trainer = Trainer(
        **{"max_epochs": 2, "logger": False, "enable_progress_bar": False, **settings}, accelerator="cpu",
        enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip
    with warnings.catch_warnings():  # a module that was tested is in eval mode when the next fit begins
        warnings.filterwarnings("ignore", message=".*in eval mode at the start", category=UserWarning)
        trainer.fit(module, loader(data(list(classes))), ckpt_path=ckpt_path)
    return trainer


def two_tasks(*callbacks, module=None, **settings):
    """Two fits with the same callbacks; the second one is the one that is looked at."""
    torch.manual_seed(0)
    module = Scored() if module is None else module
    fit(module, *(c for c in callbacks if isinstance(c, SRCCallback)), enable_checkpointing=False)
    return module, fit(module, *callbacks, classes=(2, 3), **settings)


def read(path):
    return torch.load(path, weights_only=True)


def test_with_the_defaults_of_lightning_the_file_that_is_kept_is_the_slept_network(tmp_path):
    callback = SRCCallback(SLEEPS)
    module, trainer = two_tasks(callback, default_root_dir=tmp_path)
    assert [report.decision for report in callback.reports] == ["slept", "slept"]
    path = trainer.checkpoint_callback.best_model_path
    assert changed(module, read(path)["state_dict"]) == []
    fresh = Scored.load_from_checkpoint(path)
    assert changed(module, copies(fresh)) == []


def test_the_last_and_the_best_file_have_slept_each_on_its_own_weights(tmp_path):
    def kept(folder, sleeper):
        best = ModelCheckpoint(tmp_path / folder, monitor="score", mode="max")
        last = ModelCheckpoint(tmp_path / folder / "each", save_top_k=-1)
        torch.manual_seed(0)
        module = Scored()
        fit(module, first := SRCCallback(SLEEPS), enable_checkpointing=False)
        fit(module, *([first] if sleeper else []), best, last, classes=(2, 3))
        return module, read(best.best_model_path), read(last.best_model_path)

    module, best, last = kept("slept", True)
    _, awake_best, awake_last = kept("awake", False)
    assert (best["epoch"], last["epoch"]) == (0, 1)
    assert changed(module, last["state_dict"]) == []
    for awake, slept in ((awake_best, best), (awake_last, last)):
        assert {"net.0.weight", "net.2.weight"} <= set(changed_names(slept["state_dict"], awake["state_dict"]))
    assert changed_names(best["state_dict"], last["state_dict"]) == list(last["state_dict"])


def changed_names(one, other):
    return [name for name in one if not torch.equal(one[name], other[name])]


def test_the_best_file_is_what_a_fit_that_ended_there_would_have_left(tmp_path):
    saves = ModelCheckpoint(tmp_path, monitor="score", mode="max")
    module, _ = two_tasks(SRCCallback(SLEEPS), saves)
    shorter, _ = two_tasks(SRCCallback(SLEEPS), enable_checkpointing=False, max_epochs=1)
    best = read(saves.best_model_path)["state_dict"]
    # Not quite: the later epoch counts in the mean, and other inputs are the last ones.
    assert distance(best, shorter.state_dict()) < distance(best, module.state_dict())


def distance(one, other):
    return sum(float((one[name] - other[name]).square().sum()) for name in one) ** 0.5


def test_a_test_of_the_best_file_tests_the_slept_network_and_leaves_the_callback_as_it_is(tmp_path):
    callback, saves = SRCCallback(SLEEPS), ModelCheckpoint(tmp_path, monitor="score", mode="max")
    module, trainer = two_tasks(callback, saves)
    slept = read(saves.best_model_path)["state_dict"]
    before = callback.state_dict()
    trainer.test(module, loader(data([0, 1, 2, 3])), ckpt_path="best", verbose=False)
    assert changed(module, slept) == []
    assert str(callback.state_dict()) == str(before)


AVERAGES = {
    "EMA": lambda: EMAWeightAveraging(decay=0.5),
    "SWA": lambda: StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1),
    "none": None,
}


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)
def test_the_order_of_callbacks_makes_no_difference(tmp_path, average):
    left = []
    for number, order in enumerate(permutations(range(3 if average else 2))):
        saves = ModelCheckpoint(tmp_path / str(number), save_last=True)
        callbacks = [SRCCallback(SLEEPS), saves, *([average()] if average else [])]
        module, trainer = two_tasks(*(callbacks[i] for i in order))
        left.append(
            [module.state_dict(), *(read(p)["state_dict"] for p in (saves.best_model_path, saves.last_model_path))]
        )
        assert isinstance(trainer.callbacks[-1], SRCCallback)
    for others in left[1:]:
        for one, other in zip(left[0], others, strict=True):
            assert changed_names(one, other) == []


def test_the_average_of_an_ema_has_slept_in_memory_in_its_file_and_in_files_of_later(tmp_path):
    saves = ModelCheckpoint(tmp_path, save_last=True)
    module, trainer = two_tasks(SRCCallback(SLEEPS), EMAWeightAveraging(decay=0.5), saves)
    slept = copies(module)
    file = read(saves.last_model_path)
    assert changed_names(file["state_dict"], slept) == changed_names(file["current_model_state"], slept) == []
    trainer.save_checkpoint(tmp_path / "mine.ckpt")
    assert changed_names(read(tmp_path / "mine.ckpt")["state_dict"], slept) == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.validate(module, loader(data([2])), verbose=False)  # it swaps the average in
    assert changed(module, slept) == []


def test_files_written_in_a_thread_have_slept(tmp_path):
    saves = ModelCheckpoint(tmp_path, save_last=True)
    module, _ = two_tasks(SRCCallback(SLEEPS), saves, plugins=[AsyncCheckpointIO()])
    assert changed(module, read(saves.last_model_path)["state_dict"]) == []
    assert sorted(os.listdir(tmp_path)) == ["epoch=1-step=6.ckpt", "last.ckpt"]


def test_a_link_to_the_best_file_stays_a_link(tmp_path):
    saves = ModelCheckpoint(tmp_path, save_last="link")
    module, _ = two_tasks(SRCCallback(SLEEPS), saves)
    assert os.path.islink(saves.last_model_path)
    assert changed(module, read(saves.last_model_path)["state_dict"]) == []


def test_files_of_weights_alone_have_slept(tmp_path):
    saves = ModelCheckpoint(tmp_path, save_weights_only=True)
    module, _ = two_tasks(SRCCallback(SLEEPS), saves)
    file = read(saves.best_model_path)
    assert changed(module, file["state_dict"]) == []
    assert (file[SLEPT], "callbacks" in file) == (2, False)


def test_a_file_that_stays_the_best_through_the_next_fit_sleeps_once(tmp_path):
    callback, saves = SRCCallback(SLEEPS), ModelCheckpoint(tmp_path, monitor="score", mode="max")
    module = Scored()
    fit(module, callback, saves)
    best = saves.best_model_path
    after = read(best)["state_dict"]
    fit(module, callback, saves, classes=(2, 3))
    assert saves.best_model_path == best
    assert changed_names(read(best)["state_dict"], after) == []


SPOILT = {
    "moved": (lambda path: os.rename(path, f"{path}.moved"), "no longer there"),
    "read-only": (lambda path: os.chmod(path, 0o444), "read-only"),
    "torn": (lambda path: os.truncate(path, 100), "holds a network that has not slept"),
}


@pytest.mark.parametrize(("spoil", "why"), SPOILT.values(), ids=SPOILT)
def test_a_file_that_cannot_sleep_is_named_and_the_fit_goes_well(tmp_path, spoil, why):
    class Spoil(ModelCheckpoint):
        def on_train_end(self, trainer, pl_module):
            super().on_train_end(trainer, pl_module)
            spoil(self.best_model_path)

    saves = Spoil(tmp_path)
    with pytest.warns(UserWarning, match=rf"SRCCallback: .*epoch=1-step=6.ckpt'.*{why}.*trainer.save_checkpoint"):
        module, trainer = two_tasks(SRCCallback(SLEEPS), saves)
    assert trainer.state.finished
    trainer.save_checkpoint(tmp_path / "mine.ckpt")  # as the warning says
    assert changed(module, read(tmp_path / "mine.ckpt")["state_dict"]) == []


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space left on device")))
    saves = ModelCheckpoint(tmp_path)
    with pytest.warns(UserWarning, match="no space left on device"):
        two_tasks(SRCCallback(SLEEPS), saves)
    assert SLEPT not in read(saves.best_model_path)
    assert len(os.listdir(tmp_path)) == 1


def test_loggers_metrics_and_the_progress_bar_tell_what_a_sleep_did(tmp_path, capsys):
    logger, callback = CSVLogger(tmp_path), SRCCallback(SLEEPS)
    torch.manual_seed(0)
    trainer = fit(Scored(), callback, logger=logger, log_every_n_steps=1, enable_progress_bar=True)
    (report,) = callback.reports
    with open(tmp_path / "lightning_logs" / "version_0" / "metrics.csv", newline="") as file:
        row = list(csv.DictReader(file))[-1]
    assert callback.summary() == "1 night: 1 slept"
    assert float(row["sleep/slept"]) == trainer.callback_metrics["sleep/slept"] == 1.0
    assert float(row["sleep/depth"]) == pytest.approx(report.strength)
    assert float(row["sleep/seconds"]) == pytest.approx(report.seconds)
    assert int(row["step"]) == trainer.global_step
    assert f"SRCCallback slept: {report.reason}" in "".join(capsys.readouterr())


def test_with_zero_steps_the_weights_in_files_are_as_without_the_callback(tmp_path):
    files = []
    for callbacks in ([], [SRCCallback(SleepConfig.preset("auto", steps=0))]):
        torch.manual_seed(0)
        saves = ModelCheckpoint(tmp_path / str(len(callbacks)))
        fit(Scored(), *callbacks, saves)
        files.append(read(saves.best_model_path)["state_dict"])
    assert changed_names(*files) == []


def test_a_fit_that_breaks_off_leaves_files_that_have_not_slept(tmp_path):
    class Break(Scored):
        def on_train_epoch_start(self):
            if self.current_epoch == 1:
                raise RuntimeError("out of memory")

    saves, module = ModelCheckpoint(tmp_path), Break()
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(module, SRCCallback(SLEEPS), saves)
    assert SLEPT not in read(saves.best_model_path)
