"""Data: IDX files are read plain and gzipped, checked, and missed with a cure."""

from __future__ import annotations

import gzip
import hashlib
import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from benchmarks.data.dataset import Dataset
from benchmarks.data.digits import load_digits
from benchmarks.data.idx import load_idx, read_idx
from benchmarks.data.known import IdxFiles, KnownSet
from benchmarks.data.load import load_dataset
from benchmarks.data.sets import DATA_SETS, IMAGE_SETS, dataset_title
from benchmarks.errors import DataError
from src_plugin.errors import ConfigError

RNG = np.random.default_rng(0)
ARRAYS = {
    "train-images-idx3-ubyte": RNG.integers(0, 256, (6, 4, 4), dtype=np.uint8),
    "train-labels-idx1-ubyte": np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8),
    "t10k-images-idx3-ubyte": RNG.integers(0, 256, (3, 4, 4), dtype=np.uint8),
    "t10k-labels-idx1-ubyte": np.array([2, 1, 0], dtype=np.uint8),
}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


DIGESTS = {name: hashlib.sha256(idx(array)).hexdigest() for name, array in ARRAYS.items()}
ZIPPED = {name: gzip.compress(idx(array), mtime=0) for name, array in ARRAYS.items()}
FILES = IdxFiles(
    folder="MNIST",
    sha256=DIGESTS,
    md5={name: hashlib.md5(content).hexdigest() for name, content in ZIPPED.items()},
    mirrors=("http://nowhere.invalid/tiny/",),
)
TINY = KnownSet("Tiny MNIST", FILES, n_classes=3, n_train=6, n_test=3, sizes=(2, 2, 2), class_names=("a", "b", "c"))


def fill(folder: Path, *, zipped: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ARRAYS.items():
        (folder / (f"{name}.gz" if zipped else name)).write_bytes(ZIPPED[name] if zipped else idx(array))


def load(root: Path, known: KnownSet = TINY) -> Dataset:
    return load_idx(known, name="mnist", data_root=root, download=False)


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("place", [".", "MNIST/raw", "mnist"])
def test_idx_files_are_found_and_read(tmp_path: Path, place: str, zipped: bool) -> None:
    fill(tmp_path / place, zipped=zipped)
    data = load(tmp_path)
    assert data.train_images.shape == (6, 1, 4, 4)
    assert data.train_images.dtype == torch.float32
    np.testing.assert_allclose(data.train_images[:, 0].numpy(), ARRAYS["train-images-idx3-ubyte"] / 255, rtol=1e-6)
    assert data.test_labels.tolist() == [2, 1, 0]
    assert data.test_labels.dtype == torch.int64
    assert (data.n_inputs, data.n_classes) == (16, 3)


def test_missing_files_are_named_with_the_places_and_both_cures(tmp_path: Path) -> None:
    fill(tmp_path, zipped=False)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    message = str(caught.value)
    for part in (
        *ARRAYS,
        str(tmp_path / "MNIST" / "raw"),
        str(tmp_path / "mnist"),
        "--download",
        "--data-root",
        "copy them from http://nowhere.invalid/tiny/ into",
    ):
        assert part in message


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_nothing_is_fetched_unless_asked_for(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.data.idx._download", lambda *_, **__: pytest.fail("downloaded without being asked"))
    with pytest.raises(DataError, match="is not there"):
        load_dataset(name, data_root=tmp_path)


def test_download_fetches_what_is_missing_and_only_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fetch(source: IdxFiles, folder: Path, *, title: str) -> None:
        calls.append(title)
        fill(folder, zipped=True)

    monkeypatch.setattr("benchmarks.data.idx._download", fetch)
    for _ in range(2):
        load_idx(TINY, name="mnist", data_root=tmp_path, download=True)
    assert calls == ["Tiny MNIST"]


def test_files_are_fetched_from_the_first_mirror_that_has_them_and_only_those_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.data.fetch.time.sleep", lambda _: None)
    fill(tmp_path / "second", zipped=True)
    (tmp_path / "second/t10k-labels-idx1-ubyte.gz").unlink()
    mirrors = tuple(f"{(tmp_path / name).as_uri()}/" for name in ("first", "second"))
    known = replace(TINY, source=replace(FILES, mirrors=mirrors))
    folder = tmp_path / "data/MNIST/raw"
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte could not be .*, or copy .*first/t10k-\S+\.gz into "):
        load_idx(known, name="mnist", data_root=tmp_path / "data", download=True)
    there = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.gz")}
    assert sorted(there) == sorted(f"{name}.gz" for name in ARRAYS if name != "t10k-labels-idx1-ubyte")
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(ARRAYS["t10k-labels-idx1-ubyte"]))
    data = load_idx(known, name="mnist", data_root=tmp_path / "data", download=True)
    assert data.test_labels.tolist() == [2, 1, 0]
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.gz")} == there


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_addresses_and_checksums_are_torchvisions(name: str) -> None:
    source = DATA_SETS[name].source
    assert isinstance(source, IdxFiles)
    theirs = getattr(datasets, source.folder)
    assert list(source.mirrors) == theirs.mirrors
    assert {f"{file}.gz": md5 for file, md5 in source.md5.items()} == dict(theirs.resources)


def test_another_file_of_the_same_name_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, zipped=False)
    changed = ARRAYS["t10k-images-idx3-ubyte"].copy()
    changed[0, 0, 0] ^= 1
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(changed))
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte is not the published .* of Tiny MNIST"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"<html>not found</html>", "not an IDX file"),
        (idx(ARRAYS["train-labels-idx1-ubyte"])[:-1], r"says \(6,\) but holds 5 bytes"),
        (gzip.compress(idx(ARRAYS["train-labels-idx1-ubyte"]))[:-9], "broken gzip"),
        (struct.pack(">BBBBI", 0, 0, 8, 3, 9), "not an IDX file"),
    ],
    ids=["empty", "a web page", "cut short", "torn gzip", "no sizes"],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_published_files_are_pinned(name: str) -> None:
    source = DATA_SETS[name].source
    assert isinstance(source, IdxFiles)
    assert list(source.sha256) == list(ARRAYS)  # load_idx takes images and labels in this order
    assert all(len(digest) == 64 for digest in source.sha256.values())
    assert len(DATA_SETS[name].class_names) == 10


