"""READERS: from the files of a packaged data set to its inputs and labels. No package runs, nothing is unpickled."""

from __future__ import annotations

import gzip
import io
import json
import pickletools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Read = tuple[NDArray[Any], NDArray[Any]]
Reader = Callable[[Sequence[bytes], tuple[str, ...]], Read]

FRAMES = 10
"""Points in time that a recording is read at."""

WINDOW = 100
"""Samples of a window of movement: two seconds."""

WORDS = 1000
"""Columns that words are hashed to."""


def read_table(contents: Sequence[bytes], class_names: tuple[str, ...]) -> Read:
    """Read lines of numbers with the name of the class at their end, as KEEL writes them."""
    rows = [line.split(",") for line in contents[0].decode("ascii").splitlines() if line.strip()]
    inputs = np.array([[float(value) for value in row[:-1]] for row in rows])
    return inputs, np.array([class_names.index(row[-1].strip()) for row in rows])


def read_numerals(contents: Sequence[bytes], class_names: tuple[str, ...]) -> Read:
    """Read a line of column numbers, then lines of 16 x 15 pixels and a label."""
    table = np.loadtxt(io.BytesIO(contents[0]), delimiter=",", skiprows=1)
    return table[:, :-1].reshape(-1, 1, 16, 15), table[:, -1].astype(int)


def read_silhouettes(contents: Sequence[bytes], class_names: tuple[str, ...]) -> Read:
    """Read 28 x 28 pixels and labels, each the data of one gzipped and pickled array."""
    pixels, labels = (_bytes_of_array(packed) for packed in contents)
    return np.frombuffer(pixels, np.uint8).reshape(-1, 1, 28, 28), np.frombuffer(labels, "<i8")


def _bytes_of_array(packed: bytes) -> bytes:
    """Return the longest byte string of a gzipped pickle: the data of its array. Listing opcodes executes none."""
    return max((arg for _, arg, _ in pickletools.genops(gzip.decompress(packed)) if isinstance(arg, bytes)), key=len)


def read_emoji(contents: Sequence[bytes], class_names: tuple[str, ...]) -> Read:
    """Read a list of emoji and the sheet they are drawn on: 64 x 64 RGB on white, each in a frame of one pixel.

    Variants of skin are left out. A class is the first word of the category, in lower case.
    """
    from PIL import Image

    sheet = Image.open(io.BytesIO(contents[1])).convert("RGBA")
    white = Image.new("RGBA", sheet.size, "white")
    pixels = np.asarray(Image.alpha_composite(white, sheet).convert("RGB")).transpose(2, 0, 1)
    images, labels = [], []
    for emoji in json.loads(contents[0]):
        name = emoji["category"].split()[0].lower()
        if emoji["has_img_google"] and name in class_names:
            x, y = (66 * emoji[axis] + 1 for axis in ("sheet_x", "sheet_y"))
            images.append(pixels[:, y : y + 64, x : x + 64])
            labels.append(class_names.index(name))
    return np.stack(images), np.array(labels)


def read_glyphs(contents: Sequence[bytes], class_names: tuple[str, ...]) -> Read:
    """Read the capitals of FIGlet fonts: which characters are not blank, cut out and averaged to 16 x 16.

    Fonts of fewer than four rows are left out, and so is a letter that looks as in a font before.
    """
    found: dict[tuple[int, bytes], NDArray[Any]] = {}
    for font in contents:
        for label, grid in _capitals(font, class_names):
            image = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(grid)[None].float(), 16).numpy()
            found.setdefault((label, image.tobytes()), image)
    return np.stack(list(found.values())), np.array([label for label, _ in found])


