"""image_folder: folders and zips with split/class/image, and Listing, what lies in a folder or a zip.

Splits are `train` and `test`; where no `test` is anywhere, `val` is tested on, and with both `val` is left alone. All
may lie in one folder of whatever name. Below its class an image may lie as deep as it likes. Left out are hidden files
and folders, __MACOSX, and files that are not images by their ending, such as Thumbs.db.
"""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from benchmarks.data.images import FileImages, Images, ImageSet, JoinedImages, ZipImages
from benchmarks.errors import DataError
from src_plugin.errors import ConfigError, did_you_mean

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"})
SPLITS = ("train", "test", "val")
LAYOUT = "split/class/image, with the splits train and test (or val)"

Split = dict[str, dict[str, list[str]]]  # split -> class -> names


class Listing(ABC):
    """What lies in a folder or a zip, nothing of it read.

    Attributes:
        path: The folder or zip.
        files: Names with "/", sorted; hidden ones left out.
        folders: Names of the folders, empty ones too.
    """

    path: Path
    files: list[str]
    folders: list[str]

    @abstractmethod
    def images(self, names: Sequence[str], labels: Sequence[int]) -> Images:
        """Return some of the files as images."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the content of one file."""


class _Folder(Listing):
    def __init__(self, path: Path) -> None:
        self.path, self.files, self.folders = path, [], []
        for place, folders, files in os.walk(path, followlinks=True, onerror=_refuse):
            folders[:] = sorted(folder for folder in folders if not _is_hidden(folder))
            below = Path(place).relative_to(path)
            self.folders += [(below / folder).as_posix() for folder in folders]
            self.files += [(below / file).as_posix() for file in files if not _is_hidden(file)]
        self.files.sort()

    def images(self, names: Sequence[str], labels: Sequence[int]) -> Images:
        return FileImages(self.path, names, labels)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


class _Zip(Listing):
    def __init__(self, path: Path) -> None:
        self.path, self.files, self.folders = path, [], []
        self._members: dict[str, zipfile.ZipInfo] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(
                f"{path} cannot be read as a zip ({error}); copy it again, or unpack another kind of archive and name "
                "the folder"
            ) from error
        for member in members:
            if any(_is_hidden(part) for part in member.filename.split("/") if part):
                continue
            if member.is_dir():
                self.folders.append(member.filename.rstrip("/"))
            else:
                self._members[member.filename] = member
        self.files = sorted(self._members)

    def images(self, names: Sequence[str], labels: Sequence[int]) -> Images:
        return ZipImages(self.path, [self._members[name] for name in names], labels)

    def read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(name)


def list_files(path: Path) -> Listing:
    """List a folder, or a zip by its central directory.

    Raises:
        DataError: There is no such file, or it is neither; the nearest name beside it is given.
    """
    if path.is_dir():
        return _Folder(path)
    if path.is_file():
        return _Zip(path)
    if not path.parent.is_dir():
        raise DataError(
            f"there is no {path}, as names are below --data-root unless they begin with /; nor is there a folder "
            f"{path.parent}"
        )
    beside = [file.name for file in path.parent.iterdir()]
    known = [name for name in beside if name.endswith(".zip") or (path.parent / name).is_dir()]
    near = did_you_mean(path.name, known) if known else f"; nor is there a folder or zip in {path.parent}"
    raise DataError(f"there is no {path}, as names are below --data-root unless they begin with /{near}")


