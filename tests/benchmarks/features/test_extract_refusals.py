"""Images and features that cannot be kept are refused by name, or left out and counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.transforms import functional

from benchmarks.configs.backbone import BackboneConfig
from benchmarks.errors import DataError
from extract_samples import (
    compute,
    folder_of,
    make_backbone,
    on_disk,
    shard_files,
    small_shards,
    spoken,
)
from src_plugin.errors import ConfigError

pytestmark = pytest.mark.usefixtures(small_shards.__name__)


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


def test_features_may_be_negative(tmp_path: Path) -> None:
    found = compute(tmp_path, backbone=make_backbone(last=nn.Identity()))
    assert float(found.train[torch.arange(len(found.train))].min()) < 0


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