def test_gzipped_files_are_held_to_the_same_digest(tmp_path: Path) -> None:
    fill(tmp_path, zipped=True)
    wrong = replace(TINY, source=replace(FILES, sha256={**DIGESTS, "train-images-idx3-ubyte": "0" * 64}))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is not the published"):
        load(tmp_path, wrong)


def test_an_unknown_dataset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'fashion_mnist'"):
        load_dataset("fashon_mnist")


def test_digits_are_split_once_and_for_all_without_touching_global_generators() -> None:
    load_digits()  # importing scikit-learn for the first time moves Python's generator, which is not ours to prevent
    np.random.seed(1)
    torch.manual_seed(1)
    random.seed(1)
    before = (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), random.getstate())
    first, second = load_digits(), load_digits()
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), random.getstate()) == before
    assert torch.equal(first.test_images, second.test_images)
    assert (len(first.train_labels), len(first.test_labels)) == (1347, 450)
    assert first.train_images.shape == (1347, 64)
    assert first.train_images.min() == 0
    assert first.train_images.max() == 1
    assert first.test_labels.bincount().min() >= 43  # stratified: 450 test images, 10 classes of 43 to 46


def test_digits_keep_the_order_of_the_file() -> None:
    from sklearn import datasets

    rows = {tuple(row): i for i, row in enumerate((datasets.load_digits().data / 16).astype(np.float32).tolist())}
    places = [rows[tuple(image)] for image in load_digits().train_images.tolist()]
    assert places == sorted(places)


def test_the_sizes_of_classes_are_those_of_the_images() -> None:
    digits = load_dataset("digits")
    assert tuple(digits.train_labels.bincount().tolist()) == DATA_SETS["digits"].sizes
    assert len(digits.test_labels) == DATA_SETS["digits"].n_test


@pytest.mark.parametrize("name", DATA_SETS)
def test_what_is_known_of_a_set_agrees_with_itself(name: str) -> None:
    known = DATA_SETS[name]
    assert known.sizes is None or (len(known.sizes), sum(known.sizes)) == (known.n_classes, known.n_train)
    assert len(set(known.class_names)) in (0, known.n_classes)
    assert known.has_images == (name in IMAGE_SETS)


def test_the_published_sizes_of_mnist() -> None:
    assert {(DATA_SETS[name].n_train, DATA_SETS[name].n_test) for name in ("mnist", "fashion_mnist")} == {
        (60_000, 10_000)
    }


@pytest.mark.parametrize(
    ("stream", "title"),
    [
        (("mnist",), "mnist"),
        (("mnist", None, ["fashion_mnist"]), "mnist, then fashion_mnist"),
        (("image_folder", ["old/photos.zip", "/new"]), "photos + new"),
    ],
)
def test_a_data_set_is_called_by_what_it_holds(stream: tuple[Any, ...], title: str) -> None:
    assert dataset_title(*stream) == title
