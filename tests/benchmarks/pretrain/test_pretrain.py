"""Pretraining: an epoch is what seed and number make it, so that no interruption can be seen in the weights."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file

from benchmarks.__main__ import main
from benchmarks.configs.backbone import BackboneConfig
from benchmarks.errors import DataError, TrainingError
from benchmarks.features.backbones import build_backbone
from benchmarks.features.dataset import check_weights_file
from benchmarks.features.vgg import PaperVGG
from benchmarks.pretrain.module import VGGModule
from benchmarks.tracking.settings import WandbSettings
from image_samples import as_zip
from places import ROOT
from pretrain_samples import TINY, about, coloured, coloured_images, config, same, train
from src_plugin.errors import ConfigError


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images of four classes."""
    return coloured_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def uninterrupted(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished pretraining."""
    out = tmp_path_factory.mktemp("out")
    train(config(), images, out)
    return out


# --- whole trainings --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_and_says_what_it_made(uninterrupted: Path, images: Path, tmp_path: Path) -> None:
    out = StringIO()
    console = Console(file=out, width=200)
    weights = train(config(epochs=10), images, tmp_path, console=console)
    network = PaperVGG(8)
    network.load_state_dict(weights)
    said = about(tmp_path)
    assert said["accuracy"]["held_out"] > 0.5  # of four classes
    assert said["accuracy"]["test"] * 40 == int(said["accuracy"]["test"] * 40)
    assert said["config"]["epochs"] == said["epochs"] == 10
    assert said["images"]["n"] == {"train": 160, "held_out": 40, "test": 40}
    assert said["images"]["sha256"] == about(uninterrupted)["images"]["sha256"]
    assert 0 < said["seconds"] < 600
    file = tmp_path / "tiny" / "backbone.safetensors"
    assert said["weights_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert str(tmp_path) not in json.dumps(said)
    lines = out.getvalue().splitlines()
    assert [line.split(":")[1] for line in lines[:-1]] == [f" epoch {i} of 10" for i in range(1, 11)]
    assert f"test {100 * said['accuracy']['test']:.2f} %" in lines[-1]


@pytest.mark.slow
def test_the_best_epoch_on_held_out_images_is_kept(images: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def spoil(self: VGGModule) -> None:
        if self.current_epoch == 9:
            for parameter in self.parameters():
                torch.nn.init.zeros_(parameter)  # from which no step leads away

    monkeypatch.setattr(VGGModule, "on_train_epoch_start", spoil)
    weights = train(config(epochs=10), images, tmp_path)
    assert about(tmp_path)["best_epoch"] < 10
    assert about(tmp_path)["accuracy"]["held_out"] > 0.5
    assert all(weight.any() for weight in weights.values())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    uninterrupted: Path, images: Path, tmp_path: Path
) -> None:
    first = load_file(uninterrupted / "tiny" / "backbone.safetensors")
    torch.manual_seed(123)  # what came before is of no consequence
    before = torch.get_rng_state()
    assert same(train(config(), images, tmp_path / "again"), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(train(config(seed=1), images, tmp_path / "other"), first)


def test_after_ctrl_c_it_goes_on_to_the_same_weights(
    uninterrupted: Path, images: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    real = VGGModule.training_step

    def interrupted(self: VGGModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if (self.current_epoch, batch_idx) == (1, 2):
            raise KeyboardInterrupt
        return real(self, batch, batch_idx)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(VGGModule, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config(), images, tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not (tmp_path / "tiny" / "tiny.json").exists()
    steps: list[int] = []
    monkeypatch.setattr(VGGModule, "training_step", lambda *args: steps.append(args[0].global_step) or real(*args))
    weights = train(config(), images, tmp_path)
    assert steps == [4, 5, 6, 7]  # the second epoch alone
    assert same(weights, load_file(uninterrupted / "tiny" / "backbone.safetensors"))
    assert about(tmp_path)["accuracy"] == about(uninterrupted)["accuracy"]


KILLED = """
import os, signal, sys
from pathlib import Path
from benchmarks.pretrain.train import pretrain
from benchmarks.pretrain.config import PretrainConfig
from benchmarks.pretrain.module import VGGModule
real = VGGModule.training_step
def killed(self, batch, batch_idx):
    if (self.current_epoch, batch_idx) == (1, 2):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, batch, batch_idx)
