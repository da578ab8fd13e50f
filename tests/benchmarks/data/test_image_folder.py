"""image_folder: split/class/image in folders and zips is read, and what does not fit is refused with a cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data.image_folder import list_files, load_image_folder
from benchmarks.data.images import ImageSet, JoinedImages
from benchmarks.errors import DataError
from image_samples import LAYOUTS, as_folder, as_zip, coded, tree
from src_plugin.errors import ConfigError

Layout = Callable[[Path, dict[str, bytes]], Path]
JUNK = {
    ".DS_Store": b"x",
    "train/.DS_Store": b"x",
    "train/cat/.hidden.png": b"x",
    "train/cat/Thumbs.db": b"x",
    "train/cat/notes.txt": b"x",
    "__MACOSX/train/cat/._0.png": b"x",
    "README.md": b"x",
    "papers/cat/0.png": b"x",
    "papers/1.png": b"x",
    "logo.png": b"x",
}


def load(path: Path, *more: Path) -> ImageSet:
    return load_image_folder(folder=[str(place) for place in (path, *more)])


def inside(images: ImageSet, split: str = "train") -> list[str]:
    """Return class/image of each image, as it lies."""
    part = getattr(images, split)
    return ["/".join(part.where(i).replace("!", "/").split("/")[-2:]) for i in range(len(part))]


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_splits_and_classes_are_read_sorted(write: Layout, tmp_path: Path) -> None:
    images = load(write(tmp_path / "pets", tree(["dog", "cat"])))
    assert images.name == "image_folder"
    assert images.class_names == ("cat", "dog")
    assert inside(images) == ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png", "dog/2.png"]
    assert images.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert inside(images, "test") == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]
    assert images.test.labels.tolist() == [0, 0, 1, 1]
    assert images.test.open(3).size == (6, 4)


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_what_is_no_image_is_left_out(write: Layout, tmp_path: Path) -> None:
    assert inside(load(write(tmp_path / "pets", {**tree(), **JUNK}))) == inside(load(write(tmp_path / "pure", tree())))


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_all_may_lie_in_one_folder(write: Layout, tmp_path: Path) -> None:
    files = {f"my pets/{name}": content for name, content in tree().items()}
    images = load(write(tmp_path / "pets", {**files, "__MACOSX/my pets/._x": b""}))
    assert (len(images.train), len(images.test)) == (6, 4)


def test_images_may_lie_deeper_below_their_class(tmp_path: Path) -> None:
    files = {name.replace("/0.png", "/a/b/0.png"): content for name, content in tree().items()}
    assert len(load(as_zip(tmp_path / "pets.zip", files)).train) == 6


def test_a_folder_and_its_zip_have_the_same_images_in_the_same_order(tmp_path: Path) -> None:
    first, second = (load(write(tmp_path / "pets", tree())) for write in LAYOUTS.values())
    for i in range(6):
        np.testing.assert_array_equal(np.asarray(first.train.open(i)), np.asarray(second.train.open(i)))


def test_several_archives_are_one_set(tmp_path: Path) -> None:
    files = tree()
    parts = {
        "train.zip": {name: files[name] for name in files if name.startswith("train")},
        "test.zip": {name: files[name] for name in files if name.startswith("test")},
        "late.zip": {"train/cat/0.png": coded(50)},  # numbers of its own; no dog
    }
    for name, content in parts.items():
        as_zip(tmp_path / name, content)
    images = load_image_folder(data_root=tmp_path, folder=list(parts))
    assert isinstance(images.train, JoinedImages)
    assert images.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 0]
    assert images.train.where(6) == f"{tmp_path}/late.zip!train/cat/0.png"
    assert len(images.test) == 4


def test_val_is_tested_on_where_there_is_no_test(tmp_path: Path) -> None:
    images = load(as_folder(tmp_path / "pets", tree(splits={"train": 2, "val": 1})))
    assert inside(images, "test") == ["cat/0.png", "dog/0.png"]
    assert "/val/" in images.test.where(0)


def test_val_is_left_alone_where_there_is_a_test(tmp_path: Path) -> None:
    images = load(as_folder(tmp_path / "pets", tree(splits={"train": 2, "val": 3, "test": 1})))
    assert all("/test/" in images.test.where(i) for i in range(len(images.test)))


def test_a_name_is_below_the_data_root_or_absolute(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "data/pets", tree())
    assert load_image_folder(data_root=tmp_path / "data", folder=["pets"]).train.where(0).startswith(str(path))
    assert load_image_folder(data_root=tmp_path / "elsewhere", folder=[str(path)]).train.where(0).startswith(str(path))


def test_links_to_classes_are_followed(tmp_path: Path) -> None:
    real = as_folder(tmp_path / "real", tree())
    for split in ("train", "test"):
        (tmp_path / "pets" / split).mkdir(parents=True)
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).symlink_to(real / split / name)
    assert len(load(tmp_path / "pets").train) == 6


def without(*parts: str) -> dict[str, bytes]:
    return {name: content for name, content in tree().items() if not any(part in name for part in parts)}


REFUSED = {
    "no train": (without("train"), "no train images.*split/class/image"),
    "no test": (without("test"), r"no test \(nor val\) images"),
    "nothing": ({"README.txt": b""}, "no train images.*the folders are none"),
    "capitals": ({name.replace("t", "T", 1): c for name, c in tree().items()}, "the folders are 'Test', 'Train'"),
    "other endings": ({f"{name}.gif": content for name, content in tree().items()}, r"mages end in \.bmp, \.jpeg"),
    "an image in no class": ({**tree(), "train/7.png": b""}, r"train/7\.png lies in no class"),
    "an empty class": (
        {**tree(), "train/eel/": b"", "test/eel/": b""},
        "no image of 'eel'.*remove the folder",
    ),
    "other test classes": (
        {**without("test"), **tree(["cat", "eel"], splits={"test": 1})},
        "classes differ: only train has 'dog'; only test has 'eel'",
    ),
    "a class without test": (without("test/dog"), "classes differ: only train has 'dog'. Rename"),
}


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(write: Layout, files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "pets", files)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_many_differing_classes_are_not_all_listed(tmp_path: Path) -> None:
    files = {**tree(), **tree([f"n{i}" for i in range(9)], splits={"train": 1})}
    with pytest.raises(DataError, match="'n0', 'n1', 'n2', 'n3', 'n4' and 4 more"):
        load(as_zip(tmp_path / "pets.zip", files))


def test_the_same_archive_twice_is_refused(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "pets.zip", tree())
    (tmp_path / "again.zip").symlink_to(path)
    with pytest.raises(DataError, match="named twice"):
        load(path, tmp_path / "again.zip")


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    as_zip(tmp_path / "pets.zip", tree())
    with pytest.raises(DataError, match=r"there is no .*pet\.zip.*did you mean 'pets\.zip'"):
        load_image_folder(data_root=tmp_path, folder=["pet.zip"])
    with pytest.raises(DataError, match=r"nor is there a folder .*nowhere$"):
        load_image_folder(data_root=tmp_path / "nowhere", folder=["pet.zip"])


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_torn_zip_is_refused(tmp_path: Path, keep: float) -> None:
    path = as_zip(tmp_path / "pets.zip", tree())
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match=r"pets\.zip cannot be read as a zip .*copy it again"):
        load(path)


def test_no_folder_is_a_matter_of_the_config() -> None:
    with pytest.raises(ConfigError, match=r"folder: \[my_images.zip\]"):
        load_image_folder()


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_a_listing_reads_single_files(write: Layout, tmp_path: Path) -> None:
    listing = list_files(write(tmp_path / "pets", {"b.txt": b"two", "a/x.txt": b"one"}))
    assert listing.files == ["a/x.txt", "b.txt"]
    assert listing.read("a/x.txt") == b"one"
