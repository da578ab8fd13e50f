"""Shards and their rows: what is written is read back by any index, and what was damaged is noticed, by name."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.errors import DataError, FullDiskError
from benchmarks.features import rows as rows_module
from benchmarks.features.rows import FeatureRows, map_array
from benchmarks.features.shards import Shards, Skipped

LABELS = (0, 1, 2, 0, 1, 2, 0, 1, 2, 0)
WHOLE = np.random.default_rng(0).random((10, 3)).astype(np.float16)  # features of all images
MADE_BY = {"torch": "0", "device": "cpu"}


def make(folder: Path, precision: str = "half") -> Shards:
    """Ten images in shards of 4, 4 and 2, of which nothing is written yet."""
    return Shards(folder, "train", labels=LABELS, images_per_shard=4, n_features=3, precision=precision)


def write(shards: Shards, *, left_out: tuple[int, ...] = (), only: tuple[int, ...] = (0, 1, 2)) -> None:
    for shard in only:
        images = shards.images(shard)
        skipped = [Skipped(image=i, why=f"image {i} is torn") for i in images if i in left_out]
        kept = [i for i in images if i not in left_out]
        shards.write(shard, WHOLE[kept], skipped=skipped, made_by=MADE_BY)


@pytest.fixture
def features(tmp_path: Path) -> FeatureRows:
    shards = make(tmp_path)
    write(shards)
    return shards.rows(shards.survey())


INDICES: dict[str, object] = {
    "first": 0,
    "last": -1,
    "slice over a border": slice(2, 7),
    "slice with steps": slice(None, None, 3),
    "no rows": slice(4, 4),
    "all": slice(None),
    "random rows": torch.tensor([9, 0, 4, 3, 9]),
    "from the end": torch.tensor([-1, -10]),
    "int32": torch.tensor([1, 2], dtype=torch.int32),
    "list": [7, 1],
    "empty": torch.tensor([], dtype=torch.int64),
    "two dimensions": torch.tensor([[1, 2], [8, 9]]),
    "mask": torch.tensor(LABELS) == 1,
    "one number": torch.tensor(5),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
@pytest.mark.parametrize("precision", ["half", "single"])
def test_rows_are_indexed_as_a_tensor_is(tmp_path: Path, index: object, precision: str) -> None:
    shards = make(tmp_path, precision)
    write(shards)
    features = shards.rows(shards.survey())
    expected = torch.from_numpy(WHOLE).float()
    found = features[index]
    assert torch.equal(found, expected[index])
    assert found.dtype == features.dtype == torch.float32
    found.fill_(-1.0)  # a copy: neither the file nor what is read next
    assert torch.equal(features[:], expected)
    assert np.load(shards.path(0)).dtype == (np.float16 if precision == "half" else np.float32)


def test_rows_have_a_shape_and_an_end(features: FeatureRows) -> None:
    assert (len(features), features.shape, features.ndim) == (10, (10, 3), 2)
    assert len(list(features)) == 10


WRONG: dict[str, tuple[object, str]] = {
    "beyond": (10, "rows 10 to 10 were asked for, and there are 10"),
    "before": (torch.tensor([0, -11]), "rows -11 to 0"),
    "short mask": (torch.ones(9, dtype=torch.bool), r"has the shape \(10,\), not \(9,\)"),
    "fractions": (torch.tensor([0.5]), "whole numbers or bool"),
}


@pytest.mark.parametrize(("index", "message"), WRONG.values(), ids=WRONG)
def test_rows_that_are_not_there_are_refused(features: FeatureRows, index: object, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        features[index]


@pytest.mark.parametrize(
    "rows", [None, torch.tensor([3, 8, 1]), torch.tensor(LABELS) == 2], ids=["all", "some", "mask"]
)
def test_the_maximum_is_found_some_rows_at_a_time(
    features: FeatureRows, rows: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "ROWS_AT_ONCE", 2)
    expected = torch.from_numpy(WHOLE).float()
    assert features.maximum(rows) == (expected if rows is None else expected[rows]).max()
    with pytest.raises(IndexError, match="no rows"):
        features.maximum(torch.tensor([], dtype=torch.int64))


def test_images_that_were_left_out_have_no_row(tmp_path: Path) -> None:
    shards = make(tmp_path)
    write(shards, left_out=(1, 4, 5, 6, 7))  # one of the first shard, all of the second
    found = shards.survey()
    assert [image.image for image in found.skipped] == [1, 4, 5, 6, 7]
    assert [label for shard in range(3) for label in found.whole[shard].labels] == [0, 2, 0, 2, 0]
    assert torch.equal(shards.rows(found)[:], torch.from_numpy(WHOLE[[0, 2, 3, 8, 9]]).float())
    assert shards.rows(found)[3].tolist() == WHOLE[8].tolist()


def test_what_is_pickled_are_the_names_of_files(tmp_path: Path) -> None:
    features = np.random.default_rng(0).random((4, 100_000)).astype(np.float16)
    np.save(tmp_path / "train-00000.npy", features)
    rows = FeatureRows([tmp_path / "train-00000.npy"], n_rows=[4], n_features=100_000)
    expected = rows[2]
    packed = pickle.dumps(rows)
    assert len(packed) < 2000
    assert torch.equal(pickle.loads(packed)[2], expected)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory as Linux tells it")
def test_a_batch_does_not_read_the_rest(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    n_features = 65536  # rows of 128 kB, 64 MB in all; not one byte of it written, so the file takes no room
    np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.float16, shape=(512, n_features)).flush()
    rows = FeatureRows([tmp_path / "a.npy"], n_rows=[512], n_features=n_features)
    n_open = len(os.listdir("/proc/self/fd"))
    rows[[0]]
    before = resident()
    batch = rows[torch.arange(0, 512, 64)]  # 8 rows: 1 MB of the map, 2 MB as float32
    assert batch.shape == (8, n_features)
    assert resident() - before < 16e6
    assert len(os.listdir("/proc/self/fd")) == n_open  # or 1024 shards would be the end
    everything = rows[:]
    assert everything.shape == (512, n_features)
    assert resident() - before > 64e6  # so reading would have been seen


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY", "other shape", "other type", "cut"], ids=str)
def test_a_file_that_changed_after_it_was_verified_is_named(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "train-00000.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(
            path, np.zeros((4, 2 if content == "other shape" else 3), np.int16 if "type" in content else np.float16)
        )
        if content == "cut":
            path.write_bytes(path.read_bytes()[:-1])
    told = r"train-00000\.npy should hold features of shape \(4, 3\), .*`python -m benchmarks features .* --repair`"
    with pytest.raises(DataError, match=told):
        map_array(path, shape=(4, 3))


def flip(path: Path) -> None:
    """Change one bit of the last byte."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def save_other_shape(shards: Shards) -> None:
    """Put a file of another shape there, with a SHA-256 and a shape that say it is meant so."""
    np.save(shards.path(1), WHOLE[:3])
    change(shards.sidecar(1), sha256=hashlib.sha256(shards.path(1).read_bytes()).hexdigest(), shape=[3, 3])


