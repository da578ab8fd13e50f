"""How fast features are computed, beside the plain loop over the same images and network: images per second of both."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.configs.backbone import BackboneConfig
from benchmarks.configs.run import RunConfig
from benchmarks.data.images import Images, ImageSet
from benchmarks.features.backbones import Backbone
from benchmarks.features.extract import BATCH_SIZE, images_per_shard
from benchmarks.features.opening import make_loader
from benchmarks.features.prediction import predict
from benchmarks.features.shards import Part, Shards
from benchmarks.files import write_whole
from benchmarks.records.environment import commit, hardware, versions
from src_plugin.errors import ConfigError


def time_extraction(
    images: ImageSet,
    backbone: Backbone,
    config: BackboneConfig,
    *,
    n_images: int = 256,
    repeats: int = 3,
    batch_size: int = BATCH_SIZE,
    workers: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """Time both ways to the features of the first images, training before test, in turn, after one batch to warm up.

    The plain loop keeps features in memory. Extraction is all of it: Lightning's Trainer, checks, SHA-256, and shards
    that are written to a temporary folder and flushed.

    Args:
        images: Its first images are used: training images, and if that is not enough, test images.
        backbone: Made from `config`.
        config: In which precision features are kept.
        n_images: So many.
        repeats: Times that each way is timed.
        batch_size: Images that go through the backbone together.
        workers: Processes that open and prepare images; 0 does it in this one.
        device: Where the backbone computes.

    Returns:
        `extraction` and `plain`, the median images per second; `ratios`, the first by the second within each turn,
        sorted, and `ratio`, their median; `processor_ratio`, that of the time which this process spent computing (other
        work on the machine does not count there; None with workers, whose time it does not know); all timings in s, and
        what was timed.

    Raises:
        ConfigError: There is nothing to time.
    """
    n_images = min(n_images, len(images.train) + len(images.test))
    if n_images < 1 or repeats < 1:
        raise ConfigError(f"{n_images} images {repeats} times is nothing to time; give 1 or more of each")

    def extraction(n: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            parts = []
            for name, some, count in _splits(images, n):
                shards = Shards(
                    Path(folder),
                    name,
                    labels=tuple(some.labels[:count].tolist()),
                    images_per_shard=images_per_shard(batch_size),
                    n_features=backbone.n_features,
                    precision=config.precision,
                )
                parts.append(Part(some, shards, list(range(len(shards)))))
            predict(
                backbone,
                parts,
                refuse=config.unreadable == "refuse",
                batch_size=batch_size,
                workers=workers,
                device=device,
                console=Console(quiet=True),
            )

    def plain(n: int) -> None:
        for _, some, count in _splits(images, n):
            plain_loop(some, backbone, n_images=count, batch_size=batch_size, workers=workers, device=device)

    ways = {"extraction": extraction, "plain": plain}
    for way in ways.values():
        way(min(n_images, batch_size))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    computing: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(repeats):
        for name in sorted(ways, reverse=i % 2 == 1):  # each is first in every other turn
            started, spent = time.perf_counter(), time.process_time()
            ways[name](n_images)
            seconds[name].append(time.perf_counter() - started)
            computing[name].append(time.process_time() - spent)
    speed = {name: n_images / median(times) for name, times in seconds.items()}
    ratios = _ratios(seconds)
    return {
        **speed,
        "ratios": ratios,
        "ratio": median(ratios),
        "processor_ratio": None if workers else median(_ratios(computing)),
        "seconds": seconds,
        "n_images": n_images,
        "batch_size": batch_size,
        "workers": workers,
        "device": device,
        "threads": torch.get_num_threads(),
    }


def write_time_record(path: Path, found: Mapping[str, Any], *, config: RunConfig) -> None:
    """Write what `time_extraction` found as JSON, with config, commit, versions and hardware.

    Args:
        path: The file; one that exists is replaced.
        found: What `time_extraction` returned.
        config: What was timed.
    """
    code, is_clean = commit()
    record = {
        **found,
        "config": config.model_dump(mode="json", exclude_defaults=True),
        "commit": code,
        "tree_clean": is_clean,
        "versions": versions(),
        "hardware": hardware(found["device"]),
    }
    write_whole(path, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())


def _splits(images: ImageSet, n: int) -> list[tuple[str, Images, int]]:
    """Return name, images and number of images of the splits that the first `n` images are in."""
    n_train = min(n, len(images.train))
    both = [("train", images.train, n_train), ("test", images.test, n - n_train)]
    return [split for split in both if split[2]]


def _ratios(seconds: Mapping[str, Sequence[float]]) -> list[float]:
    """Return how many times as fast as the plain loop extraction was in each turn, slowest first."""
    return sorted(plain / own for own, plain in zip(seconds["extraction"], seconds["plain"], strict=True))


def plain_loop(
    images: Images, backbone: Backbone, *, n_images: int, batch_size: int, workers: int = 0, device: str = "cpu"
) -> Tensor:
    """Return the features of the first images, float32, shape (n_images, n_features), as a loop of five lines does."""
    where = torch.device(device)
    network = backbone.module.to(where)
    loader = make_loader(
        images,
        backbone.transform,
        numbers=range(n_images),
        batch_size=batch_size,
        workers=workers,
        device=where,
    )
    with torch.inference_mode():
        features = [network(batch.pixels.to(where)).cpu() for batch in loader]
    network.cpu()
    return torch.cat(features)
