"""Pretraining: an epoch is what seed and number make it, so that no interruption can be seen in the weights."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from benchmarks.__main__ import main
from benchmarks.data import DataError
from benchmarks.features.backbones import build_backbone
from benchmarks.features.config import BackboneConfig
from benchmarks.features.dataset import check_weights_file
from benchmarks.features.image_sets import IMAGE_SETS, load_images
from benchmarks.features.pretrain import pretrain
from benchmarks.features.pretrain_config import PretrainConfig, load_pretrain_config
from benchmarks.features.pretrain_data import Crops, Draws, ImageDataModule, cut, hold_out, open_all
from benchmarks.features.pretrain_module import TrainingError, VGGModule, lr_factor
from benchmarks.features.vgg import PaperVGG
from benchmarks.wandb_settings import WandbSettings
from image_samples import as_folder, as_zip, coded
from src_plugin.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
TINY: dict[str, Any] = {
    **{"name": "tiny", "dataset": "image_folder", "folder": ["colours.zip"], "image_size": 8},
    **{"epochs": 2, "batch_size": 40, "lr": 0.02, "warm_up": 0.1, "dropout": 0.2, "hold_out": 0.2},
    "augmentation": {"crop_padding": 1},
}


def config(**changes: Any) -> PretrainConfig:
    return PretrainConfig.model_validate({**TINY, **changes})


def coloured(label: int, seed: int) -> bytes:
    """Return an image of 8 x 8 pixels, noisy, with one of its colours, or none, brighter: the class."""
    pixels = np.random.default_rng([label, seed]).integers(0, 128, (8, 8, 3))
    pixels[..., :label][..., -1:] += 100
    return coded_pixels(pixels.astype(np.uint8))


def coded_pixels(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with colours.zip: 200 training and 40 test images of four classes."""
    folder = tmp_path_factory.mktemp("images")
    counts = {"train": 50, "test": 10}
    files = {
        f"{split}/class{label}/{i:02d}.png": coloured(label, 100 * (split == "test") + i)
        for split, n in counts.items()
        for label in range(4)
        for i in range(n)
    }
    as_zip(folder / "colours.zip", files)
    return folder


def train(config: PretrainConfig, images: Path, out: Path, **settings: Any) -> dict[str, torch.Tensor]:
    """Pretrain on the CPU and return the weights, in memory: `load_file` leaves them in the file, which may change."""
    path = pretrain(config, data_root=images, out=out, **{"accelerator": "cpu", **settings})
    return {name: weight.clone() for name, weight in load_file(path).items()}