DAMAGE: dict[str, tuple[Callable[[Shards], object], str]] = {
    "flipped bit": (lambda s: flip(s.path(1)), r"train-00001\.npy is not what was written"),
    "cut short": (lambda s: os.truncate(s.path(1), 140), r"train-00001\.npy is not what was written"),
    "removed": (lambda s: s.path(1).unlink(), r"train-00001\.npy is gone"),
    "torn sidecar": (lambda s: os.truncate(s.sidecar(1), 30), r"train-00001\.json cannot be read"),
    "empty sidecar": (lambda s: os.truncate(s.sidecar(1), 0), r"train-00001\.json cannot be read"),
    "other shape": (save_other_shape, r"train-00001\.json has another shape .*\(3, 3\), and \(4, 3\) is right"),
    "other labels": (lambda s: change(s.sidecar(1), labels=[1, 2, 0, 0]), r"train-00001\.json has another labels"),
    "of another shard": (lambda s: s.sidecar(1).write_bytes(s.sidecar(0).read_bytes()), "has another file than"),
    "unknown field": (lambda s: change(s.sidecar(1), more=1), r"train-00001\.json cannot be read"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_noticed_and_named(tmp_path: Path, damage: Callable[[Shards], object], message: str) -> None:
    shards = make(tmp_path)
    write(shards)
    assert sorted(shards.survey().whole) == [0, 1, 2]
    damage(shards)
    found = shards.survey()
    assert (sorted(found.whole), found.missing, list(found.damaged)) == ([0, 2], [], [1])
    assert re.search(message, found.damaged[1])


def test_a_shard_is_finished_when_its_sidecar_is_there(tmp_path: Path) -> None:
    shards = make(tmp_path)
    write(shards, only=(0, 2))
    np.save(shards.path(1), WHOLE[4:8])  # the process ended between the two files
    found = shards.survey()
    assert (sorted(found.whole), found.missing, found.damaged) == ([0, 2], [1], {})


def test_a_file_is_read_through_once_as_long_as_it_does_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = make(tmp_path)
    write(shards)
    read: list[str] = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: (read.append(file.name), real(file, kind))[1])
    shards.survey()
    assert len(read) == 3
    shards.survey()
    assert len(read) == 3
    flip(shards.path(2))
    assert list(shards.survey().damaged) == [2]
    assert len(read) == 4


@pytest.mark.parametrize("n_written", [0, 1], ids=["features", "sidecar"])
def test_a_full_disk_leaves_nothing_of_the_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_written: int
) -> None:
    shards = make(tmp_path)
    write(shards, only=(0,))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real, calls = os.fsync, []

    def fail(handle: int) -> None:
        calls.append(handle)
        if len(calls) > n_written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr("benchmarks.files.os.fsync", fail)
    with pytest.raises(FullDiskError, match=r"train-00001\.npy cannot be written: the disk is full"):
        write(shards, only=(1,))
    assert shards.survey().missing == [1, 2]
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name: left[name] for name in before} == before
    assert not [name for name in left if name.endswith(".tmp")]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file")
    with pytest.raises(DataError, match=r"train-00000\.npy cannot be written .* another folder for features"):
        write(make(tmp_path / "features"), only=(0,))


def test_the_same_features_make_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(make(tmp_path / folder), left_out=(5,))
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 6
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
