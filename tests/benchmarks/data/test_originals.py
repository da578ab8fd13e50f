"""Published sets in their original layouts: labels and splits as their files say, and no part passes for the whole."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from benchmarks.data import originals
from benchmarks.data.images import ImageSet
from benchmarks.data.known import Archive, KnownSet, Original
from benchmarks.data.load import load_images
from benchmarks.data.originals import load_cifar, load_cub200, load_tiny_imagenet
from benchmarks.data.sets import DATA_SETS
from benchmarks.errors import DataError
from image_samples import LAYOUTS, as_folder, as_zip, coded, needs_safe_tar, tree

RNG = np.random.default_rng(0)
CIFAR10, CUB200, TINY_IMAGENET = (DATA_SETS[name] for name in ("cifar10", "cub200", "tiny_imagenet"))
TINY10 = replace(CIFAR10, n_classes=2, n_train=6, n_test=4, class_names=("cat", "dog"))


def archive_of(known: KnownSet) -> Archive:
    assert isinstance(known.source, Original)
    return known.source.archive


def with_md5(known: KnownSet, md5: str) -> KnownSet:
    return replace(known, source=replace(known.source, archive=replace(archive_of(known), md5=md5)))


# --- CIFAR ---------------------------------------------------------------------------------------------------------


def cifar(root: Path, *, published: KnownSet = TINY10, download: bool = False) -> ImageSet:
    return load_cifar(published, name="cifar10", data_root=root, download=download)


def batch(labels: list[int]) -> dict[str, Any]:
    return {"data": RNG.integers(0, 256, (len(labels), 3072), dtype=np.uint8), "labels": labels}


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two training batches, a test batch and the names, as CIFAR-10 has them; torchvision expects their MD5."""
    made = {
        "data_batch_1": batch([1, 0, 1]),
        "data_batch_2": batch([0, 0, 1]),
        "test_batch": batch([1, 1, 0, 0]),
        "batches.meta": {"label_names": ["cat", "dog"]},
    }
    sums = {name: hashlib.md5(pickle.dumps(content)).hexdigest() for name, content in made.items()}
    monkeypatch.setattr(
        datasets.CIFAR10, "train_list", [[name, sums[name]] for name in ("data_batch_1", "data_batch_2")]
    )
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]})
    return made


def lay(root: Path, batches: dict[str, Any]) -> Path:
    return as_folder(root / "cifar-10-batches-py", {name: pickle.dumps(content) for name, content in batches.items()})


def test_official_batches_are_read(tmp_path: Path, batches: dict[str, Any]) -> None:
    lay(tmp_path, batches)
    images = cifar(tmp_path)
    assert (images.name, images.class_names) == ("cifar10", ("cat", "dog"))
    assert images.train.labels.tolist() == [1, 0, 1, 0, 0, 1]
    assert images.test.labels.tolist() == [1, 1, 0, 0]
    pixels = batches["data_batch_2"]["data"][0].reshape(3, 32, 32).transpose(1, 2, 0)  # planes of red, green, blue
    np.testing.assert_array_equal(np.asarray(images.train.open(3)), pixels)
    assert images.train.where(3).endswith("cifar-10-batches-py (train), image 3")


