"""Shards: the features of one split on disk, cut into files of equally many images, each with what it should be.

    <split>-00000.npy    float16 or float32, shape (images of the shard that could be read, n_features)
    <split>-00000.json   SHA-256 and shape of that file, labels of its rows, images that were left out, made by what

Both are written whole (temporary file, fsync, rename), first the features, then what they should be. So a shard without
its .json was never finished and is computed again, and one that is not what its .json says was damaged afterwards. As a
shard's bytes are the same whoever computes it, two processes that write it at the same moment do no harm.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks.data.images import Images
from benchmarks.errors import DataError, FullDiskError
from benchmarks.features.rows import FeatureRows
from benchmarks.files import NO_SPACE, write_whole

DTYPES: dict[str, type[np.floating[Any]]] = {"half": np.float16, "single": np.float32}
"""In what features are kept: the precision of a BackboneConfig."""


class Skipped(BaseModel):
    """An image that could not be read: its number in its split, and why, which names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    image: int
    why: str


class Sidecar(BaseModel):
    """What a shard should be.

    Attributes:
        file: Name of the shard.
        sha256: Of all bytes of that file.
        shape: (rows, n_features).
        dtype: "float16" or "float32".
        first: Number of the shard's first image in its split.
        n_images: Images of the shard, those that were left out included.
        labels: Of each row.
        skipped: Images that were left out.
        made_by: Version of torch and kind of device, which can move the last bits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str
    sha256: str
    shape: tuple[int, int]
    dtype: str
    first: int
    n_images: int
    labels: list[int]
    skipped: list[Skipped]
    made_by: dict[str, str]


@dataclass(frozen=True)
class Survey:
    """What there is of the shards of a split.

    Attributes:
        whole: Shards that are what they should be.
        missing: Shards that were not finished.
        damaged: What is wrong with each of the others, for people; begins with the file's name.
    """

    whole: dict[int, Sidecar] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)
    damaged: dict[int, str] = field(default_factory=dict)

    @property
    def skipped(self) -> list[Skipped]:
        """Images that were left out, in order."""
        return [image for _, sidecar in sorted(self.whole.items()) for image in sidecar.skipped]


_verified: dict[tuple[Path, int, int, int], str] = {}
"""SHA-256 of files that this process has read through, by path, inode, size and time of change (ns)."""


@dataclass(frozen=True)
class Shards:
    """The shards of one split: where they are, and what each has to be.

    Attributes:
        folder: Where they are.
        split: "train" or "test".
        labels: Of all images, those that cannot be read included.
        images_per_shard: Images of every shard but the last.
        n_features: Features of an image.
        precision: "half" or "single".
    """

    folder: Path
    split: str
    labels: Sequence[int]
    images_per_shard: int
    n_features: int
    precision: Literal["half", "single"]

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.images_per_shard)

    def images(self, shard: int) -> range:
        """Return the numbers of the images of a shard."""
        first = shard * self.images_per_shard
        return range(first, min(first + self.images_per_shard, len(self.labels)))

    def path(self, shard: int) -> Path:
        """Return where the features of a shard are."""
        return self.folder / f"{self.split}-{shard:05d}.npy"

    def sidecar(self, shard: int) -> Path:
        """Return where it is said what a shard should be."""
        return self.path(shard).with_suffix(".json")

    def n_bytes(self, shards: Sequence[int]) -> int:
        """Return how large some shards are if every image can be read, without what little is beside them."""
        n_images = sum(len(self.images(shard)) for shard in shards)
        return n_images * self.n_features * np.dtype(DTYPES[self.precision]).itemsize

    def write(
        self, shard: int, features: np.ndarray, *, skipped: Sequence[Skipped] = (), made_by: dict[str, str]
    ) -> None:
        """Write one shard, so that a reader finds all of it or nothing.

        Args:
            shard: Its number.
            features: Of the images that could be read, in order, shape (rows, n_features).
            skipped: The other images of the shard.
            made_by: See `Sidecar`.

        Raises:
            DataError: It cannot be written. Nothing of it is left, and shards written before stay.
        """
        rows = np.ascontiguousarray(features, dtype=DTYPES[self.precision])
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(rows))
        content = header.getvalue(), rows.reshape(-1).view(np.uint8).data  # as np.save does, without copies
        digest = hashlib.sha256()
        for part in content:
            digest.update(part)
        images, path = self.images(shard), self.path(shard)
        sidecar = Sidecar(
            file=path.name,
            sha256=digest.hexdigest(),
            shape=(features.shape[0], features.shape[1]),
            dtype=np.dtype(DTYPES[self.precision]).name,
            first=images.start,
            n_images=len(images),
            labels=self._labels(shard, skipped),
            skipped=list(skipped),
            made_by=made_by,
        )
        text = json.dumps(sidecar.model_dump(), sort_keys=True) + "\n"
        with writing(path):
            self.sidecar(shard).unlink(missing_ok=True)  # a damaged shard is unfinished from here on
            write_whole(path, *content)
            write_whole(self.sidecar(shard), text.encode())

    def survey(self) -> Survey:
        """Look at every shard, and read through those that this process has not read yet."""
        found = Survey()
        for shard in range(len(self)):
            try:
                sidecar = Sidecar.model_validate_json(self.sidecar(shard).read_bytes())
                problem = self._problem(shard, sidecar)
            except FileNotFoundError:
                found.missing.append(shard)
                continue
            except (OSError, ValidationError) as error:
                reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
                problem = f"{self.sidecar(shard)} cannot be read ({reason})"
            if problem is None:
                found.whole[shard] = sidecar
            else:
                found.damaged[shard] = problem
        return found

    def rows(self, survey: Survey) -> FeatureRows:
        """Return the features of a split of which all shards are whole."""
        sidecars = [survey.whole[shard] for shard in range(len(self))]
        return FeatureRows(
            [self.folder / sidecar.file for sidecar in sidecars],
            n_rows=[sidecar.shape[0] for sidecar in sidecars],
            n_features=self.n_features,
        )

    def _labels(self, shard: int, skipped: Sequence[Skipped]) -> list[int]:
        left_out = {image.image for image in skipped}
        return [int(self.labels[i]) for i in self.images(shard) if i not in left_out]

    def _problem(self, shard: int, sidecar: Sidecar) -> str | None:
        """Say what is wrong with a shard; None if it is what it should be."""
        path, images = self.path(shard), self.images(shard)
        left_out = {image.image for image in sidecar.skipped}
        expected = {
            "file": path.name,
            "first": images.start,
            "n_images": len(images),
            "shape": (len(images) - len(left_out), self.n_features),
            "dtype": np.dtype(DTYPES[self.precision]).name,
            "labels": self._labels(shard, sidecar.skipped),
        }
        for key, value in expected.items():
            if getattr(sidecar, key) != value:
                said = "" if key == "labels" else f": {getattr(sidecar, key)}, and {value} is right"
                return f"{self.sidecar(shard)} has another {key} than these images give{said}"
        if not path.is_file():
            return f"{path} is gone"
        if _sha256(path) != sidecar.sha256:
            return f"{path} is not what was written: its SHA-256 is another than {self.sidecar(shard).name} says"
        return None


@dataclass(frozen=True)
class Part:
    """What is to be computed of one split.

    Attributes:
        images: All images of the split.
        shards: All its shards.
        todo: Numbers of those to be computed, in rising order.
    """

    images: Images
    shards: Shards
    todo: list[int]

    def numbers(self, *, rank: int = 0, n_ranks: int = 1) -> list[int]:
        """Return the images that a rank opens, in order."""
        return [i for shard in self.todo[rank::n_ranks] for i in self.shards.images(shard)]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what is wrong if a file cannot be written.

    Raises:
        FullDiskError: The disk is full, or the user's share of it is.
        DataError: Anything else.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise FullDiskError(f"{path} cannot be written: the disk is full") from error
        raise DataError(f"{path} cannot be written ({error}); give another folder for features") from error


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a file; read once per process as long as it does not change."""
    state = path.stat()
    key = (path.resolve(), state.st_ino, state.st_size, state.st_mtime_ns)
    if key not in _verified:
        with path.open("rb") as file:
            _verified[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _verified[key]
