"""The published sets as their publishers lay them out: CIFAR-10 and -100, CUB-200-2011 and Tiny ImageNet.

A set with a name of its own is held to what was published under it: its classes, and how many images there are of each
in each split. A part of it or a rearranged copy is somebody's own data, and image_folder reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.data.fetch import fetch, unpack, verify
from benchmarks.data.image_folder import Listing, list_files, load_image_folder
from benchmarks.data.images import ArrayImages, Images, ImageSet
from benchmarks.data.known import Archive, KnownSet, Original
from benchmarks.errors import DataError


def load_cifar(known: KnownSet, *, name: str, data_root: Path | None = None, download: bool = False) -> ImageSet:
    """Load CIFAR-10 or CIFAR-100 from the official batches, or from zips or a folder of images.

    Looked for in this order, below `data_root`: the official folder or archive (as torchvision keeps them);
    <name>_train.zip with <name>_test.zip; <name>.zip; the folder <name>. The last three are laid out as image_folder's.
    Batches are pickles, which run code when loaded: torchvision compares the MD5 of each before it opens one.

    Raises:
        DataError: It is not there, and is not to be or cannot be fetched; or is not the whole, published set.
    """
    archive, root = _archive(known), data_root or Path("data")
    batches = root / archive.holds
    if not batches.is_dir() and not (root / archive.file).is_file():
        copies = ([f"{name}_train.zip", f"{name}_test.zip"], [f"{name}.zip"], [name])
        for files in copies:
            if all((root / file).exists() for file in files):
                found = load_image_folder(data_root=root, folder=files, name=name)
                return _checked(found, known, place=f"{', '.join(files)} in {root}")
        if not download:
            also = "; ".join(" with ".join(files) for files in copies)
            raise _not_there(known, root, also=f"{archive.holds}; {archive.file}; {also}")
        fetch(archive, root)
    if not batches.is_dir():
        unpack(archive, root / archive.file, root)
    return _checked(_read_batches(known, root, name=name), known, place=str(batches))


def _read_batches(known: KnownSet, root: Path, *, name: str) -> ImageSet:
    from torchvision import datasets

    kind = {"cifar-10-batches-py": datasets.CIFAR10, "cifar-100-python": datasets.CIFAR100}[_archive(known).holds]
    place = root / _archive(known).holds
    try:
        train, test = kind(str(root), train=True), kind(str(root), train=False)
    except (RuntimeError, OSError) as error:  # torchvision's word for a wrong MD5 is RuntimeError
        raise DataError(
            f"{place} is not whole, or is not what was published (torchvision checks the MD5 of each file before it "
            f"reads one): {error}. Remove the folder, and {_archive(known).by_hand(root)} or add --download"
        ) from error
    return ImageSet(
        name=name,
        train=ArrayImages(train.data, train.targets, name=f"{place} (train)"),
        test=ArrayImages(test.data, test.targets, name=f"{place} (test)"),
        class_names=tuple(train.classes),
    )


def load_cub200(known: KnownSet, *, name: str, data_root: Path | None = None, download: bool = False) -> ImageSet:
    """Load CUB-200-2011 in its original layout, with its own split; the .tgz is unpacked where it lies.

    Class names are those of classes.txt, such as "001.Black_footed_Albatross"; images come in the order of images.txt.

    Raises:
        DataError: It is not there, and is not to be or cannot be fetched; or is not the whole, published set.

    Source:
        Wah et al. 2011, Caltech-UCSD Birds-200-2011, CNS-TR-2011-001; the README in the archive.
    """
    archive, root = _archive(known), data_root or Path("data")
    place = next((place for place in (root / archive.holds, root) if (place / "images.txt").is_file()), None)
    if place is None:
        if not (root / archive.file).is_file():
            if not download:
                raise _not_there(known, root, also=f"{archive.holds}/images.txt; {archive.file}")
            fetch(archive, root)
        place = unpack(archive, root / archive.file, root)
    listing = list_files(place)
    classes, names, labels, is_train = (
        _table(listing, file)
        for file in ("classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt")
    )
    if not names.keys() == labels.keys() == is_train.keys() or not set(labels.values()) <= classes.keys():
        raise DataError(f"{place}: its four tables name different images or classes; {archive.by_hand(root)}")
    order = {number: label for label, number in enumerate(sorted(classes, key=int))}
    rows = [(f"images/{names[i]}", order[labels[i]], is_train[i] == "1") for i in names]
    return _checked(
        ImageSet(
            name=name,
            train=_images(listing, [(name, label) for name, label, train in rows if train], known),
            test=_images(listing, [(name, label) for name, label, train in rows if not train], known),
            class_names=tuple(classes[number] for number in order),
        ),
        known,
        place=str(place),
    )


def load_tiny_imagenet(
    known: KnownSet, *, name: str, data_root: Path | None = None, download: bool = False
) -> ImageSet:
    """Load Tiny ImageNet in its original layout, from the unpacked folder or from within the zip, which stays packed.

    Its `val`, 50 images of each class, is the test split: its own `test` has no labels. Class names are WordNet's, such
    as "n01443537", sorted, and the images of a class in the order of their names. The zip is checked by its MD5.

    Raises:
        DataError: It is not there, and is not to be or cannot be fetched; or is not the whole, published set.
    """
    archive, root = _archive(known), data_root or Path("data")
    place = next((place for place in (root / archive.holds, root) if (place / "wnids.txt").is_file()), None)
    if place is None:
        place = root / archive.file
        if place.is_file():
            verify(archive, place)
        elif download:
            fetch(archive, root)
        else:
            raise _not_there(known, root, also=f"{archive.holds}/wnids.txt; {archive.file}")
    listing = list_files(place)
    top = f"{archive.holds}/" if place.suffix == ".zip" else ""
    names = sorted(_text(listing, f"{top}wnids.txt").split())
    labels = {name: label for label, name in enumerate(names)}
    train = []
    for file in listing.files:  # train/n01443537/images/n01443537_0.JPEG
        split, *below = file.removeprefix(top).split("/")
        if split == "train" and len(below) == 3 and below[0] in labels and below[1] == "images":
            train.append((file, labels[below[0]]))
    test = []
    for line in _text(listing, f"{top}val/val_annotations.txt").splitlines():  # val_0.JPEG, n03444034 and a box
        file, kind, *_ = (*line.split("\t"), "")
        if kind not in labels:
            raise DataError(f"{place}: val_annotations.txt gives {file!r} the class {kind!r}, unknown to wnids.txt")
        test.append((f"{top}val/images/{file}", labels[kind]))
    return _checked(
        ImageSet(
            name=name,
            train=_images(listing, train, known),
            test=_images(listing, test, known),
            class_names=tuple(names),
        ),
        known,
        place=str(place),
    )


def _checked(found: ImageSet, known: KnownSet, *, place: str) -> ImageSet:
    """Return the set if it is what was published; a part of it never passes for the whole."""
    wrong = []
    if len(found.class_names) != known.n_classes:
        wrong.append(f"it has {len(found.class_names)} classes of {known.n_classes}")
    elif known.class_names and found.class_names != known.class_names:
        odd = next(pair for pair in zip(found.class_names, known.class_names, strict=True) if pair[0] != pair[1])
        wrong.append("it has a class {!r} where {!r} is expected".format(*odd))
    for split, images, n in (("train", found.train, known.n_train), ("test", found.test, known.n_test)):
        counts = images.labels.bincount(minlength=len(found.class_names)).tolist()
        if len(images) != n:
            wrong.append(f"{split} has {len(images)} images of {n}")
        each = n // known.n_classes
        for name, count in zip(found.class_names, counts, strict=True):
            if count == 0 or (known.sizes is not None and count != each):
                wrong.append(
                    f"{split} has {count} images of {name!r}" + (f", not {each}" if known.sizes is not None else "")
                )
                break  # the first is enough
    if wrong:
        raise DataError(
            f"{place} is not {known.title} as published: {'; '.join(wrong)}. Get the whole set, or read "
            f"this one as image_folder, under a name of its own"
        )
    return found


def _not_there(known: KnownSet, root: Path, *, also: str) -> DataError:
    return DataError(
        f"{known.title} is not there; looked in {root} for {also}. Either add --download, which fetches it "
        f"from {_archive(known).url} into {root}, or {_archive(known).by_hand(root)}, or give --data-root"
    )


def _images(listing: Listing, rows: Sequence[tuple[str, int]], known: KnownSet) -> Images:
    there = set(listing.files)
    missing = [name for name, _ in rows if name not in there]
    if missing:
        raise DataError(
            f"{listing.path} lacks {len(missing)} images of {known.title}, {missing[0]} first; unpack or fetch it again"
        )
    return listing.images([name for name, _ in rows], [label for _, label in rows])


def _table(listing: Listing, file: str) -> dict[str, str]:
    """Read lines of a number, a space and a value."""
    table = {}
    for line in _text(listing, file).splitlines():
        number, _, value = line.strip().partition(" ")
        if not number.isdigit() or not value or number in table:
            raise DataError(f"{listing.path / file}: {line!r} is not a new number and a value; fetch the set again")
        table[number] = value
    return table


def _text(listing: Listing, file: str) -> str:
    try:
        return listing.read(file).decode()
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise DataError(f"{listing.path} has no readable {file} ({error}); unpack or fetch the set again") from error


def _archive(known: KnownSet) -> Archive:
    assert isinstance(known.source, Original)
    return known.source.archive


class Loader(Protocol):
    """Loads the images of a row of DATA_SETS from a folder; None is `data` in the current one."""

    def __call__(self, known: KnownSet, *, name: str, data_root: Path | None, download: bool) -> ImageSet: ...  # noqa: D102


LAYOUTS: dict[str, Loader] = {"cifar": load_cifar, "cub200": load_cub200, "tiny_imagenet": load_tiny_imagenet}
"""Layout -> what loads it."""