@needs_safe_tar
def test_the_official_archive_is_unpacked_where_it_lies(tmp_path: Path, batches: dict[str, Any]) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.add(lay(tmp_path / "elsewhere", batches), "cifar-10-batches-py")
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(file.getvalue())
    md5 = hashlib.md5(file.getvalue()).hexdigest()
    images = cifar(tmp_path, published=with_md5(TINY10, md5))
    assert len(images.train) == 6


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_changed_batch_is_refused_before_it_is_unpickled(tmp_path: Path, batches: dict[str, Any], name: str) -> None:
    (lay(tmp_path, batches) / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(DataError, match="cifar-10-batches-py is not whole, or is not what was published"):
        cifar(tmp_path)
    assert not (tmp_path / "sprung").exists()
    pickle.loads((tmp_path / "cifar-10-batches-py" / name).read_bytes())
    assert (tmp_path / "sprung").exists()  # so it would have been


COPIES: dict[str, Callable[[Path, dict[str, bytes]], object]] = {
    "two zips": lambda root, files: [
        as_zip(root / f"cifar10_{split}.zip", {name: files[name] for name in files if name.startswith(split)})
        for split in ("train", "test")
    ],
    "one zip": lambda root, files: as_zip(root / "cifar10.zip", files),
    "a folder": lambda root, files: as_folder(root / "cifar10", files),
}


@pytest.mark.parametrize("write", COPIES.values(), ids=COPIES)
def test_copies_as_images_are_read_where_the_official_files_are_not(
    write: Callable[[Path, dict[str, bytes]], object], tmp_path: Path
) -> None:
    write(tmp_path, tree())
    images = cifar(tmp_path)
    assert (images.name, len(images.train), len(images.test)) == ("cifar10", 6, 4)


def test_the_official_files_go_before_copies(tmp_path: Path, batches: dict[str, Any]) -> None:
    as_zip(tmp_path / "cifar10.zip", tree())
    lay(tmp_path, batches)
    assert "cifar-10-batches-py" in cifar(tmp_path).train.where(0)


PARTS = {
    "fewer in a class": (
        {name: content for name, content in tree().items() if name != "train/dog/2.png"},
        "train has 5 images of 6; train has 2 images of 'dog', not 3",
    ),
    "unevenly": (
        {**tree(), **tree(["cat"], splits={"train": 4})},
        "train has 7 images of 6; train has 4 images of 'cat'",
    ),
    "fewer everywhere": (tree(splits={"train": 2, "test": 2}), "train has 4 images of 6"),
    "fewer to test": (tree(splits={"train": 3, "test": 1}), "test has 2 images of 4"),
    "other classes": (tree(["cat", "eel"]), "it has a class 'eel' where 'dog' is expected"),
    "one class less": (tree(["cat"]), "it has 1 classes of 2"),
}


@pytest.mark.parametrize(("files", "message"), PARTS.values(), ids=PARTS)
def test_a_part_never_passes_for_the_whole(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    as_zip(tmp_path / "cifar10.zip", files)
    with pytest.raises(DataError, match=f"is not CIFAR-10 as published: .*{message}.*image_folder"):
        cifar(tmp_path)


def test_nothing_there_names_places_and_cures(tmp_path: Path) -> None:
    as_zip(tmp_path / "cifar10_train.zip", tree())  # without its test half
    with pytest.raises(DataError) as caught:
        cifar(tmp_path)
    for part in (
        "CIFAR-10 is not there",
        str(tmp_path),
        "cifar-10-batches-py",
        "cifar10_train.zip with cifar10_test.zip",
        archive_of(CIFAR10).url,
        "--download",
        "copy cifar-10-python.tar.gz",
        "--data-root",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("published", "kind"),
    [(CIFAR10, datasets.CIFAR10), (DATA_SETS["cifar100"], datasets.CIFAR100)],
    ids=["10", "100"],
)
def test_address_and_checksum_are_torchvisions(published: KnownSet, kind: Any) -> None:
    archive = archive_of(published)
    assert (archive.url, archive.file) == (kind.url, kind.filename)
    assert (archive.md5, archive.holds) == (kind.tgz_md5, kind.base_folder)
    assert len(set(published.class_names)) == published.n_classes
    assert list(published.class_names) == sorted(published.class_names)  # as folders of the same names are


# --- CUB-200-2011 ----------------------------------------------------------------------------------------------------

BIRDS = replace(CUB200, n_classes=2, n_train=3, n_test=2)
CUB_FILES = {
    "classes.txt": b"1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n",
    "images.txt": b"1 001.B/a.jpg\n2 001.B/b.jpg\n3 002.L/c.jpg\n4 002.L/d.jpg\n5 002.L/e.jpg\n",
    "image_class_labels.txt": b"1 1\n2 1\n3 2\n4 2\n5 2\n",
    "train_test_split.txt": b"1 0\n2 1\n3 1\n4 0\n5 1\n",
    **{f"images/{name}.jpg": coded(k, kind="JPEG") for k, name in enumerate(("001.B/a", "001.B/b", "002.L/c"))},
    **{f"images/002.L/{name}.jpg": coded(k, kind="JPEG") for k, name in enumerate("de", 5)},
}


@pytest.mark.parametrize("place", [".", "CUB_200_2011"])
def test_cub_is_read_with_its_own_split(place: str, tmp_path: Path) -> None:
    as_folder(tmp_path / place, CUB_FILES)
    images = load_cub200(BIRDS, name="cub200", data_root=tmp_path)
    assert (images.name, images.class_names) == ("cub200", ("001.Black_footed_Albatross", "002.Laysan_Albatross"))
    assert [Path(images.train.where(i)).name for i in range(3)] == ["b.jpg", "c.jpg", "e.jpg"]
    assert images.train.labels.tolist() == [0, 1, 1]
    assert [Path(images.test.where(i)).name for i in range(2)] == ["a.jpg", "d.jpg"]
    assert images.test.labels.tolist() == [0, 1]
    assert images.train.open(0).mode == "RGB"


@needs_safe_tar
@pytest.mark.parametrize("is_fetched", [False, True], ids=["there", "fetched"])
def test_the_archive_of_cub_is_unpacked(is_fetched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tgz(as_folder(tmp_path / "made", CUB_FILES), "CUB_200_2011")
    published = with_md5(BIRDS, hashlib.md5(content).hexdigest())

    def put(archive: object, folder: Path) -> Path:
        (folder / "CUB_200_2011.tgz").write_bytes(content)
        return folder / "CUB_200_2011.tgz"

    if is_fetched:
        monkeypatch.setattr(originals, "fetch", put)
    else:
        put(None, tmp_path)
    assert len(load_cub200(published, name="cub200", data_root=tmp_path, download=is_fetched).train) == 3
    (tmp_path / "CUB_200_2011.tgz").unlink()
    assert len(load_cub200(published, name="cub200", data_root=tmp_path).train) == 3


def tgz(folder: Path, name: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.add(folder, name)
    return file.getvalue()


CUB_WRONG = {
    "a table is missing": ({"train_test_split.txt": None}, r"has no readable train_test_split\.txt"),
    "an image is missing": (
        {"images/002.L/d.jpg": None},
        r"lacks 1 images of CUB-200-2011, images/002\.L/d\.jpg first",
    ),
    "a line is torn": ({"images.txt": b"1 001.B/a.jpg\n2"}, r"images\.txt: '2' is not a new number and a value"),
    "an image twice": ({"images.txt": b"1 001.B/a.jpg\n1 001.B/b.jpg"}, "is not a new number"),
    "a table is short": ({"train_test_split.txt": b"1 0\n2 1\n"}, "four tables name different images"),
    "an unknown class": ({"image_class_labels.txt": b"1 1\n2 1\n3 2\n4 2\n5 3\n"}, "different images or classes"),
    "another split": ({"train_test_split.txt": b"1 1\n2 1\n3 1\n4 0\n5 1\n"}, "train has 4 images of 3; test has 1"),
    "a class without tests": ({"train_test_split.txt": b"1 1\n2 1\n3 0\n4 0\n5 1\n"}, "test has 0 images of '001"),
    "a path that leads out": (
        {"images.txt": CUB_FILES["images.txt"].replace(b"001.B/a", b"../../a")},
        "lacks 1 images",
    ),
}


@pytest.mark.parametrize(("change", "message"), CUB_WRONG.values(), ids=CUB_WRONG)
def test_a_cub_that_is_not_whole_is_refused(change: dict[str, bytes | None], message: str, tmp_path: Path) -> None:
    files = {name: content for name, content in {**CUB_FILES, **change}.items() if content is not None}
    (tmp_path / "a.jpg").write_bytes(coded(kind="JPEG"))
    as_folder(tmp_path / "CUB_200_2011", files)
    with pytest.raises(DataError, match=message):
        load_cub200(BIRDS, name="cub200", data_root=tmp_path)


# --- Tiny ImageNet ---------------------------------------------------------------------------------------------------

THINGS = replace(TINY_IMAGENET, n_classes=2, n_train=4, n_test=2)
TINY_FILES = {
    "wnids.txt": b"n02\nn01\n",
    "words.txt": b"n01\tgoldfish\nn02\tsalamander\n",
    **{f"train/{kind}/images/{kind}_{i}.JPEG": coded(i, kind="JPEG") for kind in ("n01", "n02") for i in range(2)},
    **{f"train/{kind}/{kind}_boxes.txt": b"" for kind in ("n01", "n02")},
    **{f"val/images/val_{i}.JPEG": coded(i, kind="JPEG") for i in range(2)},
    "val/val_annotations.txt": b"val_0.JPEG\tn02\t0\t32\t44\t62\nval_1.JPEG\tn01\t52\t55\t57\t59\n",
    "test/images/test_0.JPEG": coded(kind="JPEG"),
}
WRAPPED = {f"tiny-imagenet-200/{name}": content for name, content in TINY_FILES.items()}


def things(root: Path) -> ImageSet:
    path = root / "tiny-imagenet-200.zip"
    md5 = hashlib.md5(path.read_bytes()).hexdigest() if path.exists() else archive_of(THINGS).md5
    return load_tiny_imagenet(with_md5(THINGS, md5), name="tiny_imagenet", data_root=root)


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_tiny_imagenet_is_read_unpacked_and_packed(write: Callable[..., Path], tmp_path: Path) -> None:
    write(tmp_path / "tiny-imagenet-200", TINY_FILES if write is LAYOUTS["folder"] else WRAPPED)
    images = things(tmp_path)
    assert (images.name, images.class_names) == ("tiny_imagenet", ("n01", "n02"))
    assert images.train.labels.tolist() == [0, 0, 1, 1]
    assert [images.train.where(i)[-10:] for i in range(4)] == ["n01_0.JPEG", "n01_1.JPEG", "n02_0.JPEG", "n02_1.JPEG"]
    assert images.test.labels.tolist() == [1, 0]
    assert images.test.where(0).endswith("val/images/val_0.JPEG")
    assert images.test.open(1).mode == "RGB"


TINY_WRONG = {
    "no annotations": ({"val/val_annotations.txt": None}, r"has no readable val/val_annotations\.txt"),
    "a torn annotation": ({"val/val_annotations.txt": b"val_0.JPEG\tn02\nval_1.J"}, r"gives 'val_1.J' the class ''"),
    "an unknown class": ({"val/val_annotations.txt": b"val_0.JPEG\tn09\t0"}, "the class 'n09', unknown to wnids"),
    "an image is missing": ({"val/images/val_1.JPEG": None}, r"lacks 1 images of Tiny ImageNet, val/images/val_1"),
    "a training image is missing": ({"train/n01/images/n01_1.JPEG": None}, "train has 1 images of 'n01', not 2"),
}


@pytest.mark.parametrize(("change", "message"), TINY_WRONG.values(), ids=TINY_WRONG)
def test_a_tiny_imagenet_that_is_not_whole_is_refused(
    change: dict[str, bytes | None], message: str, tmp_path: Path
) -> None:
    files = {name: content for name, content in {**TINY_FILES, **change}.items() if content is not None}
    as_folder(tmp_path / "tiny-imagenet-200", files)
    with pytest.raises(DataError, match=message):
        things(tmp_path)


def test_another_zip_of_that_name_is_refused(tmp_path: Path) -> None:
    as_zip(tmp_path / "tiny-imagenet-200.zip", WRAPPED)
    with pytest.raises(DataError, match=r"is not the published tiny-imagenet-200\.zip"):
        load_tiny_imagenet(TINY_IMAGENET, name="tiny_imagenet", data_root=tmp_path)


def test_tiny_imagenet_is_fetched_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(originals, "fetch", lambda archive, root: as_zip(root / archive.file, WRAPPED))
    assert len(load_tiny_imagenet(THINGS, name="tiny_imagenet", data_root=tmp_path, download=True).train) == 4


@pytest.mark.parametrize("name", ["cub200", "tiny_imagenet"])
def test_nothing_is_fetched_unless_asked_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(originals, "fetch", lambda *_: pytest.fail("fetched without being asked"))
    with pytest.raises(DataError, match=r"is not there; looked in .*--download.* or copy .* or give --data-root"):
        load_images(name, data_root=tmp_path)