VGGModule.training_step = killed
config, (images, out) = PretrainConfig.model_validate_json(sys.argv[1]), map(Path, sys.argv[2:])
pretrain(config, data_root=images, out=out, accelerator="cpu", threads=1)
"""


@pytest.mark.slow
def test_after_a_kill_it_goes_on_to_the_same_weights(uninterrupted: Path, images: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLED, config().model_dump_json(), str(images), str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert {path.name for path in (tmp_path / "tiny").rglob("*")} == {"states", "best.ckpt", "last.ckpt"}
    assert same(train(config(), images, tmp_path), load_file(uninterrupted / "tiny" / "backbone.safetensors"))


@pytest.mark.slow
def test_what_is_done_is_not_done_again_unless_asked_for(images: Path, tmp_path: Path, monkeypatch: Any) -> None:
    first = train(config(), images, tmp_path)
    steps: list[int] = []
    real = VGGModule.training_step
    monkeypatch.setattr(VGGModule, "training_step", lambda *args: steps.append(1) or real(*args))
    out = StringIO()
    train(config(), images, tmp_path, console=Console(file=out, width=300))
    assert steps == []
    assert "already done" in out.getvalue()
    train(config(), images / "not here", tmp_path)  # nor are the images needed
    (tmp_path / "tiny" / "backbone.safetensors").write_bytes(b"torn")
    assert same(train(config(), images, tmp_path), first)  # made again, from the best state
    assert steps == []
    assert same(train(config(), images, tmp_path, resume=False), first)
    assert len(steps) == 8


@pytest.mark.slow
def test_another_training_under_the_same_name_is_refused(
    images: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    train(config(), images, tmp_path)
    finished = (tmp_path / "tiny" / "tiny.json").read_bytes()
    with pytest.raises(TrainingError, match=r"tiny\.json is of another training: lr differ.*--restart"):
        train(config(lr=0.01), images, tmp_path)
    others = as_zip(tmp_path_factory.mktemp("others") / "colours.zip", other_images()).parent
    with pytest.raises(TrainingError, match=r"of another training: the images differ"):
        train(config(), others, tmp_path)
    assert (tmp_path / "tiny" / "tiny.json").read_bytes() == finished
    (tmp_path / "tiny" / "tiny.json").unlink()
    with pytest.raises(TrainingError, match=r"the state on disk is of another training: epochs, lr differ"):
        train(config(lr=0.01, epochs=3), images, tmp_path)
    with pytest.raises(DataError):
        train(config(lr=0.01), images / "not here", tmp_path, resume=False)
    assert (tmp_path / "tiny" / "states" / "last.ckpt").is_file()  # nothing is forgotten for images there are not
    train(config(lr=0.01), images, tmp_path, resume=False)
    assert about(tmp_path)["config"]["lr"] == 0.01


def other_images() -> dict[str, bytes]:
    return {f"{split}/{name}/{i}.png": coloured(0, i) for split in ("train", "test") for name in "ab" for i in range(9)}


@pytest.mark.slow
def test_seconds_that_are_spent_end_it_with_the_schedule_at_its_end(
    images: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    rates: list[float] = []

    def slow(self: VGGModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        time.sleep(0.1)

    monkeypatch.setattr(VGGModule, "on_train_batch_end", slow)
    train(config(epochs=1000, schedule="cosine", warm_up=0.0), images, tmp_path, max_seconds=2.0)
    said = about(tmp_path)
    assert 0 < said["epochs"] == len(rates) / 4 < 10
    assert said["max_seconds"] == 2.0
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.015
    assert rates[-1] < 0.005


def test_no_seconds_are_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_seconds must be above 0"):
        train(config(), images, tmp_path, max_seconds=0.0)


def test_a_training_that_diverges_says_so_and_leaves_no_backbone(images: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"tiny: the loss is (nan|inf) in epoch 1: .*smaller lr than 1e\+12"):
        train(config(lr=1e12, warm_up=0.0), images, tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.slow
def test_weights_and_biases_offline_stays_in_the_folder_and_asks_nothing(
    images: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    pytest.importorskip("wandb")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    environment = dict(os.environ)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked something"))
    train(config(), images, tmp_path / "out", wandb=WandbSettings(mode="offline"))
    [run] = (tmp_path / "out" / "tiny" / "wandb").glob("offline-run-*")
    [file] = run.glob("*.wandb")
    for name in (b"train_loss", b"held_out_accuracy", b"test_accuracy"):
        assert name in file.read_bytes()
    assert list(here.iterdir()) == []
    assert dict(os.environ) == environment


@pytest.mark.slow
def test_the_command_trains_prints_what_a_config_needs_and_begins_anew_when_asked(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "epochs": 1}), encoding="utf-8")
    command = ["pretrain", str(path), "--out", str(tmp_path / "w"), "--data-root", str(images), "--accelerator", "cpu"]
    assert main(command) == 0
    weights = tmp_path / "w" / "tiny" / "backbone.safetensors"
    said = capsys.readouterr().out
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert f"backbone:\n  name: paper_vgg\n  weights: {weights}\n  weights_sha256: {digest}\n" in said
    backbone = BackboneConfig(name="paper_vgg", weights=str(weights), weights_sha256=digest, image_size=8)
    check_weights_file(backbone)
    assert build_backbone(backbone).n_features == 128

    assert main(command) == 0
    assert "already done" in capsys.readouterr().out
    path.write_text(yaml.safe_dump({**TINY, "epochs": 1, "seed": 1}), encoding="utf-8")
    assert main(command) == 2
    assert "seed differ. Give the config another name, or begin anew: --restart" in capsys.readouterr().err
    assert main([*command, "--restart"]) == 0
    assert hashlib.sha256(weights.read_bytes()).hexdigest() != digest


def test_nothing_is_written_outside_of_its_folder(images: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    train(config(), images, Path("../out"))
    assert list(Path().iterdir()) == []
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    states = {"out/tiny/states/best.ckpt", "out/tiny/states/last.ckpt"}
    assert files == {*states, "out/tiny/backbone.safetensors", "out/tiny/tiny.json"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12 and later
def test_two_processes_train_as_one_does(images: Path, tmp_path: Path) -> None:
    # Dropout is drawn by each device for itself; without it only the order of sums differs.
    alone = train(config(dropout=0.0), images, tmp_path / "one")
    shared = train(config(dropout=0.0), images, tmp_path / "two", devices=2, strategy="ddp_fork")
    for name, weight in alone.items():
        torch.testing.assert_close(shared[name], weight, rtol=1e-3, atol=1e-5)
    assert about(tmp_path / "two")["accuracy"] == about(tmp_path / "one")["accuracy"]
