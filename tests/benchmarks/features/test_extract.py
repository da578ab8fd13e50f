"""Features on disk: computed once, resumed, repaired, refused; the same bytes whoever computes them."""

from __future__ import annotations

import errno
import io
import itertools
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from rich.console import Console
from torch import nn
from torchvision.transforms import functional

from benchmarks.data import DataError
from benchmarks.features import extract
from benchmarks.features.backbones import Backbone
from benchmarks.features.config import BackboneConfig
from benchmarks.features.extract import features_for, images_per_shard, key_of, what_decides
from benchmarks.features.extraction_speed import plain_loop, time_extraction
from benchmarks.features.images import ArrayImages, FileImages, ImageSet
from benchmarks.features.rows import FeatureSet
from benchmarks.features.shards import Part, Shards
from image_samples import as_folder, coded
from src_plugin.errors import ConfigError

CONFIG = BackboneConfig(name="toy")
RNG = np.random.default_rng(0)
PIXELS = {"train": RNG.integers(0, 256, (22, 6, 6, 3), np.uint8), "test": RNG.integers(0, 256, (9, 6, 6, 3), np.uint8)}
LABELS = {"train": [i % 3 for i in range(22)], "test": [i % 3 for i in range(9)]}
IMAGES = ImageSet(
    "toys",
    ArrayImages(PIXELS["train"], LABELS["train"], name="toys, train"),
    ArrayImages(PIXELS["test"], LABELS["test"], name="toys, test"),
    ("a", "b", "c"),
)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 8 images, with batches of 4: 3 of the training images, 2 of the test images."""
    monkeypatch.setattr(extract, "IMAGES_PER_SHARD", 8)


def make_backbone(*, gain: float = 1.0, last: nn.Module | None = None) -> Backbone:
    """Convolution, ReLU, mean: 5 features."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 5, 3)
    with torch.no_grad():
        conv.weight.mul_(gain)
    layers = [conv, last or nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Backbone(nn.Sequential(*layers).eval().requires_grad_(False), functional.to_tensor, 5, {"name": "toy"})


def compute(cache: Path, images: ImageSet = IMAGES, *, config: BackboneConfig = CONFIG, **given: Any) -> FeatureSet:
    given = {"backbone": make_backbone(), "batch_size": 4, **given}
    return features_for(images, given.pop("backbone"), config, cache=cache, **given)


def spoken() -> Console:
    return Console(file=io.StringIO(), width=200)


def shard_files(cache: Path) -> dict[str, bytes]:
    """Everything but the lock; names without the key."""
    return {path.name: path.read_bytes() for path in cache.glob("*/*") if path.name != ".lock"}


def folder_of(cache: Path) -> Path:
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    return folder


def refuse_to_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("benchmarks.features.prediction.predict", predict)


def by_hand(split: str, backbone: Backbone) -> torch.Tensor:
    return backbone.module(torch.from_numpy(PIXELS[split]).permute(0, 3, 1, 2) / 255)


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


KINDS = ("npy", "json")


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


# --- images and features that cannot be kept ------------------------------------------------------------------------


def on_disk(folder: Path, *, torn: tuple[str, ...] = (), other_size: str | None = None) -> ImageSet:
    """Ten training and two test images, files of a few pixels."""
    names = {"train": [f"train/{i}.png" for i in range(10)], "test": [f"test/{i}.png" for i in range(2)]}
    files = {name: coded(seed) for seed, name in enumerate([*names["train"], *names["test"]])}
    for name in torn:
        files[name] = files[name][:40]
    if other_size is not None:
        files[other_size] = coded(size=(9, 9))
    as_folder(folder, files)
    train, test = (FileImages(folder, names[split], [i % 2 for i in range(len(names[split]))]) for split in names)
    return ImageSet("files", train, test, ("a", "b"))


SKIP = BackboneConfig(name="toy", unreadable="skip")


def test_an_image_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    images = on_disk(tmp_path / "images", torn=("train/5.png", "train/6.png"))
    with pytest.raises(DataError, match=r"train/5\.png cannot be read: .* 1 more cannot be read"):
        compute(tmp_path / "features", images)
    left = {path.name for path in folder_of(tmp_path / "features").iterdir()}
    assert not [name for name in left if name.endswith((".npy", ".tmp"))]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_images_that_cannot_be_read_are_left_out_counted_and_named(tmp_path: Path, workers: int) -> None:
    images = on_disk(tmp_path / "images", torn=("train/5.png", "train/9.png"))
    console, backbone = spoken(), make_backbone()
    found = compute(
        tmp_path / "features", images, config=SKIP, backbone=backbone, workers=workers, console=console, batch_size=2
    )
    kept = [i for i in range(10) if i not in (5, 9)]
    expected = backbone.module(torch.stack([functional.to_tensor(images.train.open(i)) for i in kept]))
    torch.testing.assert_close(found.train[:], expected, rtol=1e-3, atol=1e-3)
    assert found.train_labels.tolist() == [i % 2 for i in kept]
    assert found.n_skipped == found.provenance["n_skipped"] == {"train": 2, "test": 0}
    sidecar = json.loads((folder_of(tmp_path / "features") / "train-00000.json").read_text())
    assert [image["image"] for image in sidecar["skipped"]] == [5]
    assert "train/5.png cannot be read" in sidecar["skipped"][0]["why"]
    said = console.file.getvalue()
    assert "left out, because they cannot be read: 2 train images of files" in said
    assert "train/9.png cannot be read" in said


def test_what_was_left_out_is_refused_when_that_is_asked_for(tmp_path: Path) -> None:
    images = on_disk(tmp_path / "images", torn=("train/5.png",))
    compute(tmp_path / "features", images, config=SKIP)
    before = shard_files(tmp_path / "features")
    with pytest.raises(DataError, match=r"train/5\.png cannot be read"):
        compute(tmp_path / "features", images)
    assert shard_files(tmp_path / "features") == before
    assert compute(tmp_path / "features", images, config=SKIP).n_skipped["train"] == 1


def test_a_split_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    images = on_disk(tmp_path / "images", torn=("test/0.png", "test/1.png"))
    with pytest.raises(DataError, match=r"no test image of files can be read: .*test/0\.png"):
        compute(tmp_path / "features", images, config=SKIP)


@pytest.mark.parametrize(("split", "of_class_b"), [("train", (1, 3, 5, 7, 9)), ("test", (1,))])
def test_a_class_of_which_nothing_can_be_read_is_refused_by_name(
    tmp_path: Path, split: str, of_class_b: tuple[int, ...]
) -> None:
    images = on_disk(tmp_path / "images", torn=tuple(f"{split}/{i}.png" for i in of_class_b))
    told = (
        rf"no {split} image of class 'b' of files can be read: \S*{split}/1\.png cannot be read: .*\. Mend or replace"
    )
    with pytest.raises(DataError, match=told):
        compute(tmp_path / "features", images, config=SKIP)


def test_images_of_different_sizes_are_refused(tmp_path: Path) -> None:
    images = on_disk(tmp_path / "images", other_size="train/2.png")
    with pytest.raises(DataError, match=r"different sizes, \(3, 4, 6\) and \(3, 9, 9\); .*image_size"):
        compute(tmp_path / "features", images)


def test_negative_features_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train images 0 to 3 \(toys, train, image 0 and on\): features reach -"):
        compute(tmp_path, backbone=make_backbone(last=nn.Identity()))


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not finite"):
        compute(tmp_path, backbone=make_backbone(gain=float("nan")))


def test_features_too_large_for_half_precision_are_refused_with_the_cure(tmp_path: Path) -> None:
    large = make_backbone(gain=1e6)
    with pytest.raises(DataError, match=r"half precision ends at 65504; .*precision: single"):
        compute(tmp_path, backbone=large)
    found = compute(tmp_path, backbone=large, config=BackboneConfig(name="toy", precision="single"))
    assert found.train.maximum() > 65504


def test_features_of_another_length_than_stated_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shape \(4, 5\), not \(n, 6\)"):
        compute(tmp_path, backbone=replace(make_backbone(), n_features=6))


@pytest.mark.parametrize("setting", ["batch_size", "n_devices", "n_nodes"])
def test_numbers_out_of_range_are_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting} must be 1 or more; got 0"):
        compute(tmp_path, **{setting: 0})
    with pytest.raises(ConfigError, match="workers must be 0 or more"):
        compute(tmp_path, workers=-1)


