"""Image sets: every set by its name; greyscale among colour is told once."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import pytest

from benchmarks.data.images import tell_of_greyscale
from benchmarks.data.load import load_images
from benchmarks.data.sets import IMAGE_SETS
from benchmarks.errors import DataError
from image_samples import as_folder, as_zip, coded, tree
from src_plugin.errors import ConfigError


def test_an_unknown_set_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown image set 'cifar_10'; did you mean 'cifar10'"):
        load_images("cifar_10")
    assert set(IMAGE_SETS) == {"image_folder", "cifar10", "cifar100", "cub200", "tiny_imagenet"}


def test_folders_are_for_image_folder(tmp_path: Path) -> None:
    as_zip(tmp_path / "pets.zip", tree())
    assert load_images("image_folder", data_root=tmp_path, folder=["pets.zip"]).class_names == ("cat", "dog")
    with pytest.raises(ConfigError, match="needs the names"):
        load_images("image_folder", data_root=tmp_path)
    with pytest.raises(ConfigError, match=r"cub200 is found by its own name, not by folder: pets\.zip"):
        load_images("cub200", data_root=tmp_path, folder=["pets.zip"])


@pytest.mark.parametrize("name", sorted(set(IMAGE_SETS) - {"image_folder"}))
def test_every_named_set_that_is_missing_says_where_it_belongs(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"is not there; looked in {tmp_path}"):
        load_images(name, data_root=tmp_path)


@pytest.mark.parametrize(("mode", "n"), [("RGB", 0), ("L", 1)], ids=["colour", "greyscale"])
def test_a_set_of_one_kind_needs_no_word(mode: str, n: int, tmp_path: Path) -> None:
    as_folder(tmp_path / "pets", tree(mode=mode))
    images = load_images("image_folder", data_root=tmp_path, folder=["pets"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tell_of_greyscale(images) == {"train": 6 * n, "test": 4 * n}
    assert images.train.open(0).mode == "RGB"


def test_a_grey_photo_among_colour_ones_is_counted_and_used(tmp_path: Path) -> None:
    as_folder(
        tmp_path / "pets", {**tree(), "train/dog/1.png": coded(1, mode="L"), "test/cat/0.png": coded(2, mode="L")}
    )
    images = load_images("image_folder", data_root=tmp_path, folder=["pets"])
    with pytest.warns(UserWarning, match=r"2 of 10 images are greyscale among colour ones, .*train/dog/1\.png") as told:
        assert tell_of_greyscale(images) == {"train": 1, "test": 1}
    assert len(told) == 1
    assert images.train.open(4).mode == "RGB"


def test_a_class_that_is_grey_throughout_is_told_of(tmp_path: Path) -> None:
    files = {name: coded(k, mode="L" if "train/dog" in name else "RGB") for k, name in enumerate(tree())}
    as_folder(tmp_path / "pets", files)
    images = load_images("image_folder", data_root=tmp_path, folder=["pets"])
    with (
        pytest.warns(UserWarning, match="3 of 10 images"),
        pytest.warns(UserWarning, match="every training image of dog is greyscale"),
    ):
        tell_of_greyscale(images)


@pytest.mark.slow
def test_the_real_cifar10_is_found_in_its_zips(cifar10: Path) -> None:  # made ones: test_originals.py
    begin = time.perf_counter()
    images = load_images("cifar10", data_root=cifar10)
    assert time.perf_counter() - begin < 20  # s, with much to spare: nothing is decoded
    assert (len(images.train), len(images.test)) == (50_000, 10_000)
    assert images.train.labels.bincount().tolist() == [5_000] * 10
    assert images.train.open(49_999).size == (32, 32)
    with pytest.raises(DataError, match="CIFAR-100 is not there"):  # a part of it is, under another name
        load_images("cifar100", data_root=cifar10)
