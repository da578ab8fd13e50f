"""For the tests of image sets: images of a few pixels, laid out as folders and zips."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

needs_safe_tar = pytest.mark.skipif(
    not hasattr(tarfile, "data_filter"), reason="Python before 3.11.4 cannot unpack safely, so it is refused there"
)


def coded(seed: int = 0, *, mode: str = "RGB", size: tuple[int, int] = (6, 4), kind: str = "PNG") -> bytes:
    """Return a noisy image, `size` as (width, height), as the bytes of a file."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def tree(
    classes: Iterable[str] = ("cat", "dog"), *, splits: Mapping[str, int] | None = None, mode: str = "RGB"
) -> dict[str, bytes]:
    """Return split/class/image -> bytes, no two images alike; `splits` is how many of each class a split has."""
    names = [
        f"{split}/{name}/{i}.png"
        for split, n in (splits or {"train": 3, "test": 2}).items()
        for name in classes
        for i in range(n)
    ]
    return {name: coded(seed, mode=mode) for seed, name in enumerate(names)}


def as_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a folder; a name that ends in "/" is an empty folder."""
    for name, content in files.items():
        if name.endswith("/"):
            (path / name).mkdir(parents=True)
        else:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path


def as_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write files as a zip whose members are stored as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


LAYOUTS = {"folder": as_folder, "zip": lambda path, files: as_zip(path.with_suffix(".zip"), files)}