# --- several processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 4, 8, 64])
def test_batches_do_not_reach_into_the_next_shard(batch_size: int) -> None:
    n = images_per_shard(batch_size)
    assert n % batch_size == 0
    assert n >= batch_size


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 5, 8])
def test_ranks_share_the_missing_shards(tmp_path: Path, n_ranks: int) -> None:
    shards = Shards(tmp_path, "train", labels=(0,) * 22, images_per_shard=4, n_features=5, precision="half")
    part = Part(IMAGES.train, shards, todo=[0, 2, 3, 5])
    dealt = [part.numbers(rank=rank, n_ranks=n_ranks) for rank in range(n_ranks)]
    assert sorted(itertools.chain(*dealt)) == [0, 1, 2, 3, *range(8, 16), 20, 21]
    for numbers in dealt:  # every batch of 4 is the one that a single rank would make of that shard
        batches = [numbers[i : i + 4] for i in range(0, len(numbers), 4)]
        assert all(batch in ([*range(i, min(i + 4, 22))] for i in range(0, 22, 4)) for batch in batches)


def test_workers_open_the_same_images(tmp_path: Path) -> None:
    compute(tmp_path / "one")
    compute(tmp_path / "many", workers=2)
    assert shard_files(tmp_path / "many") == shard_files(tmp_path / "one")