def about(out: Path) -> dict[str, Any]:
    return json.loads((out / "tiny" / "tiny.json").read_text())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def uninterrupted(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished pretraining."""
    out = tmp_path_factory.mktemp("out")
    train(config(), images, out)
    return out


# --- the config -------------------------------------------------------------------------------------------------------

CONFIGS = sorted((ROOT / "configs" / "backbones").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_of_the_laboratory_is_valid_and_names_images_there_are(path: Path) -> None:
    loaded = load_pretrain_config(path)
    assert loaded.name == path.stem
    assert loaded.dataset in IMAGE_SETS
    assert PaperVGG(loaded.image_size).n_features == 2048


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("learning_rate: 0.1", r"unknown key 'learning_rate'"),
        ("augmentation: {crop_paddin: 4}", r"augmentation.crop_paddin'; did you mean 'crop_padding'"),
        ("lr: 1e-3", r"write 0.001 or 1.0e-3"),
        ("schedule: cosin", r"'constant' or 'cosine'"),
        ("hold_out: 0.0", r"hold_out: .*greater than 0"),
        ("image_size: 30", r"image_size: .*multiple of 8"),
        ("augmentation: {crop_padding: 32}", r"nothing but black; 4 is usual"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_file_and_the_cure(tmp_path: Path, text: str, cure: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"dataset: cifar100\nepochs: 1\nbatch_size: 10\nlr: 0.1\n{text}\n".replace("lr: 0.1\nlr", "lr"))
    with pytest.raises(ConfigError, match=cure) as caught:
        load_pretrain_config(path)
    assert str(path) in str(caught.value)


def test_a_missing_config_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "vgg_mine.yaml").write_text("epochs: 1")
    with pytest.raises(ConfigError, match=r"did you mean 'vgg_mine.yaml'"):
        load_pretrain_config(tmp_path / "vgg_mime.yaml")


# --- learning rate ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "progress", "factor"),
    [
        ("cosine", 0.05, 0.5),  # half of the warm-up
        ("cosine", 0.1, 1.0),
        ("cosine", 0.55, 0.5),  # half of the rest: (1 + cos(pi / 2)) / 2
        ("cosine", 1.0, 0.0),
        ("constant", 0.05, 0.5),
        ("constant", 1.0, 1.0),
    ],
)
def test_learning_rate_rises_and_then_follows_its_schedule(schedule: str, progress: float, factor: float) -> None:
    assert lr_factor(progress, config(schedule=schedule, warm_up=0.1)) == pytest.approx(factor, abs=1e-12)


def test_without_warm_up_the_learning_rate_begins_at_its_largest() -> None:
    assert lr_factor(0.0, config(warm_up=0.0)) == 1.0


# --- the images -------------------------------------------------------------------------------------------------------


def test_a_part_is_cut_and_mirrored() -> None:
    # Padded by one black pixel:  0 0 0 0     from (0, 1):  0 0     from (1, 1): 1 2  mirrored: 2 1
    #                             0 1 2 0                   1 2                  3 4            4 3
    #                             0 3 4 0
    #                             0 0 0 0
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)[None, :, :, None].repeat(2, 1, 1, 3)
    parts = cut(image, top=torch.tensor([0, 1]), left=torch.tensor([1, 1]), flip=torch.tensor([0, 1]), padding=1)
    assert parts[..., 0].tolist() == [[[0, 0], [1, 2]], [[2, 1], [4, 3]]]
    assert torch.equal(parts, parts[..., :1].expand_as(parts))


def test_an_epoch_shows_each_image_at_most_once_and_all_that_fill_a_batch() -> None:
    batches = list(Draws(23, config(batch_size=5)))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    rows = torch.cat(batches)[:, 0].tolist()
    assert len(set(rows)) == 20
    assert set(rows) <= set(range(23))


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    assert [len(batch) for batch in Draws(3, config(batch_size=5))] == [3]


def drawn(epoch: int, **changes: Any) -> torch.Tensor:
    draws = Draws(1000, config(batch_size=1000, augmentation={"crop_padding": 4}, **changes))
    draws.set_epoch(epoch)
    return next(iter(draws))


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
    assert not torch.equal(drawn(3), drawn(3, seed=1))


def test_all_corners_and_both_sides_are_drawn() -> None:
    rows, top, left, flip = drawn(0).unbind(1)
    assert sorted(rows.tolist()) == list(range(1000))
    assert set(top.tolist()) == set(left.tolist()) == set(range(9))
    assert 400 < int(flip.sum()) < 600  # within six standard deviations
    assert not torch.equal(top, left)


def test_devices_share_the_batches_of_one() -> None:
    alone = list(Draws(100, config()))
    shared = zip(*(Draws(100, config(), rank=rank, n_devices=2) for rank in range(2)), strict=True)
    for whole, (first, second) in zip(alone, shared, strict=True):
        assert torch.equal(torch.stack([first, second], dim=1).flatten(0, 1), whole)


def test_a_batch_that_devices_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="40 images cannot be shared out among 3 devices; take a multiple"):
        Draws(100, config(), n_devices=3)
    with pytest.raises(ConfigError, match="1 training images cannot be shared out among 2 devices"):
        Draws(1, config(), n_devices=2)


def test_a_part_of_each_class_is_held_out() -> None:
    labels = torch.tensor([0] * 10 + [1] * 20 + [2] * 2 + [3])
    trained, held_out = hold_out(labels, fraction=0.2, seed=0)
    assert labels[held_out].bincount(minlength=4).tolist() == [2, 4, 1, 0]  # of one image none
    assert sorted([*trained.tolist(), *held_out.tolist()]) == list(range(33))
    assert torch.equal(hold_out(labels, fraction=0.2, seed=0)[1], held_out)
    assert not torch.equal(hold_out(labels, fraction=0.2, seed=1)[1], held_out)


def test_images_are_kept_as_they_are_and_others_brought_to_size(tmp_path: Path) -> None:
    small, large = coloured(1, 0), coded(size=(16, 12))
    as_folder(tmp_path, {"train/a/0.png": small, "train/a/1.png": large, "test/a/0.png": small})
    images = load_images("image_folder", folder=[str(tmp_path)]).train
    opened = open_all(images, size=8)
    assert (opened.shape, opened.dtype) == ((2, 8, 8, 3), torch.uint8)
    assert np.array_equal(opened[0].numpy(), np.array(images.open(0)))
    assert np.array_equal(opened[1].numpy(), np.array(images.open(1).resize((8, 8), Image.Resampling.BICUBIC)))


def test_workers_open_the_same_images(images: Path) -> None:
    split = load_images("image_folder", data_root=images, folder=["colours.zip"]).train
    assert torch.equal(open_all(split, size=8, workers=2), open_all(split, size=8))


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    as_folder(tmp_path, {"train/a/0.png": coloured(0, 0), "train/a/1.png": b"torn", "test/a/0.png": coloured(0, 1)})
    images = load_images("image_folder", folder=[str(tmp_path)]).train
    with pytest.raises(DataError, match=r"1\.png cannot be read: .*\. Mend, replace or remove it$"):
        open_all(images, size=8)


def test_greyscale_images_among_colour_ones_are_told_of_once(tmp_path: Path) -> None:
    files = {f"train/{name}/{i}.png": coloured(1, i) for name in "ab" for i in range(3)}
    files |= {
        "train/a/0.png": coded(mode="L", size=(8, 8)),
        "test/a/0.png": coloured(1, 4),
        "test/b/0.png": coloured(1, 5),
    }
    as_folder(tmp_path / "set", files)
    data = ImageDataModule(config(folder=["set"]), data_root=tmp_path)
    with pytest.warns(UserWarning, match="1 of 8 images are greyscale among colour ones") as told:
        data.train_dataloader()
    data.train_dataloader()
    data.test_dataloader()
    assert len(told) == 1


def test_the_network_is_given_what_is_in_the_files(images: Path) -> None:
    data = ImageDataModule(config(), data_root=images)
    data.setup()
    pixels, labels = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    split = load_images("image_folder", data_root=images, folder=["colours.zip"]).test
    assert pixels.shape == (40, 3, 8, 8)
    assert torch.equal(labels, split.labels)
    expected = torch.from_numpy(np.array(split.open(25))).permute(2, 0, 1).float() / 255
    assert torch.equal(pixels[25], expected)


def test_images_are_fetched_only_if_asked_for_and_before_they_are_looked_for(images: Path, monkeypatch: Any) -> None:
    asked: list[bool] = []

    def load(*args: Any, download: bool, **settings: Any) -> Any:
        asked.append(download)
        return load_images(*args, download=False, **settings)

    monkeypatch.setattr("benchmarks.features.pretrain_data.load_images", load)
    for download in (False, True):
        data = ImageDataModule(config(), data_root=images, download=download)
        data.prepare_data()
        data.setup()
    assert asked == [False, True, False]


def test_held_out_images_are_not_trained_on(images: Path) -> None:
    data = ImageDataModule(config(), data_root=images)
    data.setup()
    trained, held_out = data.train_dataloader().dataset, data.val_dataloader().dataset
    assert isinstance(trained, Crops)
    assert isinstance(held_out, Crops)
    assert not set(trained.rows.tolist()) & set(held_out.rows.tolist())
    assert data.counts() == {"train": 160, "held_out": 40, "test": 40}


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
from benchmarks.features.pretrain import pretrain
from benchmarks.features.pretrain_config import PretrainConfig
from benchmarks.features.pretrain_module import VGGModule
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
