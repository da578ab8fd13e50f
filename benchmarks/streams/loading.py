"""From a config to its data: found in one of several folders, with the features of its backbone, once per process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console

from benchmarks.configs.backbone import BackboneConfig
from benchmarks.configs.checks import check_names
from benchmarks.configs.run import RunConfig, StreamConfig
from benchmarks.data.dataset import Dataset
from benchmarks.data.load import load_dataset, load_images
from benchmarks.data.sets import DATA_SETS, IMAGE_FOLDER, IMAGE_SETS
from benchmarks.errors import DataError
from benchmarks.streams.splitting import check_split
from src_plugin.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks.data.images import ImageSet

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


def check_dataset(config: RunConfig, *, places: Places | None = None, seeds: Sequence[int] = ()) -> None:
    """Refuse a data set that there is not, or that cannot go through the backbone, or be split as the config says.

    Nothing is read for it, but that a folder of images is listed.

    Args:
        config: Says which, how it is split, and which backbone it goes through.
        places: Where an image_folder is; None leaves its split to `load_for`.
        seeds: Of the runs, see `benchmarks.streams.splitting.check_split`.

    Raises:
        ConfigError: It names the nearest known one, or the cure.
        DataError: An image_folder is not in any of the places, or has another layout.
    """
    check_names(config)
    known = _known_classes(config.stream, places)
    if known is not None:
        _check_split(config, *known, seeds=seeds)


def _known_classes(stream: StreamConfig, places: Places | None) -> tuple[int, Sequence[int] | None] | None:
    """Return the number of classes, and the training images of each; None for what is known once images are read."""
    name = stream.dataset
    if name in DATA_SETS:
        return DATA_SETS[name].n_classes, DATA_SETS[name].sizes
    if name == IMAGE_FOLDER and places is not None:
        images = _images(name, tuple(stream.folder or ()), places)
        return len(images.class_names), _sizes(images.train.labels, len(images.class_names))
    return None


def _sizes(labels: Tensor, n_classes: int) -> list[int]:
    return labels.bincount(minlength=n_classes).tolist()


def _check_split(config: RunConfig, n_classes: int, sizes: Sequence[int] | None, *, seeds: Sequence[int]) -> None:
    try:
        check_split(config.stream, n_classes=n_classes, sizes=sizes, seeds=seeds)
    except ConfigError as error:
        raise ConfigError(f"{config.name}: {error}") from error


def load_for(
    config: RunConfig, places: Places, *, console: Console | None = None, seeds: Sequence[int] = ()
) -> Dataset:
    """Load the data of a config, with those that follow them; each once per process.

    Before images are decoded or go through a backbone, it is checked that their classes can be split.

    Args:
        config: Says which, and which backbone they go through.
        places: Where they are.
        console: Where it is said that features are computed; None says nothing.
        seeds: Of the runs, see `benchmarks.streams.splitting.check_split`.

    Raises:
        DataError: See `load_first`; or features on disk are not what was written.
        ConfigError: See `benchmarks.features.dataset.on_features`; or the stream cannot be cut from these images.
    """

    def load(name: str) -> Dataset:
        if name not in IMAGE_SETS:
            return _dataset(name, places)
        if name != config.stream.dataset:
            return _image_set(name, (), config.backbone, places, console)

        def check(labels: Tensor, n_classes: int) -> None:
            _check_split(config, n_classes, _sizes(labels, n_classes), seeds=seeds)

        folder = tuple(config.stream.folder or ())
        return _image_set(name, folder, config.backbone, places, console, check=check)

    first = load(config.stream.dataset)
    then = tuple(load(name) for name in config.stream.then or ())
    return replace(first, then=then, provenance=_provenance([first, *then]))


def _provenance(sets: Sequence[Dataset]) -> dict[str, Any] | None:
    """Return where the inputs of a stream come from; of several sets with the keys of all, which tell records apart."""
    stories = {data.name: data.provenance for data in sets[1:] if data.provenance is not None}
    first = sets[0].provenance
    if first is None or not stories:
        return first
    keys = [data.provenance["key"] for data in sets if data.provenance is not None]
    then = {name: {what: value for what, value in story.items() if what != "key"} for name, story in stories.items()}
    return {**first, "key": "+".join(keys), "then": then}


def load_images_for(config: RunConfig, places: Places) -> ImageSet:
    """Load the images of a config themselves, from the first folder that has them.

    Raises:
        DataError: See `load_first`.
    """
    return _images(config.stream.dataset, tuple(config.stream.folder or ()), places)


def _images(name: str, folder: tuple[str, ...], places: Places) -> ImageSet:
    def load(root: Path | None, download: bool) -> ImageSet:
        return load_images(name, data_root=root, download=download, folder=folder)

    return load_first(load, places.data_roots, download=places.download)


def forget_loaded() -> None:
    """Free what this process has loaded."""
    _dataset.cache_clear()
    _image_sets.clear()


@cache
def _dataset(name: str, places: Places) -> Dataset:
    def load(root: Path | None, download: bool) -> Dataset:
        return load_dataset(name, data_root=root, download=download)

    return load_first(load, places.data_roots, download=places.download)


_image_sets: dict[tuple[str, tuple[str, ...], BackboneConfig | None, Places], Dataset] = {}
"""What `_image_set` has loaded."""


def _image_set(
    name: str,
    folder: tuple[str, ...],
    backbone: BackboneConfig | None,
    places: Places,
    console: Console | None,
    *,
    check: Callable[[Tensor, int], None] = lambda labels, n_classes: None,
) -> Dataset:
    """Load an image set once; `check` sees its training labels before anything is decoded, and those it ends with."""
    from benchmarks.features.dataset import as_pixels, on_features  # here, because timm and Lightning take seconds

    key = (name, folder, backbone, places)
    if key in _image_sets:
        check(_image_sets[key].train_labels, _image_sets[key].n_classes)
        return _image_sets[key]
    images = _images(name, folder, places)
    check(images.train.labels, len(images.class_names))
    if backbone is None:
        data = as_pixels(images)
    else:
        data = on_features(
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
    _image_sets[key] = data
    check(data.train_labels, data.n_classes)  # again: images that cannot be read may have been left out
    return data


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
