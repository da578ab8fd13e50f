"""Images: one split of an image set, opened one at a time: files, members of a zip, or an array in memory.

Greyscale. Every image is opened as RGB: a greyscale one has its channel three times, as a colour camera sees a grey
thing. So a set that is all greyscale, and a grey photo among colour ones (CUB-200-2011 and ImageNet have some), are
legal, and nothing is dropped or refused for it; `Images.greyscale` counts them, and `tell_of_greyscale` says so
once. More than 8 bits a channel are refused: Pillow would cut the values off, not scale them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import operator
import os
import zipfile
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor

from benchmarks.errors import DataError, ImageError
from src_plugin.errors import warn_user

GREY_MODES = frozenset({"1", "L", "LA", "La"})
DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


MEND = ". Mend, replace or remove it"
CURE = f"{MEND}, or, on features of a backbone (cached: true), leave such images out: unreadable: skip"
"""What every message of an unreadable image ends with."""


def open_image(path: Path) -> Image.Image:
    """Return an image file, whole, as RGB; see `Images.open`.

    Raises:
        ImageError: It is missing, cut short, not an image, or has more than 8 bits a channel.
    """
    try:
        with _whole_images_only(), Image.open(path) as image:
            return _as_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # a damaged image raises whatever its decoder trips over, SyntaxError included
        raise ImageError(f"{path} cannot be read: {error or type(error).__name__}{MEND}") from error


class Images(ABC):
    """One split: labels, and images that are opened when asked for. Picklable, and usable in several processes.

    Attributes:
        labels: int64, shape (n,).
    """

    def __init__(self, labels: Sequence[int] | Tensor) -> None:
        self.labels = torch.as_tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def open(self, i: int) -> Image.Image:
        """Return image i, whole, as RGB; of several frames the first, and as stored, whatever EXIF says of turning it.

        Raises:
            ImageError: It is missing, cut short, not an image, or has more than 8 bits a channel; the image is named.
        """
        i = self._checked(i)
        try:
            with _whole_images_only(), self._begin(i) as image:
                return _as_rgb(image)
        except MemoryError:
            raise
        except Exception as error:  # a damaged image raises whatever its decoder trips over, SyntaxError included
            raise ImageError(f"{self.where(i)} cannot be read: {error or type(error).__name__}{CURE}", i) from error

    def greyscale(self) -> list[int]:
        """Return which images are stored as greyscale, by their heads: nothing is decoded.

        An RGB file with three equal channels counts as colour; an image that cannot be read does not count.
        """
        found = []
        for i in range(len(self)):
            with contextlib.suppress(Exception), self._begin(i) as image:  # open() says what is wrong with it
                if image.mode in GREY_MODES:
                    found.append(i)
        return found

    @abstractmethod
    def where(self, i: int) -> str:
        """Return where image i lies, for people: a path, or archive!member."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of what the images are: order, names, labels and content; not where they lie."""

    @abstractmethod
    def _begin(self, i: int) -> Image.Image:
        """Return image i with its head read and its pixels not yet."""

    def _checked(self, i: int) -> int:
        i = operator.index(i)
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        return i


@dataclass(frozen=True)
class ImageSet:
    """Training and test images with the same classes.

    Attributes:
        name: Key in DATA_SETS; of an image_folder what its folders are called.
        train: Training images.
        test: Test images.
        class_names: One per label.
    """

    name: str
    train: Images
    test: Images
    class_names: tuple[str, ...]


