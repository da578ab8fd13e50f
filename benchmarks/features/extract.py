"""Features of an image set under a frozen backbone: computed once, kept on disk, read from there ever after.

    features_for(images, backbone, config, cache=...)  ->  FeatureSet, from <cache>/<key>/

`key` is a hash of all that decides about the numbers: whatever changes has a folder of its own, and nothing stale is
read. The work is cut into shards (`benchmarks.features.shards`), which Lightning's `Trainer.predict` deals out to its
ranks (`benchmarks.features.prediction`). What is interrupted goes on, and the bytes are those of one go.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal
from torch import Tensor

from benchmarks.configs.backbone import BackboneConfig
from benchmarks.console import say
from benchmarks.data.images import ImageSet
from benchmarks.errors import DataError
from benchmarks.features.backbones import Backbone
from benchmarks.features.rows import REPAIR, FeatureSet
from benchmarks.features.shards import Part, Shards, Skipped, Survey, writing
from benchmarks.files import write_whole
from benchmarks.records.environment import versions
from src_plugin.errors import ConfigError

BATCH_SIZE = 64
"""Images that go through a backbone together. Another number may move the last bits, so it is part of the key."""

IMAGES_PER_SHARD = 2048
"""About: a shard is a whole number of batches. With 1280 features in half precision, 5 MB."""

PACKAGES = ("pillow", "pytorch-lightning", "timm")
"""Named in provenance.json, beside those of `benchmarks.records.environment`."""

NAMED = 5
"""So many images that cannot be read are named on the console."""

STALE = 3600.0
"""A temporary file so old, in s, was left by a process that was killed."""


def features_for(
    images: ImageSet,
    backbone: Backbone,
    config: BackboneConfig,
    *,
    cache: Path,
    batch_size: int = BATCH_SIZE,
    workers: int = 0,
    device: str = "cpu",
    n_devices: int = 1,
    n_nodes: int = 1,
    repair: bool = False,
    console: Console | None = None,
) -> FeatureSet:
    """Return the features of an image set; those not on disk yet are computed first.

    Processes that want the same features wait for the first of them, by a lock that ends with its process. Where the
    disk knows no locks they compute the same files side by side, which costs time only: each is renamed into its place
    whole. Before features are read, this process compares the SHA-256 of every file once.

    Args:
        images: The images.
        backbone: Made from `config`.
        config: How features are kept, and what becomes of images that cannot be read.
        cache: Folder of features, of any number of image sets and backbones.
        batch_size: Images that go through the backbone together.
        workers: Processes that open and prepare images, of each device; 0 does it in this one.
        device: Where the backbone computes: "cpu", "cuda", "cuda:1", ...
        n_devices: So many of them on each machine. The script must be importable (`if __name__ == "__main__":`).
        n_nodes: Machines; on more than one, start the command on each by SLURM or torchrun.
        repair: Compute again what is not what was written.
        console: Where messages and a bar go; None says nothing.

    Returns:
        Its `provenance` has the key, all that is hashed into it, names and counts, versions, and `n_skipped`. Rows that
        were left out are named in the .json files beside the features, and on the console.

    Raises:
        DataError: An image cannot be read (`unreadable: refuse`), features cannot be kept or written, or what is on
            disk is not what was written; the message names the file, and the cure.
        ConfigError: Features are below zero, or a number is out of range.
    """
    limits = {
        "batch_size": (batch_size, 1),
        "workers": (workers, 0),
        "n_devices": (n_devices, 1),
        "n_nodes": (n_nodes, 1),
    }
    for name, (value, least) in limits.items():
        if value < least:
            raise ConfigError(f"{name} must be {least} or more; got {value}")
    console = console or Console(quiet=True)
    store = _Store(images, backbone, config, cache=cache, batch_size=batch_size, repair=repair)
    together, is_first = _ranks(n_devices=n_devices, n_nodes=n_nodes)
    console = console if is_first else Console(quiet=True)
    # Ranks that were started together go on together, whatever each of them would find: one that turned back because
    # another process has just written the last shard would leave the others waiting.
    if not together and not any(part.todo for part in store.missing()):
        say(console, f"{store.title}: {store.n_images} images, on disk in {store.folder}")
        return store.open(console)

    from benchmarks.data.images import tell_of_greyscale
    from benchmarks.features.prediction import predict  # here, because Lightning takes seconds to import

    with store.alone(console) if is_first else nullcontext():
        # The first rank's list is dealt out to all. It is made here, where no other process computes any more.
        parts = store.missing() if is_first else store.parts({})
        is_missing = any(part.todo for part in parts)
        if is_missing:
            tell_of_greyscale(images)
            store.provenance()
        if is_missing or together:
            with _timed(store, parts, console):
                predict(
                    backbone,
                    parts,
                    refuse=config.unreadable == "refuse",
                    batch_size=batch_size,
                    workers=workers,
                    device=device,
                    n_devices=n_devices,
                    n_nodes=n_nodes,
                    console=console,
                    title=store.title,
                )
    return store.open(console)


def what_decides(
    images: ImageSet, backbone: Backbone, config: BackboneConfig, *, batch_size: int = BATCH_SIZE
) -> dict[str, Any]:
    """Return all that decides about the numbers, as plain JSON.

    Not the device and the version of torch, which can move the last bits only: each shard's .json has them.
    """
    return {
        "backbone": backbone.provenance,
        "image_size": config.image_size,
        "precision": config.precision,
        "data": {"train": images.train.fingerprint(), "test": images.test.fingerprint()},
        "batch_size": batch_size,
        "images_per_shard": images_per_shard(batch_size),
    }


def key_of(numbers: Mapping[str, Any]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of what decides about the numbers, keys sorted."""
    text = json.dumps(numbers, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def images_per_shard(batch_size: int) -> int:
    """Return how many images a shard has: whole batches, so that none reaches into the next shard."""
    return max(1, IMAGES_PER_SHARD // batch_size) * batch_size


class _Store:
    """The features of one image set under one backbone: where they are, and what of them is there.

    Args:
        images: The images.
        backbone: What computes the features.
        config: How they are kept.
        cache: Folder of features.
        batch_size: Images that go through the backbone together.
        repair: Whether what was damaged is to be computed again; otherwise it is an error.
    """

    def __init__(
        self,
        images: ImageSet,
        backbone: Backbone,
        config: BackboneConfig,
        *,
        cache: Path,
        batch_size: int,
        repair: bool,
    ) -> None:
        self.images = images
        self.title = f"features of {images.name} by {config.name}"
        self._config = config
        self._repair = repair
        self._numbers = what_decides(images, backbone, config, batch_size=batch_size)
        self.folder = cache / key_of(self._numbers)
        self._splits = {"train": images.train, "test": images.test}
        self._shards = {
            split: Shards(
                self.folder,
                split,
                labels=tuple(part.labels.tolist()),
                images_per_shard=images_per_shard(batch_size),
                n_features=backbone.n_features,
                precision=config.precision,
            )
            for split, part in self._splits.items()
        }

    @property
    def n_images(self) -> int:
        """Images of both splits."""
        return sum(map(len, self._splits.values()))

    def parts(self, todo: Mapping[str, Iterable[int]]) -> list[Part]:
        """Return both splits with the shards that are to be computed of each."""
        return [Part(self._splits[split], self._shards[split], sorted(todo.get(split, ()))) for split in self._splits]

    def missing(self) -> list[Part]:
        """Return both splits with what has to be computed of each.

        Raises:
            DataError: Something is damaged, and is not to be repaired.
        """
        found = {}
        for split, survey in self._survey(repair=self._repair).items():
            todo = {*survey.missing, *survey.damaged}
            if self._config.unreadable == "refuse":  # made with "skip": to be read now, or to be named
                todo |= {shard for shard, sidecar in survey.whole.items() if sidecar.skipped}
            found[split] = todo
        return self.parts(found)

    def provenance(self) -> dict[str, Any]:
        """Return what provenance.json says; written if it is not there."""
        path = self.folder / "provenance.json"
        try:
            story: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if story["key"] == self.folder.name and story["numbers"] == self._numbers:
                return story
            problem = "is of other features"
        except FileNotFoundError:
            problem = None
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = f"cannot be read ({type(error).__name__}: {error})"
        if problem is not None and not self._repair:
            raise DataError(f"{path} {problem}; {REPAIR} writes it again")
        story = {
            "key": self.folder.name,
            "numbers": self._numbers,
            "config": self._config.identity(),
            "data": {
                "name": self.images.name,
                "n_images": {split: len(part) for split, part in self._splits.items()},
                "class_names": list(self.images.class_names),
            },
            "n_features": self._shards["train"].n_features,
            "versions": {**versions(), **{name: _version(name) for name in PACKAGES}},
        }
        with writing(path):
            write_whole(path, (json.dumps(story, indent=1, sort_keys=True) + "\n").encode())
        return story

    def open(self, console: Console) -> FeatureSet:
        """Return the features; all of them must be there. Says what was left out.

        Raises:
            DataError: They are not there or damaged, or no image of a split, or of a class of it, could be read.
        """
        found = self._survey(repair=False)
        skipped = {split: survey.skipped for split, survey in found.items()}
        for split, survey in found.items():
            if survey.missing:
                raise DataError(
                    f"{self._shards[split].path(survey.missing[0])} was removed; run the same command again"
                )
            if skipped[split] and len(skipped[split]) == len(self._splits[split]):
                raise DataError(f"no {split} image of {self.images.name} can be read: {skipped[split][0].why}")
            if skipped[split]:
                _tell_skipped(skipped[split], f"{split} images of {self.images.name}", console)
        makers = {json.dumps(sidecar.made_by) for survey in found.values() for sidecar in survey.whole.values()}
        if len(makers) > 1:
            say(console, f"{self.title}: parts were made by {' and '.join(sorted(makers))}; last bits may differ")
        n_skipped = {split: len(images) for split, images in skipped.items()}
        labels = {
            split: torch.tensor([label for k in sorted(survey.whole) for label in survey.whole[k].labels])
            for split, survey in found.items()
        }
        for split, left in labels.items():
            self._check_classes(split, left, skipped[split])
        return FeatureSet(
            train=self._shards["train"].rows(found["train"]),
            train_labels=labels["train"].long(),
            test=self._shards["test"].rows(found["test"]),
            test_labels=labels["test"].long(),
            class_names=self.images.class_names,
            n_skipped=n_skipped,
            provenance={**self.provenance(), "n_skipped": n_skipped},
        )

    def _check_classes(self, split: str, left: Tensor, skipped: Sequence[Skipped]) -> None:
        """Refuse a class of which nothing is left."""
        every = self._splits[split].labels
        emptied = sorted(set(every.tolist()) - set(left.tolist()))
        if not emptied:
            return
        label = emptied[0]
        more = f", nor of {len(emptied) - 1} more classes" if emptied[1:] else ""
        why = next(image.why for image in skipped if every[image.image] == label)
        raise DataError(
            f"no {split} image of class {self.images.class_names[label]!r} of {self.images.name} can be read{more}: "
            f"{why}. Mend or replace some, or remove the class from both splits"
        )

    @contextmanager
    def alone(self, console: Console) -> Iterator[None]:
        """Wait until no other process computes these features, and keep others waiting."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        with ExitStack() as held:
            try:
                held.enter_context(lock.acquire(timeout=0))
            except Timeout:
                say(console, f"{self.title}: waiting for another process that computes them ({lock.lock_file})")
                held.enter_context(lock.acquire())
            except (OSError, NotImplementedError):
                pass  # a disk without locks: the same files are computed side by side
            for left in self.folder.glob(".*.tmp"):
                if time.time() - left.stat().st_mtime > STALE:
                    left.unlink(missing_ok=True)
            yield

    def _survey(self, *, repair: bool) -> dict[str, Survey]:
        found = {split: shards.survey() for split, shards in self._shards.items()}
        damaged = [problem for survey in found.values() for problem in survey.damaged.values()]
        if damaged and not repair:
            n_whole = sum(len(survey.whole) for survey in found.values())
            raise DataError(
                f"{damaged[0]}. {len(damaged)} of the shards in {self.folder} are damaged and {n_whole} are whole; "
                f"{REPAIR} computes those that are damaged again"
            )
        return found


def _ranks(*, n_devices: int, n_nodes: int) -> tuple[bool, bool]:
    """Say whether processes that were started together compute features, and whether this is the first of them."""
    if n_devices * n_nodes == 1:
        return False, True
    from benchmarks.features.prediction import is_first_rank, started_together

    together = started_together(n_devices=n_devices, n_nodes=n_nodes)
    return together, not together or is_first_rank()


@contextmanager
def _timed(store: _Store, parts: Sequence[Part], console: Console) -> Iterator[None]:
    """Say what is computed, and how long it took."""
    n_images = sum(len(part.numbers()) for part in parts)
    if not n_images:
        say(console, f"{store.title}: {store.n_images} images, on disk in {store.folder}")
        yield
        return
    n_bytes = sum(part.shards.n_bytes(part.todo) for part in parts)
    kept = f" ({store.n_images - n_images} are on disk)" if n_images < store.n_images else ""
    say(console, f"{store.title}: {n_images} images to compute{kept}, {decimal(n_bytes)} in {store.folder}")
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    say(console, f"{store.title}: {n_images} images in {seconds:.1f} s, {n_images / seconds:.0f} per second")


def _tell_skipped(skipped: Sequence[Skipped], what: str, console: Console) -> None:
    say(console, f"left out, because they cannot be read: {len(skipped)} {what}", style="yellow")
    for image in skipped[:NAMED]:
        say(console, f"  {image.image}: {image.why}", style="yellow")
    if len(skipped) > NAMED:
        say(console, f"  and {len(skipped) - NAMED} more, in the .json files beside the features", style="yellow")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