def _capitals(font: bytes, class_names: tuple[str, ...]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Give the label of every letter and where it is not blank, cut to what is not."""
    lines = font.decode("utf-8", "replace").replace("\r", "").split("\n")
    hard_blank, numbers = lines[0][5], lines[0][6:].split()
    height, comments = int(numbers[0]), int(numbers[4])
    if height < 4:
        return
    for label, letter in enumerate(class_names):
        first = 1 + comments + height * (ord(letter) - ord(" "))
        rows = [row.rstrip() for row in lines[first : first + height]]
        rows = [row.rstrip(row[-1:]).replace(hard_blank, " ") for row in rows]  # without the mark of the line's end
        width = max(map(len, rows), default=0)
        grid = np.array([[character != " " for character in row.ljust(width)] for row in rows], dtype=bool)
        if grid.any():
            down, across = (np.flatnonzero(grid.any(axis=axis)) for axis in (1, 0))
            yield label, grid[down[0] : down[-1] + 1, across[0] : across[-1] + 1]


def read_spoken(contents: Sequence[bytes], class_names: tuple[str, ...]) -> Read:
    """Read cepstra of recordings, one after the other, at ten points in time from first frame to last."""
    arrays = np.load(io.BytesIO(contents[0]), allow_pickle=False)
    parts = np.split(arrays["X"], arrays["lengths"].cumsum()[:-1])
    frames = [part[np.linspace(0, len(part) - 1, FRAMES).round().astype(int)] for part in parts]
    return np.stack(frames).reshape(len(parts), -1).astype(float), arrays["y"]


def read_genes(contents: Sequence[bytes], class_names: tuple[str, ...]) -> Read:
    """Read sequences of A, C, G and T, one after the other, as the share of each of the 64 words of three."""
    arrays = np.load(io.BytesIO(contents[0]), allow_pickle=False)
    codes = np.full(128, 64)
    codes[[ord(base) for base in "ACGT"]] = range(4)
    counts = []
    for part in np.split(codes[arrays["X"].ravel().view(np.uint32)], arrays["lengths"].cumsum()[:-1]):
        words = 16 * part[:-2] + 4 * part[1:-1] + part[2:]
        unknown = (part[:-2] > 3) | (part[1:-1] > 3) | (part[2:] > 3)
        counts.append(np.bincount(words[~unknown], minlength=64))
    table = np.array(counts, dtype=float)
    return table / table.sum(axis=1, keepdims=True), arrays["y"]


def read_pines(contents: Sequence[bytes], class_names: tuple[str, ...]) -> Read:
    """Read the bands of every pixel of a scene, and its labels; pixels of classes without a name here are left out."""
    scene, truth = (np.load(io.BytesIO(content), allow_pickle=False) for content in contents)
    kept = np.isin(truth, [int(name) for name in class_names])
    return scene[kept].astype(float), np.array([class_names.index(str(label)) for label in truth[kept]])


def read_exercises(contents: Sequence[bytes], class_names: tuple[str, ...]) -> Read:
    """Read windows of two seconds of six sensors: mean, spread and the first fourteen amplitudes of each.

    The file is a pickle of Python 2, whose arrays are texts of one character a byte. Listing opcodes executes none.
    """
    pickle = contents[0][contents[0].index(b"\n") + 1 :]
    texts = [arg for _, arg, _ in pickletools.genops(pickle) if isinstance(arg, str)]
    names = texts.index("y")
    series = [text.encode("latin-1") for text in texts[:names] if len(text) >= 8 * 6 * WINDOW]
    labels = np.frombuffer(max(texts[names : texts.index("subject")], key=len).encode("latin-1"), "<i8")
    inputs, kept = [], []
    for content, label in zip(series, labels, strict=True):
        sensors = np.frombuffer(content, "<f8").reshape(6, -1)  # arrays are stored column by column
        count = sensors.shape[1] // WINDOW
        windows = sensors[:, : count * WINDOW].reshape(6, count, WINDOW).transpose(1, 0, 2)
        spectrum = np.abs(np.fft.rfft(windows, axis=2))[..., 1:15]
        moments = np.stack([windows.mean(axis=2), windows.std(axis=2)], axis=2)
        inputs.append(np.concatenate([moments, spectrum], axis=2).reshape(count, -1))
        kept += [label] * count
    return np.concatenate(inputs), np.array(kept)


def read_vowels(contents: Sequence[bytes], class_names: tuple[str, ...]) -> Read:
    """Read frames of recordings. A line has the courses of twelve coefficients and the speaker, with colons between."""
    frames, labels = [], []
    for content in contents:
        for line in content.decode("ascii").partition("@data")[2].split():
            *courses, speaker = line.split(":")
            part = np.array([[float(value) for value in course.split(",")] for course in courses]).T
            frames.append(part)
            labels += [class_names.index(speaker)] * len(part)
    return np.concatenate(frames), np.array(labels)


def read_newsgroups(contents: Sequence[bytes], class_names: tuple[str, ...]) -> Read:
    """Read lines of a newsgroup and a text after three of a header, as counts of hashed words, of length 1."""
    from sklearn.feature_extraction.text import HashingVectorizer

    lines = [line.split("\t") for content in contents for line in content.decode("utf-8").split("\n")[3:]]
    rows = [line for line in lines if len(line) == 2]
    hashed = HashingVectorizer(n_features=WORDS, alternate_sign=False, stop_words="english")
    inputs = hashed.transform([text for _, text in rows]).toarray()
    return inputs, np.array([class_names.index(name) for name, _ in rows])


READERS: dict[str, Reader] = {
    "table": read_table,
    "numerals": read_numerals,
    "silhouettes": read_silhouettes,
    "emoji": read_emoji,
    "glyphs": read_glyphs,
    "spoken": read_spoken,
    "genes": read_genes,
    "pines": read_pines,
    "exercises": read_exercises,
    "vowels": read_vowels,
    "newsgroups": read_newsgroups,
}
"""Layout -> from the contents of the files and the names of the classes to inputs and labels, in file order."""