class FileImages(Images):
    """Image files below one folder.

    Args:
        root: The folder.
        names: Paths below it, with "/".
        labels: One per name.
    """

    def __init__(self, root: Path, names: Sequence[str], labels: Sequence[int] | Tensor) -> None:
        super().__init__(labels)
        self.root = root
        self.names = list(names)

    def where(self, i: int) -> str:
        """Return the path of image i."""
        return str(self.root / self.names[i])

    def fingerprint(self) -> str:
        """Return the SHA-256 of names, labels and the SHA-256 of every file; reads all of them."""
        return _digest(self.names, self.labels, (self._content(i) for i in range(len(self))))

    def _content(self, i: int) -> str:
        try:
            with open(self.where(i), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:  # a set may be read without it (unreadable: skip), and is another once it is there
            return f"unreadable: {error.strerror}"

    def _begin(self, i: int) -> Image.Image:
        return Image.open(self.where(i))


class ZipImages(Images):
    """Members of one zip, read at random; each process opens the archive for itself when it reads its first image.

    Args:
        archive: The zip.
        members: Entries of its central directory.
        labels: One per member.
    """

    def __init__(self, archive: Path, members: Sequence[zipfile.ZipInfo], labels: Sequence[int] | Tensor) -> None:
        super().__init__(labels)
        self.archive = archive
        self.names = [member.filename for member in members]
        self._sums = [(member.CRC, member.file_size) for member in members]
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def where(self, i: int) -> str:
        """Return archive!member."""
        return f"{self.archive}!{self.names[i]}"

    def fingerprint(self) -> str:
        """Return the SHA-256 of names, labels, and each member's CRC-32 and size as the archive states them.

        No member is read for it; reading one checks its content against that CRC-32.
        """
        return _digest(self.names, self.labels, (f"{crc:08x} {size}" for crc, size in self._sums))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _begin(self, i: int) -> Image.Image:
        archive = self._zip()
        member = archive.getinfo(self.names[i])
        if (member.CRC, member.file_size) != self._sums[i]:
            raise ValueError("the archive has been replaced since it was listed")
        return Image.open(io.BytesIO(archive.read(member)))  # all of it: the CRC is checked at its end

    def _zip(self) -> zipfile.ZipFile:
        # A handle that a forked worker inherits shares its position in the file with the parent: it opens its own.
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), zipfile.ZipFile(self.archive))
        return self._opened[1]


class ArrayImages(Images):
    """Images in memory.

    Args:
        pixels: uint8, shape (n, height, width, 3).
        labels: One per image.
        name: What they are called in messages.
    """

    def __init__(self, pixels: np.ndarray, labels: Sequence[int] | Tensor, *, name: str) -> None:
        super().__init__(labels)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or len(pixels) != len(self.labels):
            raise DataError(
                f"{name}: {len(self.labels)} labels need images as uint8 of shape ({len(self.labels)}, height, width, "
                f"3), not {pixels.dtype} of shape {pixels.shape}"
            )
        self.pixels = pixels
        self.name = name

    def where(self, i: int) -> str:
        """Return the name of the array and the index."""
        return f"{self.name}, image {i}"

    def fingerprint(self) -> str:
        """Return the SHA-256 of shape, labels and pixels."""
        content = hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()
        return _digest([str(self.pixels.shape)], self.labels, [content])

    def _begin(self, i: int) -> Image.Image:
        return Image.fromarray(self.pixels[i])


class JoinedImages(Images):
    """Several splits, one after the other, as one; for a data set in several archives.

    Args:
        parts: At least one; their labels mean the same classes.
    """

    def __init__(self, parts: Sequence[Images]) -> None:
        super().__init__(torch.cat([part.labels for part in parts]))
        self.parts = list(parts)
        self._ends = list(accumulate(len(part) for part in parts))

    def where(self, i: int) -> str:
        """Return where the part has it."""
        part, place = self._place(i)
        return part.where(place)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the parts' own."""
        return hashlib.sha256(" ".join(part.fingerprint() for part in self.parts).encode()).hexdigest()

    def _begin(self, i: int) -> Image.Image:
        part, place = self._place(i)
        return part._begin(place)

    def _place(self, i: int) -> tuple[Images, int]:
        k = bisect_right(self._ends, i)
        return self.parts[k], i - (self._ends[k - 1] if k else 0)


def _as_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode in DEEP_MODES:
        raise ValueError(f"it has more than 8 bits a channel (Pillow's mode {image.mode}); convert it to 8 bits")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # as Pillow asks for with transparent palettes
    return image.convert("RGB")


@contextlib.contextmanager
def _whole_images_only() -> Iterator[None]:
    """Have Pillow refuse images that end early, also where another library has told it to fill them up with grey."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _digest(names: Sequence[str], labels: Tensor, contents: Iterator[str] | Sequence[str]) -> str:
    """Return one SHA-256; zero bytes stand between fields, since no file name holds one."""
    digest = hashlib.sha256(f"{len(labels)} ".encode() + labels.numpy().astype("<i8").tobytes())
    for name, content in zip(names, contents, strict=True):
        digest.update(b"\0".join((b"", os.fsencode(name), content.encode())))
    return digest.hexdigest()


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
