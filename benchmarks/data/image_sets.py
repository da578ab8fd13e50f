"""IMAGE_SETS: name -> loader; images stay where they are and are opened one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.data.dataset import dataset_title
from benchmarks.data.image_folder import load_image_folder
from benchmarks.data.images import ImageSet
from benchmarks.data.originals import (
    CIFAR10,
    CIFAR100,
    CUB200,
    TINY_IMAGENET,
    Published,
    load_cifar,
    load_cub200,
    load_tiny_imagenet,
)
from src_plugin.errors import ConfigError, did_you_mean, warn_user


def load_cifar10(*, data_root: Path | None = None, download: bool = False) -> ImageSet:
    """Load CIFAR-10: 5,000 and 1,000 images of 32 x 32 pixels of each of 10 classes."""
    return load_cifar(CIFAR10, name="cifar10", data_root=data_root, download=download)


def load_cifar100(*, data_root: Path | None = None, download: bool = False) -> ImageSet:
    """Load CIFAR-100: 500 and 100 images of 32 x 32 pixels of each of 100 classes."""
    return load_cifar(CIFAR100, name="cifar100", data_root=data_root, download=download)


IMAGE_SETS: dict[str, Callable[..., ImageSet]] = {
    "image_folder": load_image_folder,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "cub200": load_cub200,
    "tiny_imagenet": load_tiny_imagenet,
}


PUBLISHED: dict[str, Published] = {
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "cub200": CUB200,
    "tiny_imagenet": TINY_IMAGENET,
}
"""What is known of an image set before anything is read."""


def load_images(
    name: str, *, data_root: Path | None = None, download: bool = False, folder: Sequence[str] = ()
) -> ImageSet:
    """Load an image set by name; no image is decoded.

    Args:
        name: Key of IMAGE_SETS.
        data_root: Folder with the files; None is `data` in the current folder.
        download: Fetch what is missing into `data_root`.
        folder: For image_folder only: folders and zips of split/class/image, below `data_root` or absolute, which
            together are one data set.

    Raises:
        ConfigError: Unknown name, the nearest known one is given; or `folder` is missing or is for another set.
        DataError: Files are missing or wrong.
    """
    if name not in IMAGE_SETS:
        raise ConfigError(f"unknown image set {name!r}{did_you_mean(name, IMAGE_SETS)}")
    if name == "image_folder":
        title = dataset_title(name, folder)
        return load_image_folder(data_root=data_root, download=download, folder=folder, name=title)
    if folder:
        raise ConfigError(
            f"{name} is found by its own name, not by folder: {', '.join(folder)}. Give --data-root, or read these as "
            f"image_folder"
        )
    return IMAGE_SETS[name](data_root=data_root, download=download)


def tell_of_greyscale(images: ImageSet) -> dict[str, int]:
    """Count the greyscale images of each split, and warn if there are some among colour ones.

    They are opened as RGB all the same. A set that is greyscale throughout needs no warning; a class that is greyscale
    throughout where others are not gets one of its own, since it can be told by that alone. Reads the head of every
    image, so it is for when features are computed, not for every load.

    Returns:
        Number of greyscale images: {"train": ..., "test": ...}.
    """
    found = {"train": images.train.greyscale(), "test": images.test.greyscale()}
    n_images = len(images.train) + len(images.test)
    n_grey = sum(len(rows) for rows in found.values())
    if 0 < n_grey < n_images:
        split, rows = next((split, rows) for split, rows in found.items() if rows)
        first = getattr(images, split).where(rows[0])
        warn_user(
            f"{images.name}: {n_grey} of {n_images} images are greyscale among colour ones, {first} first; each is "
            f"used as RGB with three equal channels"
        )
        every = images.train.labels.bincount(minlength=len(images.class_names))
        grey = images.train.labels[found["train"]].bincount(minlength=len(images.class_names))
        whole = [images.class_names[k] for k in (grey == every).nonzero().flatten().tolist()]
        if whole and len(whole) < len(images.class_names):
            warn_user(
                f"{images.name}: every training image of {', '.join(whole[:5])}{' and more' if whole[5:] else ''} is "
                f"greyscale, so this class can be told by its lack of colour; check where it comes from"
            )
    return {split: len(rows) for split, rows in found.items()}
