"""Features on disk: computed once, resumed, repaired; the same bytes after an interruption."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks.configs.backbone import BackboneConfig
from benchmarks.data.images import ArrayImages
from benchmarks.errors import DataError
from benchmarks.features.extract import key_of, what_decides
from benchmarks.features.shards import Shards
from extract_samples import (
    CONFIG,
    IMAGES,
    KINDS,
    LABELS,
    PIXELS,
    by_hand,
    compute,
    folder_of,
    make_backbone,
    refuse_to_compute,
    shard_files,
    small_shards,
    spoken,
)

pytestmark = pytest.mark.usefixtures(small_shards.__name__)


# --- what comes out -------------------------------------------------------------------------------------------------


def test_features_are_those_of_the_network_in_the_order_of_the_images(tmp_path: Path) -> None:
    backbone = make_backbone()
    found = compute(tmp_path, backbone=backbone, config=BackboneConfig(name="toy", precision="single"))
    for split, rows in {"train": found.train, "test": found.test}.items():
        torch.testing.assert_close(rows[:], by_hand(split, backbone), rtol=1e-5, atol=1e-7)  # batches of other sizes
    assert found.train_labels.tolist() == LABELS["train"]
    assert found.test_labels.tolist() == LABELS["test"]
    assert found.train_labels.dtype == torch.int64
    assert found.class_names == ("a", "b", "c")
    assert found.n_skipped == {"train": 0, "test": 0}


def test_half_precision_keeps_them_rounded(tmp_path: Path) -> None:
    backbone = make_backbone()
    found = compute(tmp_path / "half", backbone=backbone)
    single = compute(tmp_path / "single", config=BackboneConfig(name="toy", precision="single"))
    assert torch.equal(found.train[:], single.train[:].half().float())
    n_bytes = {path.name: path.stat().st_size for path in folder_of(tmp_path / "half").glob("*.npy")}
    assert n_bytes["train-00000.npy"] == 128 + 8 * 5 * 2  # NumPy's header, then 8 images of 5 features
    assert sorted(n_bytes) == ["test-00000.npy", "test-00001.npy", *(f"train-0000{i}.npy" for i in range(3))]


def test_what_is_on_disk_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compute(tmp_path)
    refuse_to_compute(monkeypatch)
    again = compute(tmp_path)
    assert torch.equal(first.train[:], again.train[:])
    assert first.provenance == again.provenance
    with pytest.raises(AssertionError, match="computed again"):
        compute(tmp_path / "other")


def test_it_says_what_it_computes_and_how_long_that_took(tmp_path: Path) -> None:
    console = spoken()
    compute(tmp_path, console=console)
    first, last = console.file.getvalue().splitlines()
    assert first == f"features of toys by toy: 31 images to compute, 310 bytes in {folder_of(tmp_path)}"
    assert last.startswith("features of toys by toy: 31 images in ")
    console = spoken()
    compute(tmp_path, console=console)
    assert console.file.getvalue() == f"features of toys by toy: 31 images, on disk in {folder_of(tmp_path)}\n"


def test_a_terminal_shows_a_bar_of_images(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    compute(tmp_path, console=console)
    assert "31/31" in console.file.getvalue()


def test_nothing_else_is_said_or_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    compute(Path("features"))
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["features"]
    own = {
        f"{split}-0000{i}.{kind}" for split, n in {"train": 3, "test": 2}.items() for i in range(n) for kind in KINDS
    }
    assert {path.name for path in folder_of(tmp_path / "features").iterdir()} == own | {"provenance.json", ".lock"}


def test_generators_signals_and_the_network_stay_as_they_were(tmp_path: Path) -> None:
    backbone = make_backbone()
    backbone.module.train()
    weights = {name: value.clone() for name, value in backbone.module.state_dict().items()}

    def state() -> tuple[Any, ...]:
        generators = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
        return (*generators, signal.getsignal(signal.SIGINT), torch.backends.cudnn.benchmark, backbone.module.training)

    before = state()
    compute(tmp_path, backbone=backbone)
    assert state() == before
    assert all(torch.equal(value, weights[name]) for name, value in backbone.module.state_dict().items())


# --- the key --------------------------------------------------------------------------------------------------------

OTHER_PIXELS = PIXELS["train"].copy()
OTHER_PIXELS[3, 0, 0, 0] ^= 1
NEW_KEY: dict[str, dict[str, Any]] = {
    "weights": {"backbone": replace(make_backbone(), provenance={"name": "toy", "weights": {"sha256": "1"}})},
    "transform": {"backbone": replace(make_backbone(), provenance={"name": "toy", "transform": "Resize(8)"})},
    "backbone": {"backbone": replace(make_backbone(), provenance={"name": "other"})},
    "precision": {"config": BackboneConfig(name="toy", precision="single")},
    "image size": {"config": BackboneConfig(name="toy", image_size=8)},
    "a pixel": {"images": replace(IMAGES, train=ArrayImages(OTHER_PIXELS, LABELS["train"], name="toys, train"))},
    "a label": {"images": replace(IMAGES, test=ArrayImages(PIXELS["test"], [1, *LABELS["test"][1:]], name="t"))},
    "batch size": {"batch_size": 8},
}
SAME_KEY: dict[str, dict[str, Any]] = {
    "nothing": {},
    "name of the set": {"images": replace(IMAGES, name="others")},
    "unreadable": {"config": BackboneConfig(name="toy", unreadable="skip")},
    "place of the weights": {"config": BackboneConfig(name="toy", weights="elsewhere/weights.safetensors")},
}


def key(**given: Any) -> str:
    given = {"images": IMAGES, "backbone": make_backbone(), "config": CONFIG, "batch_size": 4, **given}
    return key_of(what_decides(**given))


@pytest.mark.parametrize("change", NEW_KEY.values(), ids=NEW_KEY)
def test_what_decides_about_numbers_has_a_key_of_its_own(change: dict[str, Any]) -> None:
    assert key(**change) != key()
    assert len(key()) == 16


@pytest.mark.parametrize("change", SAME_KEY.values(), ids=SAME_KEY)
def test_what_does_not_decide_keeps_the_key(change: dict[str, Any]) -> None:
    assert key(**change) == key()


def test_other_weights_are_never_a_stale_hit(tmp_path: Path) -> None:
    other = replace(make_backbone(gain=2.0), provenance={"name": "toy", "weights": {"sha256": "2"}})
    first, second = compute(tmp_path), compute(tmp_path, backbone=other)
    assert not torch.equal(first.train[:], second.train[:])
    assert len(list(tmp_path.iterdir())) == 2


def test_provenance_lies_beside_the_features(tmp_path: Path) -> None:
    found = compute(tmp_path)
    story = json.loads((folder_of(tmp_path) / "provenance.json").read_text())
    assert found.provenance == {**story, "n_skipped": {"train": 0, "test": 0}}
    assert story["key"] == folder_of(tmp_path).name == key_of(story["numbers"])
    assert story["numbers"]["data"]["train"] == IMAGES.train.fingerprint()
    assert story["data"] == {"name": "toys", "n_images": {"train": 22, "test": 9}, "class_names": ["a", "b", "c"]}
    assert {"torch", "timm", "pillow", "pytorch-lightning"} <= set(story["versions"])
    assert str(tmp_path) not in json.dumps(found.provenance)


@pytest.mark.parametrize("damage", ["{", '{"key": "0"}', "[]"], ids=["torn", "of others", "a list"])
def test_a_damaged_provenance_is_named_and_repaired(tmp_path: Path, damage: str) -> None:
    before = compute(tmp_path).provenance
    (folder_of(tmp_path) / "provenance.json").write_text(damage)
    with pytest.raises(DataError, match=r"provenance\.json .*; `python -m benchmarks features <the config> --repair` "):
        compute(tmp_path)
    assert compute(tmp_path, repair=True).provenance == before


# --- interrupted, resumed, repaired ---------------------------------------------------------------------------------


def interrupt_after(n: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the (n + 1)-th shard end in an error."""
    real, written = Shards.write, []

    def write(self: Shards, shard: int, *args: Any, **kwargs: Any) -> None:
        if len(written) == n:
            raise error
        written.append(shard)
        real(self, shard, *args, **kwargs)

    monkeypatch.setattr(Shards, "write", write)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_what_was_interrupted_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(tmp_path / "whole")
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        interrupt_after(n, KeyboardInterrupt(), patched)
        with pytest.raises(KeyboardInterrupt):
            compute(tmp_path / "parts")
    assert signal.getsignal(signal.SIGINT) is handler
    finished = {path: path.stat().st_mtime_ns for path in folder_of(tmp_path / "parts").glob("*.npy")}
    assert len(finished) == n
    console = spoken()
    compute(tmp_path / "parts", console=console)
    assert shard_files(tmp_path / "parts") == shard_files(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    left = 31 - sum([8, 8, 6, 8][:n])
    assert f": {left} images to compute{f' ({31 - left} are on disk)' if n else ''}, " in console.file.getvalue()


def test_a_process_that_is_told_to_end_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ArrayImages.open

    def open_and_terminate(self: ArrayImages, i: int) -> Any:
        if i == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, i)

    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patched:
        patched.setattr(ArrayImages, "open", open_and_terminate)
        with pytest.raises(SystemExit, match="143"):
            compute(tmp_path)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert len(list(folder_of(tmp_path).glob("*.npy"))) == 1
    compute(tmp_path)