@pytest.mark.slow
def test_two_devices_make_the_bytes_of_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    compute(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    missing = ("train-00000", "train-00002", "test-00001")  # one of each split for rank 0, and one in all for rank 1
    for shard in missing:
        (folder_of(tmp_path / "two") / f"{shard}.npy").write_bytes(b"")
        (folder_of(tmp_path / "two") / f"{shard}.json").unlink()
    compute(tmp_path / "two", n_devices=2, workers=1)
    assert shard_files(tmp_path / "two") == shard_files(tmp_path / "one")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_an_error_of_another_rank_comes_back_as_what_it_is(tmp_path: Path) -> None:
    images = on_disk(tmp_path / "images", torn=("train/9.png",))
    with pytest.raises(DataError, match=r"^\S*train/9\.png cannot be read: .*unreadable: skip$"):
        compute(tmp_path / "features", images, n_devices=2)


RANK = """
import pickle, sys
from pathlib import Path
from rich.console import Console
from benchmarks.features import extract

extract.IMAGES_PER_SHARD = 8
images, backbone, config = pickle.loads(Path(sys.argv[1]).read_bytes())
console = Console(width=200)
found = extract.features_for(
    images, backbone, config, cache=Path(sys.argv[2]), batch_size=4, n_devices=2, console=console
)
assert (len(found.train), len(found.test)) == (22, 9)
"""
"""What each of the processes does that torchrun starts."""


@contextmanager
def torchrun(folder: Path, cache: Path) -> Iterator[subprocess.Popen[str]]:
    """Two processes on this machine; they end with the test, also where they would wait for ever."""
    (folder / "rank.py").write_text(RANK)
    (folder / "given.pickle").write_bytes(pickle.dumps((IMAGES, make_backbone(), CONFIG)))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr=localhost", "--nproc-per-node=2"]
    process = subprocess.Popen(
        [sys.executable, *launcher, str(folder / "rank.py"), str(folder / "given.pickle"), str(cache)],
        env={**os.environ, "PYTHONPATH": str(Path(extract.__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()  # it ends those that it started


LEFT = {  # what is to be computed: by the first rank alone, by both, by none
    "one shard": ("test-00001",),
    "all": ("train-00000", "train-00001", "train-00002", "test-00000", "test-00001"),
    "nothing": (),
}


@pytest.mark.slow
@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_processes_of_torchrun_make_the_bytes_of_one_also_where_one_is_idle(
    tmp_path: Path, left: tuple[str, ...]
) -> None:
    compute(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    for shard in left:
        for kind in KINDS:
            (folder_of(tmp_path / "two") / f"{shard}.{kind}").unlink()
    with torchrun(tmp_path, tmp_path / "two") as both:
        said, _ = both.communicate(timeout=180)
    assert both.returncode == 0, said
    assert shard_files(tmp_path / "two") == shard_files(tmp_path / "one")


@pytest.mark.slow
def test_processes_of_torchrun_go_on_together_when_another_has_computed_what_they_waited_for(tmp_path: Path) -> None:
    compute(tmp_path / "one")
    folder = tmp_path / "two" / folder_of(tmp_path / "one").name
    folder.mkdir(parents=True)
    lock = FileLock(folder / ".lock")
    with torchrun(tmp_path, tmp_path / "two") as both, lock:
        assert both.stdout is not None
        assert any("waiting for another process that computes them" in line for line in both.stdout)
        shutil.copytree(tmp_path / "one" / folder.name, folder, dirs_exist_ok=True)
        lock.release()
        said, _ = both.communicate(timeout=180)
    assert both.returncode == 0, said
    assert "31 images, on disk in" in said


def test_a_second_process_waits_and_takes_what_the_first_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(tmp_path / "first")
    refuse_to_compute(monkeypatch)
    folder = tmp_path / "second" / folder_of(tmp_path / "first").name
    folder.mkdir(parents=True)
    lock = FileLock(folder / ".lock")

    class FirstIsDone(io.StringIO):
        def write(self, text: str) -> int:
            if "waiting for another process" in text and lock.is_locked:
                shutil.copytree(tmp_path / "first" / folder.name, folder, dirs_exist_ok=True)
                lock.release()
            return super().write(text)

    lock.acquire()
    console = Console(file=FirstIsDone(), width=200)
    found = compute(tmp_path / "second", console=console)
    assert "waiting for another process that computes them" in console.file.getvalue()
    assert len(found.train) == 22


@pytest.mark.slow
def test_two_processes_at_once_leave_what_one_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the processes have shards of 2048 images
    pixels = np.random.default_rng(1).integers(0, 256, (5000, 6, 6, 3), np.uint8)
    images = replace(IMAGES, train=ArrayImages(pixels, [0] * 5000, name="many"))
    compute(tmp_path / "one", images, batch_size=64)
    spawn = multiprocessing.get_context("spawn")
    arguments = (images, make_backbone(), CONFIG)
    both = [spawn.Process(target=features_for, args=arguments, kwargs={"cache": tmp_path / "two"}) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert shard_files(tmp_path / "two") == shard_files(tmp_path / "one")
    assert len(shard_files(tmp_path / "one")) == 3 * 2 + 2 + 1


# --- speed ----------------------------------------------------------------------------------------------------------


def test_the_plain_loop_gives_the_same_features(tmp_path: Path) -> None:
    backbone = make_backbone()
    found = compute(tmp_path, backbone=backbone, config=BackboneConfig(name="toy", precision="single"))
    assert torch.equal(plain_loop(IMAGES.train, backbone, n_images=22, batch_size=4), found.train[:])


def test_both_ways_are_timed_in_turn() -> None:
    timed = time_extraction(IMAGES, make_backbone(), CONFIG, n_images=1000, repeats=2, batch_size=4)
    assert timed["n_images"] == len(IMAGES.train) + len(IMAGES.test) > 22  # all there are
    assert [len(times) for times in timed["seconds"].values()] == [2, 2]
    own, plain = timed["seconds"]["extraction"], timed["seconds"]["plain"]
    assert timed["ratios"] == sorted([plain[0] / own[0], plain[1] / own[1]])
    assert timed["ratio"] == pytest.approx(sum(timed["ratios"]) / 2)
    assert timed["extraction"] > 0
    assert timed["processor_ratio"] > 0
    with pytest.raises(ConfigError, match="nothing to time"):
        time_extraction(IMAGES, make_backbone(), CONFIG, n_images=0)
