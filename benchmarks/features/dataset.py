"""From an image set to a Dataset: on features that lie on disk, through a backbone in the model, or as pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from benchmarks.configs.backbone import BackboneConfig
from benchmarks.data.dataset import Dataset
from benchmarks.data.images import Images, ImageSet, tell_of_greyscale
from benchmarks.errors import DataError
from benchmarks.features.backbones import Backbone, build_backbone, no_weights
from benchmarks.features.extract import features_for, key_of
from src_plugin.errors import ConfigError


class ImageRows:
    """Images of a split, opened and preprocessed when they are asked for.

    Args:
        images: The split.
        transform: Image -> Tensor, shape (3, h, w).
    """

    def __init__(self, images: Images, transform: Callable[[Image.Image], Tensor]) -> None:
        self._images = images
        self._transform = transform
        self._shape = tuple(transform(images.open(0)).shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all of them, (n, 3, h, w)."""
        return (len(self._images), *self._shape)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def __getitem__(self, rows: int | slice | Tensor) -> Tensor:
        """Return one image, shape (3, h, w), or several, shape (n, 3, h, w)."""
        if isinstance(rows, int):
            return self._transform(self._images.open(rows))
        if isinstance(rows, slice):
            wanted = list(range(*rows.indices(len(self))))
        else:
            wanted = (rows.nonzero().squeeze(1) if rows.dtype == torch.bool else rows).tolist()
        return torch.stack([self._transform(self._images.open(i)) for i in wanted])


def on_features(
    images: ImageSet,
    config: BackboneConfig,
    *,
    cache: Path,
    device: str = "cpu",
    workers: int = 0,
    n_devices: int = 1,
    n_nodes: int = 1,
    repair: bool = False,
    console: Console | None = None,
) -> Dataset:
    """Return an image set as features of a frozen backbone; those not on disk yet are computed first.

    Args:
        images: The images.
        config: The backbone; with `cached` false, images stay images and the backbone comes along, to be put below
            the head.
        cache: Folder of features.
        device: Where the backbone computes.
        workers: Processes that open images.
        n_devices: Devices of each machine that compute together.
        n_nodes: Machines that do.
        repair: Compute shards of features anew that are not what was written.
        console: Where messages go.

    Raises:
        ConfigError: No such backbone, or a file of weights without its SHA-256 in the config, or with another.
        DataError: Images, weights or features cannot be read.
    """
    check_weights_file(config)
    backbone = build_backbone(config)
    if not config.cached:
        tell_of_greyscale(images)
        return _through(backbone, images)
    found = features_for(
        images,
        backbone,
        config,
        cache=cache,
        device=device,
        workers=workers,
        n_devices=n_devices,
        n_nodes=n_nodes,
        repair=repair,
        console=console,
    )
    return Dataset(
        name=images.name,
        train_images=found.train,
        train_labels=found.train_labels,
        test_images=found.test,
        test_labels=found.test_labels,
        class_names=found.class_names,
        provenance=_for_records(found.provenance),
        n_features=backbone.n_features,
    )


def _for_records(story: dict[str, Any]) -> dict[str, Any]:
    """Return where features came from without what a record has anyway: names of classes, versions, the config."""
    return {"key": story["key"], **story["numbers"], "n_skipped": story["n_skipped"]}


def check_weights_file(config: BackboneConfig) -> None:
    """Refuse a file of weights that the config does not pin, or that is another one.

    Raises:
        ConfigError: The config does not say which file it means; the message has the line that would.
        DataError: There is no such file, or it is another one.
    """
    path = config.weights_file
    if path is None:
        if config.weights_sha256 is not None:
            raise ConfigError(
                f"backbone.weights_sha256 is for a file of weights, and weights is {config.weights!r}; leave it out"
            )
        return
    if not path.is_file():
        raise DataError(
            f"{no_weights(config.weights)}: of safetensors, or a state dict; python -m benchmarks pretrain makes those "
            "of paper_vgg"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if config.weights_sha256 is None:
        raise ConfigError(
            "backbone.weights is a file, which may change under a config; say which one is meant: "
            f"weights_sha256: {found}"
        )
    if found != config.weights_sha256:
        raise DataError(
            f"{path} is another file of weights than the config means: its SHA-256 is {found}, expected "
            f"{config.weights_sha256}. Put the one that is meant there, or, if it is this one, say so: weights_sha256: "
            f"{found}"
        )


def _through(backbone: Backbone, images: ImageSet) -> Dataset:
    return Dataset(
        name=images.name,
        train_images=ImageRows(images.train, backbone.transform),
        train_labels=images.train.labels,
        test_images=ImageRows(images.test, backbone.transform),
        test_labels=images.test.labels,
        class_names=images.class_names,
        provenance=_keyed({"backbone": backbone.provenance, **_data_of(images)}),
        backbone=backbone.module,
        n_features=backbone.n_features,
    )


def as_pixels(images: ImageSet) -> Dataset:
    """Return an image set as pixels in [0, 1], in memory, shape (n, 3, h, w).

    Raises:
        DataError: Images differ in size, or cannot be read.
    """
    train, test = _pixels(images.train), _pixels(images.test)
    if train.shape[1:] != test.shape[1:]:
        raise DataError(
            f"{images.name}: training images are {tuple(train.shape[1:])} and test images {tuple(test.shape[1:])}; a "
            "backbone brings images to one size: backbone: {name: ...}"
        )
    labels, test_labels = images.train.labels, images.test.labels
    provenance = _keyed(_data_of(images))
    return Dataset(images.name, train, labels, test, test_labels, images.class_names, provenance=provenance)


def _data_of(images: ImageSet) -> dict[str, Any]:
    return {"data": {"train": images.train.fingerprint(), "test": images.test.fingerprint()}}


def _keyed(numbers: dict[str, Any]) -> dict[str, Any]:
    """Return what decides about inputs, and its hash, by which records of other images are told apart."""
    return {"key": key_of(numbers), **numbers}


def _pixels(images: Images) -> Tensor:
    """Return all images of a split as float32 in [0, 1]."""
    first = images.open(0).size
    found = torch.empty((len(images), 3, first[1], first[0]), dtype=torch.uint8)
    for i in range(len(images)):
        image = images.open(i)
        if image.size != first:
            raise DataError(
                f"{images.where(i)} is {image.size[0]} x {image.size[1]} pixels and {images.where(0)} "
                f"{first[0]} x {first[1]}: without a backbone all must be equal; with one, backbone: {{name: ...}}, "
                "they are brought to one size"
            )
        found[i] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return found.float() / 255
