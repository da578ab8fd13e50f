"""A backbone of one convolution, images of a few pixels, and their features in shards of eight."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from torchvision.transforms import functional

from benchmarks.configs.backbone import BackboneConfig
from benchmarks.data.images import ArrayImages, FileImages, ImageSet
from benchmarks.features import extract
from benchmarks.features.backbones import Backbone
from benchmarks.features.extract import features_for
from benchmarks.features.rows import FeatureSet
from image_samples import as_folder, coded

KINDS = ("npy", "json")
"""Endings of a shard's files."""

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


@pytest.fixture
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
