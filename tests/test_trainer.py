"""SRCTrainerCallback in Hugging Face's Trainer: what it saves has slept."""

import pytest
import torch
from torch import nn

from models import N_CLASSES, N_INPUTS, Blobs, changed, copies, hooks, mlp
from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError
from src_plugin.loop import SRC

transformers = pytest.importorskip(
    "transformers", reason="Hugging Face's Trainer is an extra, src-plugin[transformers]"
)
pytest.importorskip("accelerate", reason="Hugging Face's Trainer needs accelerate")
safetensors = pytest.importorskip("safetensors.torch")

from src_plugin.trainer import SRCTrainerCallback  # noqa: E402 - needs transformers

SLEEPS = SleepConfig.preset("auto", balance_gate=False)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


class Classifier(nn.Module):
    """As models of transformers do it: labels come in, the loss and the scores go out."""

    def __init__(self):
        super().__init__()
        self.net = mlp(N_INPUTS, 16, N_CLASSES)

    def forward(self, x, labels=None):
        logits = self.net(x)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def data(*classes):
    x, y = Blobs(10, 0).tensors
    return [{"x": x[i], "labels": y[i]} for i in range(len(y)) if int(y[i]) in classes]


def train(model, *callbacks, classes=(0, 1), folder, resume=None, **settings):
    args = transformers.TrainingArguments(
        str(folder), num_train_epochs=2, per_device_train_batch_size=8, report_to=[], use_cpu=True, seed=0,
        **{"save_strategy": "epoch", "disable_tqdm": True, **settings},
    )  # fmt: skip
    trainer = transformers.Trainer(
        model, args, train_dataset=data(*classes), eval_dataset=data(*classes), callbacks=list(callbacks)
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def begin(folder):
    torch.manual_seed(0)
    model, callback = Classifier(), SRCTrainerCallback(SLEEPS)
    train(model, callback, folder=folder / "first", save_strategy="no")
    return model, callback


def read(folder):
    weights = safetensors.load_file(folder / "model.safetensors")
    return {name: weights[name] for name in Classifier().state_dict()}


def test_a_train_ends_in_a_sleep_and_what_is_saved_has_slept(tmp_path):
    model, callback = begin(tmp_path)
    trainer = train(model, callback, classes=(2, 3), folder=tmp_path / "second")
    assert [report.decision for report in callback.reports] == ["slept", "slept"]
    trainer.save_model(tmp_path / "saved")
    assert changed(model, read(tmp_path / "saved")) == []
    assert changed(model, read(tmp_path / "second" / "checkpoint-6")) == []
    assert hooks(model) == 0
    assert trainer.state.log_history[-1]["sleep/slept"] == 1.0
    assert callback.summary() == "2 nights: 2 slept"


def test_it_gives_the_bits_of_a_plain_loop(tmp_path):
    model, callback = begin(tmp_path)
    torch.manual_seed(0)
    twin, awake = Classifier(), Classifier()
    awake.load_state_dict(twin.state_dict())
    seen = []
    handle = awake.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    train(awake, folder=tmp_path / "awake", save_strategy="no")
    handle.remove()
    src = SRC(twin, SLEEPS)
    with src.task():
        for number, batch in enumerate(seen):
            if number % 3 == 0:
                src.begin_epoch()
            twin(**batch)["loss"].backward()
        twin.load_state_dict(awake.state_dict())
    assert str(src.report.to_dict() | {"seconds": 0}) == str(callback.reports[0].to_dict() | {"seconds": 0})
    assert changed(model, copies(twin)) == []


def test_the_best_model_is_what_sleeps_and_its_checkpoint_has_slept(tmp_path):
    model, callback = begin(tmp_path)
    worse = {"metric_for_best_model": "eval_loss", "greater_is_better": True, "eval_strategy": "epoch"}
    trainer = train(model, callback, classes=(2, 3), folder=tmp_path / "second", load_best_model_at_end=True, **worse)
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-3")
    assert changed(model, read(tmp_path / "second" / "checkpoint-3")) == []
    assert changed(model, read(tmp_path / "second" / "checkpoint-6")) != []


def test_training_that_goes_on_from_a_checkpoint_gives_the_same_bits(tmp_path):
    model, callback = begin(tmp_path)
    train(model, callback, classes=(2, 3), folder=tmp_path / "second")
    torch.manual_seed(1)
    other, fresh = Classifier(), SRCTrainerCallback(SLEEPS, seed=99)
    train(other, fresh, classes=(2, 3), folder=tmp_path / "second", resume=str(tmp_path / "second" / "checkpoint-3"))
    assert changed(other, copies(model)) == []
    assert len(fresh.reports) == 2


def test_a_checkpoint_that_cannot_sleep_is_named(tmp_path):
    class Spoil(transformers.TrainerCallback):
        def on_train_end(self, args, state, control, **kwargs):
            (tmp_path / "second" / "checkpoint-6" / "model.safetensors").chmod(0o444)

    model, callback = begin(tmp_path)
    with pytest.warns(
        UserWarning, match=r"checkpoint-6' holds a network that has not slept: it is read-only.*save_model"
    ):
        train(model, Spoil(), callback, classes=(2, 3), folder=tmp_path / "second")


def test_another_model_is_refused(tmp_path):
    _, callback = begin(tmp_path)
    with pytest.raises(ConfigError, match="has watched another Classifier: give every Trainer"):
        train(Classifier(), callback, folder=tmp_path / "second")


def test_what_a_model_knows_is_told(tmp_path):
    torch.manual_seed(0)
    callback = SRCTrainerCallback(SLEEPS, seen=[0, 1], mean_input=Blobs(10, 0).tensors[0].mean(0))
    train(Classifier(), callback, classes=(2, 3), folder=tmp_path, save_strategy="no")
    assert not callback.reports[0].reason.startswith("first sleep")
    with pytest.raises(ConfigError, match="give class numbers from 0"):
        SRCTrainerCallback(SLEEPS, seen=[-1])


def test_training_that_broke_off_is_taken_up_by_the_next_one(tmp_path):
    class Break(transformers.TrainerCallback):
        def on_epoch_begin(self, args, state, control, **kwargs):
            if state.epoch:
                raise RuntimeError("out of memory")

    torch.manual_seed(0)
    model, callback = Classifier(), SRCTrainerCallback(SLEEPS)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(model, callback, Break(), folder=tmp_path / "first")
    train(model, callback, folder=tmp_path / "second")
    assert len(callback.reports) == 1
