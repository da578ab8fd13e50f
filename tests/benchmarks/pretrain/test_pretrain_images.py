"""Pretraining: its config, its learning rate, and the images that an epoch shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.data.load import load_images
from benchmarks.data.sets import IMAGE_SETS
from benchmarks.errors import DataError
from benchmarks.features.vgg import PaperVGG
from benchmarks.pretrain.config import load_pretrain_config
from benchmarks.pretrain.data import Crops, Draws, ImageDataModule, cut, hold_out, open_all
from benchmarks.pretrain.module import lr_factor
from image_samples import as_folder, coded
from places import ROOT
from pretrain_samples import coloured, coloured_images, config
from src_plugin.errors import ConfigError


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images of four classes."""
    return coloured_images(tmp_path_factory.mktemp("images"))


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

    monkeypatch.setattr("benchmarks.pretrain.data.load_images", load)
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