def test_a_full_disk_keeps_what_is_finished_and_says_how_much_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(tmp_path / "whole")
    real, n_synced = os.fsync, []

    def fail(handle: int) -> None:
        n_synced.append(handle)
        if len(n_synced) > 3:  # provenance, and both files of the first shard
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr("benchmarks.files.os.fsync", fail)
        with pytest.raises(DataError, match=r"train-00001\.npy cannot be written: the disk is full") as caught:
            compute(tmp_path / "full", config=BackboneConfig(name="toy"))
    folder = folder_of(tmp_path / "full")
    assert f"needs 230 bytes in {folder}; what is finished stays. Make room" in str(caught.value)
    assert sorted(p.name for p in folder.iterdir() if p.name != ".lock") == [
        *("provenance.json", "train-00000.json", "train-00000.npy")
    ]
    compute(tmp_path / "full")
    assert shard_files(tmp_path / "full") == shard_files(tmp_path / "whole")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped bit": lambda folder: flip(folder / "train-00001.npy"),
    "torn sidecar": lambda folder: os.truncate(folder / "train-00001.json", 20),
    "removed": lambda folder: (folder / "train-00001.npy").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_shard_is_named_and_repaired_alone(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    compute(tmp_path)
    before, folder = shard_files(tmp_path), folder_of(tmp_path)
    damage(folder)
    told = (
        r"train-00001\.(npy|json) .* 1 of the shards .* 4 are whole; `python -m benchmarks features <the config> --rep"
    )
    with pytest.raises(DataError, match=told):
        compute(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.npy") if "train-00001" not in path.name}
    console = spoken()
    found = compute(tmp_path, repair=True, console=console)
    assert ": 8 images to compute (23 are on disk), " in console.file.getvalue()
    assert shard_files(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert len(found.train) == 22


def test_files_that_a_killed_process_left_are_removed_when_they_are_old(tmp_path: Path) -> None:
    compute(tmp_path)
    folder = folder_of(tmp_path)
    old, new = folder / ".train-00000.npy.a.tmp", folder / ".train-00000.npy.b.tmp"
    for path in (old, new):
        path.write_bytes(b"part")
    os.utime(old, (0, 0))
    (folder / "test-00001.json").unlink()
    compute(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)
