"""From a config to its data: found in one of several folders, with the features of its backbone, once per process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from benchmarks.config import RunConfig
from benchmarks.data import DATASETS, DataError, Dataset, load_dataset
from benchmarks.features.config import BackboneConfig
from src_plugin.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from benchmarks.features.images import ImageSet

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class Places:
    """Where data are, and what may be done to have them.

    Attributes:
        data_roots: Folders where data sets are looked for, see `load_first`.
        download: Let missing files be fetched into the first of them.
        features: Folder where features of backbones are kept.
        device: Where backbones compute features.
        openers: Processes that open images while a backbone computes.
        repair: Compute features anew that are not what was written.
        n_devices: Devices of each machine that compute features together.
        n_nodes: Machines that do; on several, the command is started on each.
    """

    data_roots: tuple[Path, ...] = ()
    download: bool = False
    features: Path = Path("features")
    device: str = "cpu"
    openers: int = 0
    repair: bool = False
    n_devices: int = 1
    n_nodes: int = 1


def check_dataset(config: RunConfig) -> None:
    """Refuse a data set that there is not, or that cannot go through the config's backbone.

    Raises:
        ConfigError: It names the nearest known one, or the cure.
    """
    from benchmarks.features.image_sets import IMAGE_SETS

    for key, names in {"dataset": [config.stream.dataset], "then": config.stream.then or []}.items():
        for name in names:
            if name not in DATASETS and name not in IMAGE_SETS:
                near = did_you_mean(name, [*DATASETS, *IMAGE_SETS])
                raise ConfigError(f"{config.name}: stream.{key}: unknown dataset {name!r}{near}")
            if config.backbone is not None and name not in IMAGE_SETS:
                raise ConfigError(
                    f"{config.name}: stream.{key}: {name} has pixels only, and a backbone takes image sets: "
                    f"{', '.join(IMAGE_SETS)}. Leave backbone out, or bring the images as an image_folder"
                )


def load_for(config: RunConfig, places: Places, *, console: Console | None = None) -> Dataset:
    """Load the data of a config, with those that follow them; each once per process.

    Args:
        config: Says which, and which backbone they go through.
        places: Where they are.
        console: Where it is said that features are computed; None says nothing.

    Raises:
        DataError: See `load_first`; or features on disk are not what was written.
        ConfigError: See `benchmarks.features.dataset.on_features`.
    """

    def load(name: str) -> Dataset:
        if name in DATASETS:
            return _dataset(name, places)
        folder = tuple(config.stream.folder or ()) if name == config.stream.dataset else ()
        return _image_set(name, folder, config.backbone, places, console)

    stream = config.stream
    return replace(load(stream.dataset), then=tuple(load(name) for name in stream.then or ()))


def load_images_for(config: RunConfig, places: Places) -> ImageSet:
    """Load the images of a config themselves, from the first folder that has them.

    Raises:
        DataError: See `load_first`.
    """
    return _images(config.stream.dataset, tuple(config.stream.folder or ()), places)


def _images(name: str, folder: tuple[str, ...], places: Places) -> ImageSet:
    from benchmarks.features.image_sets import load_images

    def load(root: Path | None, download: bool) -> ImageSet:
        return load_images(name, data_root=root, download=download, folder=folder)

    return load_first(load, places.data_roots, download=places.download)


def forget_loaded() -> None:
    """Free what this process has loaded."""
    _dataset.cache_clear()
    _image_set.cache_clear()


@cache
def _dataset(name: str, places: Places) -> Dataset:
    def load(root: Path | None, download: bool) -> Dataset:
        return load_dataset(name, data_root=root, download=download)

    return load_first(load, places.data_roots, download=places.download)


@cache
def _image_set(
    name: str, folder: tuple[str, ...], backbone: BackboneConfig | None, places: Places, console: Console | None
) -> Dataset:
    from benchmarks.features.dataset import as_pixels, on_features  # here, because timm and Lightning take seconds

    images = _images(name, folder, places)
    if backbone is None:
        return as_pixels(images)
    return on_features(
        images,
        backbone,
        cache=places.features,
        device=places.device,
        workers=places.openers,
        n_devices=places.n_devices,
        n_nodes=places.n_nodes,
        repair=places.repair,
        console=console,
    )


def load_first(load: Callable[[Path | None, bool], Loaded], roots: Sequence[Path], *, download: bool = False) -> Loaded:
    """Load from the first of several folders that has all that is needed.

    Args:
        load: Takes a folder, and whether missing files may be fetched into it.
        roots: Folders; none is the same as `data` alone.
        download: If no folder has it, let it be fetched into the first.

    Raises:
        DataError: No folder has it; the message says what was wrong with each.
    """
    problems = []
    for root in roots or (Path("data"),):
        try:
            return load(root, False)
        except DataError as problem:
            problems.append(problem)
    if download:
        return load(roots[0] if roots else None, True)
    if len(problems) == 1:
        raise problems[0]
    raise DataError(" And: ".join(str(problem) for problem in problems)) from problems[0]