def load_image_folder(
    *, data_root: Path | None = None, download: bool = False, folder: Sequence[str] = (), name: str = "image_folder"
) -> ImageSet:
    """Load images laid out as split/class/image, in one or several folders and zips that together are one data set.

    Classes are sorted by name, and images within a class and an archive too. Nothing is decoded.

    Args:
        data_root: Where the names begin; None is `data` in the current folder.
        download: Not used: there is no address.
        folder: Names of folders and zips, below `data_root` or absolute.
        name: What the set is called.

    Raises:
        ConfigError: `folder` is empty.
        DataError: A file is missing, twice, or no zip; a split is missing or has no images; an image lies in no class;
            a class is empty; or training and test classes differ.
    """
    if not folder:
        raise ConfigError("image_folder needs the names of its folders or zips: folder: [my_images.zip]")
    paths = [(data_root or Path("data")) / Path(part).expanduser() for part in folder]
    places = ", ".join(str(path) for path in paths)
    if len({path.resolve() for path in paths}) < len(paths):
        raise DataError(f"one of {places} is named twice, so its images would be too; name each once")
    listings = [list_files(path) for path in paths]
    found = [_sort(listing) for listing in listings]
    test = "test" if any("test" in splits for splits in found) else "val"
    classes = {split: _classes(split, listings, found, places=places) for split in ("train", test)}
    _check_same(classes["train"], classes[test], test_split=test, places=places)
    names = sorted(classes["train"])
    labels = {name: label for label, name in enumerate(names)}
    return ImageSet(
        name=name,
        train=_join("train", listings, found, labels),
        test=_join(test, listings, found, labels),
        class_names=tuple(names),
    )


def _sort(listing: Listing) -> Split:
    """Return the image names of each split and class; a class may be empty, as a folder."""
    images = [name for name in listing.files if Path(name).suffix.lower() in ENDINGS]
    tops = {name.split("/")[0] for name in (*images, *listing.folders)}
    wrapped = 1 if len(tops) == 1 and not tops & set(SPLITS) else 0  # my_images/train/..., as a zipped folder has it
    found: Split = {}
    for folder in listing.folders:
        parts = folder.split("/")[wrapped:]
        if len(parts) == 2 and parts[0] in SPLITS:
            found.setdefault(parts[0], {}).setdefault(parts[1], [])
    for name in images:
        split, *below = name.split("/")[wrapped:]
        if split not in SPLITS:
            continue
        if len(below) < 2:
            raise DataError(f"{listing.path}: {name} lies in no class; the layout is {LAYOUT}")
        found.setdefault(split, {}).setdefault(below[0], []).append(name)
    return found


def _classes(split: str, listings: list[Listing], found: list[Split], *, places: str) -> set[str]:
    """Return the classes of a split, over all archives; each has images."""
    classes = {name for splits in found for name in splits.get(split, {})}
    if not classes:
        seen = sorted({part for listing in listings for part in _tops(listing)})
        raise DataError(
            f"{places}: no {split if split == 'train' else 'test (nor val)'} images. The layout is {LAYOUT}; the "
            f"folders are {_some(seen) or 'none'}, and images end in {', '.join(sorted(ENDINGS))}"
        )
    empty = sorted(name for name in classes if not any(splits.get(split, {}).get(name) for splits in found))
    if empty:
        raise DataError(
            f"{places}: {split} has no image of {_some(empty)}. Images end in {', '.join(sorted(ENDINGS))}; add some, "
            "or remove the folder"
        )
    return classes


def _check_same(train: set[str], test: set[str], *, test_split: str, places: str) -> None:
    only = {"train": sorted(train - test), test_split: sorted(test - train)}
    told = [f"only {split} has {_some(names)}" for split, names in only.items() if names]
    if told:
        raise DataError(f"{places}: the classes differ: {'; '.join(told)}. Rename or complete them")


def _join(split: str, listings: list[Listing], found: list[Split], labels: dict[str, int]) -> Images:
    parts = []
    for listing, splits in zip(listings, found, strict=True):
        rows = [(name, labels[kind]) for kind, names in sorted(splits.get(split, {}).items()) for name in names]
        if rows:
            parts.append(listing.images([name for name, _ in rows], [label for _, label in rows]))
    return parts[0] if len(parts) == 1 else JoinedImages(parts)


def _tops(listing: Listing) -> set[str]:
    """Return the folders at the top; where there is one alone, those in it too."""
    folders = [name.split("/") for name in listing.folders] + [name.split("/")[:-1] for name in listing.files]
    tops = {parts[0] for parts in folders if parts}
    return tops | {"/".join(parts[:2]) for parts in folders if parts and len(tops) == 1}


def _some(names: list[str]) -> str:
    rest = len(names) - 5
    return ", ".join(repr(name) for name in names[:5]) + (f" and {rest} more" if rest > 0 else "")


def _is_hidden(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be listed: {error.strerror}; check its permissions") from error
