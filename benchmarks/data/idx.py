"""Data sets of four IDX files; images as float32 in [0, 1], labels as int64, in the order of the files.

Nothing is fetched unless asked for. Files may be plain or gzipped; what is checked is the SHA-256 of their unpacked
content, so both forms are held to the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import torch

from benchmarks.data.dataset import Dataset
from benchmarks.data.fetch import fetch
from benchmarks.data.known import Archive, IdxFiles, KnownSet
from benchmarks.errors import DataError


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


def load_idx(known: KnownSet, *, name: str, data_root: Path | None, download: bool) -> Dataset:
    """Load a data set of four IDX files from `data_root`.

    Looked for in `data_root` itself, and under it in <folder>/raw (torchvision's layout) and <name>.

    Raises:
        DataError: No folder has all four files (both cures are named), or one is not the published file.
    """
    source = known.source
    assert isinstance(source, IdxFiles)
    root = data_root or Path("data")
    places = [root, root / source.folder / "raw", root / name]
    if download and _first_complete(places, source) is None:
        _download(source, places[1], title=known.title)
    found = _first_complete(places, source)
    if found is None:
        raise DataError(
            f"{known.title} is not there. Its four files are {', '.join(source.sha256)}, each plain or with .gz; "
            f"looked for in {', '.join(str(place) for place in places)}. Either add --download, which fetches them "
            f"into {places[1]}, or copy them from {source.mirrors[0]} into one of these folders and give --data-root."
        )
    arrays = {}
    for file, path in found.items():
        arrays[file], digest = read_idx(path)
        if source.sha256[file] and digest != source.sha256[file]:
            raise DataError(
                f"{path} is not the published {file} of {known.title}: shape {arrays[file].shape}, SHA-256 of the "
                f"content {digest}, expected {source.sha256[file]}; fetch it again, or check --data-root"
            )
    train_images, train_labels, test_images, test_labels = (torch.from_numpy(arrays[f].copy()) for f in source.sha256)
    return Dataset(
        name=name,
        train_images=train_images.unsqueeze(1).float() / 255,
        train_labels=train_labels.long(),
        test_images=test_images.unsqueeze(1).float() / 255,
        test_labels=test_labels.long(),
        class_names=known.class_names,
    )


def _first_complete(places: list[Path], source: IdxFiles) -> dict[str, Path] | None:
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


def _download(source: IdxFiles, folder: Path, *, title: str) -> None:
    """Fetch the files that are not in a folder yet, each from the first mirror that gives it.

    Raises:
        DataError: No mirror does; the message is that of the first.
    """
    for file in source.sha256:
        if (folder / file).is_file():
            continue
        problems = []
        for mirror in source.mirrors:
            archive = Archive(f"{title}, {file}", f"{mirror}{file}.gz", f"{file}.gz", source.md5[file])
            try:
                fetch(archive, folder)
                break
            except DataError as problem:
                problems.append(problem)
        else:
            raise problems[0]
