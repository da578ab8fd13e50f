"""From the name of a data set to its images: pixels in memory, or images that stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.data.dataset import Dataset
from benchmarks.data.idx import load_idx
from benchmarks.data.image_folder import load_image_folder
from benchmarks.data.images import ImageSet
from benchmarks.data.known import IdxFiles, Installed, Original
from benchmarks.data.originals import LAYOUTS
from benchmarks.data.packages import load_packaged
from benchmarks.data.sets import DATA_SETS, IMAGE_FOLDER, IMAGE_SETS, dataset_title
from src_plugin.errors import ConfigError, did_you_mean


def load_dataset(name: str, *, data_root: Path | None = None, download: bool = False) -> Dataset:
    """Load a data set by name.

    Args:
        name: Of a row of DATA_SETS with pixels.
        data_root: Folder with the files; None is `data` in the current folder. Unused for digits.
        download: Fetch missing files into `data_root`.

    Raises:
        ConfigError: Unknown name; the nearest known one is given.
        DataError: Files are missing or wrong.
    """
    pixels = [known for known, row in DATA_SETS.items() if not row.has_images]
    if name not in pixels:
        raise ConfigError(f"unknown dataset {name!r}{did_you_mean(name, pixels)}")
    known = DATA_SETS[name]
    if isinstance(known.source, Installed):
        return known.source.load()
    load = load_idx if isinstance(known.source, IdxFiles) else load_packaged
    return load(known, name=name, data_root=data_root, download=download)


def load_images(
    name: str, *, data_root: Path | None = None, download: bool = False, folder: Sequence[str] = ()
) -> ImageSet:
    """Load an image set by name; no image is decoded.

    Args:
        name: One of IMAGE_SETS.
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
    if name == IMAGE_FOLDER:
        title = dataset_title(name, folder)
        return load_image_folder(data_root=data_root, download=download, folder=folder, name=title)
    if folder:
        raise ConfigError(
            f"{name} is found by its own name, not by folder: {', '.join(folder)}. Give --data-root, or read these as "
            f"image_folder"
        )
    known = DATA_SETS[name]
    assert isinstance(known.source, Original)
    return LAYOUTS[known.source.layout](known, name=name, data_root=data_root, download=download)
