"""Images: opened one by one as RGB, refused by name, usable in several processes, and known by a fingerprint."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch.utils.data import DataLoader, Dataset

from benchmarks.data.images import ArrayImages, FileImages, Images, JoinedImages, ZipImages
from benchmarks.errors import DataError, ImageError
from image_samples import as_folder, as_zip, coded

CONTENT = {f"{kind}/{i}.png": coded(i + 10 * k) for k, kind in enumerate(("cat", "dog")) for i in range(3)}
LABELS = [0, 0, 0, 1, 1, 1]

Maker = Callable[..., Images]


def files(place: Path, content: dict[str, bytes] = CONTENT, labels: list[int] = LABELS) -> FileImages:
    return FileImages(as_folder(place / "images", content), list(content), labels)


def zipped(place: Path, content: dict[str, bytes] = CONTENT, labels: list[int] = LABELS) -> ZipImages:
    path = as_zip(place / "images.zip", content)
    with zipfile.ZipFile(path) as archive:
        return ZipImages(path, archive.infolist(), labels)


def array(place: Path, content: dict[str, bytes] = CONTENT, labels: list[int] = LABELS) -> ArrayImages:
    return ArrayImages(np.stack([pixels(image) for image in content.values()]), labels, name="pixels")


def joined(place: Path, content: dict[str, bytes] = CONTENT, labels: list[int] = LABELS) -> JoinedImages:
    names = list(content)
    head, tail = ({name: content[name] for name in part} for part in (names[:2], names[2:]))
    return JoinedImages([files(place, head, labels[:2]), zipped(place, tail, labels[2:])])


KINDS = {"files": files, "zip": zipped, "array": array, "joined": joined}
ON_DISK = {name: KINDS[name] for name in ("files", "zip", "joined")}


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


class Opened(Dataset):
    """Pixels of images, as a DataLoader's worker reads them."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> np.ndarray:
        return np.array(self.images.open(i))


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_images_open_as_they_were_saved(make: Maker, tmp_path: Path) -> None:
    images = make(tmp_path)
    assert len(images) == 6
    assert images.labels.dtype == torch.int64
    assert images.labels.tolist() == LABELS
    for i, content in enumerate(CONTENT.values()):
        opened = images.open(i)
        assert (opened.mode, opened.size) == ("RGB", (6, 4))
        np.testing.assert_array_equal(np.asarray(opened), pixels(content))


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("i", [6, -1])
def test_there_is_no_image_beyond_the_last_nor_before_the_first(make: Maker, i: int, tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        make(tmp_path).open(i)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_an_open_set_can_be_pickled(make: Maker, tmp_path: Path) -> None:
    images = make(tmp_path)
    first = np.asarray(images.open(5))
    again = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(np.asarray(again.open(5)), first)
    assert again.fingerprint() == images.fingerprint()


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_workers_read_what_the_parent_reads(make: Maker, tmp_path: Path) -> None:
    content = {f"{i}.png": coded(i, size=(40, 40)) for i in range(60)}
    images = make(tmp_path, content, [0] * 60)
    images.open(0)  # the parent's own handle is open when the workers are forked
    loader = DataLoader(Opened(images), batch_size=1, num_workers=2, multiprocessing_context="fork")
    for row, read in zip(content.values(), loader, strict=True):
        np.testing.assert_array_equal(read[0].numpy(), pixels(row))


BROKEN = {
    "cut short": coded(kind="JPEG", size=(60, 60))[:-700],
    "cut short png": coded()[:-30],
    "empty": b"",
    "a web page": b"<html>not found</html>",
    "16 bits a channel": coded(mode="I;16"),
    "a png whose head is broken": coded().replace(b"IHDR", b"IHDX"),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("make", ON_DISK.values(), ids=ON_DISK)
def test_a_broken_image_is_refused_by_name(make: Maker, content: bytes, tmp_path: Path) -> None:
    images = make(tmp_path, {**CONTENT, "dog/1.png": content})
    with pytest.raises(ImageError, match=r"dog/1\.png cannot be read: .*unreadable: skip") as caught:
        images.open(4)
    assert caught.value.index == 4
    assert isinstance(caught.value, DataError)
    images.open(3)  # and the others are not


def test_more_than_8_bits_are_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"more than 8 bits a channel .*convert it to 8 bits"):
        files(tmp_path, {"deep.png": coded(mode="I;16")}, [0]).open(0)


def test_a_file_that_is_gone_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    images = files(tmp_path)
    (tmp_path / "images/cat/2.png").unlink()
    with pytest.raises(ImageError, match=r"cat/2\.png cannot be read: .*No such file"):
        images.open(2)


def test_a_member_whose_content_does_not_fit_its_checksum_is_refused(tmp_path: Path) -> None:
    images = zipped(tmp_path, {"a.bmp": coded(kind="BMP")}, [0])
    raw = bytearray(images.archive.read_bytes())
    raw[120] ^= 1  # a pixel: the BMP itself still opens
    images.archive.write_bytes(raw)
    with pytest.raises(ImageError, match=r"images\.zip!a\.bmp cannot be read: .*CRC"):
        images.open(0)


def test_an_archive_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    images = zipped(tmp_path)
    as_zip(images.archive, {**CONTENT, "cat/0.png": coded(77)})
    with pytest.raises(ImageError, match=r"cat/0\.png .*replaced since"):
        images.open(0)


def test_a_cut_image_is_refused_also_where_pillow_was_told_to_fill_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    images = files(tmp_path, {"cut.jpg": BROKEN["cut short"]}, [0])
    with Image.open(images.where(0)) as image:
        image.load()  # half a picture, half grey: what must not get into features
    with pytest.raises(ImageError, match="truncated"):
        images.open(0)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True  # another library's choice stays


def test_an_error_passes_between_processes_as_what_it_is() -> None:
    error = pickle.loads(pickle.dumps(ImageError("cat/0.png cannot be read", 7)))
    assert (str(error), error.index) == ("cat/0.png cannot be read", 7)
    assert ImageError("Caught ImageError in a worker").index is None  # so torch makes a worker's error again


MODES = {"1": "PNG", "L": "PNG", "LA": "PNG", "P": "PNG", "RGBA": "PNG", "CMYK": "JPEG"}


@pytest.mark.parametrize(("mode", "kind"), MODES.items(), ids=MODES)
def test_every_mode_of_8_bits_becomes_rgb(mode: str, kind: str, tmp_path: Path) -> None:
    image = files(tmp_path, {"a": coded(mode=mode, kind=kind)}, [0]).open(0)
    assert (image.mode, image.size) == ("RGB", (6, 4))


def test_a_palette_with_transparency_becomes_rgb_without_a_warning(tmp_path: Path) -> None:
    file = io.BytesIO()
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(file, "PNG", transparency=bytes([0, 100]))
    opened = files(tmp_path, {"a.png": file.getvalue()}, [0]).open(0)
    assert np.asarray(opened).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_a_greyscale_image_has_its_channel_three_times(tmp_path: Path) -> None:
    content = coded(mode="L")
    opened = np.asarray(files(tmp_path, {"a.png": content}, [0]).open(0))
    np.testing.assert_array_equal(opened, np.repeat(pixels(content)[:, :, None], 3, axis=2))


@pytest.mark.parametrize("make", ON_DISK.values(), ids=ON_DISK)
def test_greyscale_images_are_found_by_their_heads(make: Maker, tmp_path: Path) -> None:
    content = {**CONTENT, "cat/0.png": coded(mode="L"), "dog/0.png": b"", "dog/2.png": coded(mode="LA")}
    assert make(tmp_path, content).greyscale() == [0, 5]


def test_no_greyscale_among_arrays(tmp_path: Path) -> None:
    assert array(tmp_path).greyscale() == []


CHANGES = {
    "an image": ({**CONTENT, "cat/1.png": coded(99)}, LABELS),
    "a label": (CONTENT, [0, 0, 1, 1, 1, 1]),
    "the order": (dict(reversed(CONTENT.items())), LABELS),
    "one less": (dict(list(CONTENT.items())[:-1]), LABELS[:-1]),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_fingerprint_changes_with(make: Maker, change: tuple[dict[str, bytes], list[int]], tmp_path: Path) -> None:
    assert make(tmp_path / "a").fingerprint() != make(tmp_path / "b", *change).fingerprint()


@pytest.mark.parametrize("make", ON_DISK.values(), ids=ON_DISK)
def test_the_fingerprint_changes_with_a_name(make: Maker, tmp_path: Path) -> None:
    renamed = {f"cow{name[3:]}" if "cat" in name else name: content for name, content in CONTENT.items()}
    assert make(tmp_path / "a").fingerprint() != make(tmp_path / "b", renamed).fingerprint()


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_the_fingerprint_stays_where_only_the_place_changes(make: Maker, tmp_path: Path) -> None:
    found = make(tmp_path / "a").fingerprint()
    assert found == make(tmp_path / "b").fingerprint()
    assert len(found) == 64


def test_the_fingerprint_of_a_zip_reads_no_member(tmp_path: Path) -> None:
    images = zipped(tmp_path)
    images.archive.unlink()
    assert len(images.fingerprint()) == 64


def test_the_fingerprint_of_files_is_also_made_with_one_that_cannot_be_read(tmp_path: Path) -> None:
    images = files(tmp_path)
    before = images.fingerprint()
    (tmp_path / "images/cat/0.png").unlink()
    assert images.fingerprint() != before


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 4, 4, 3)), np.zeros((2, 3, 4, 4), np.uint8), np.zeros((3, 4, 4, 3), np.uint8)]
)
def test_arrays_of_another_kind_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"blobs: 2 labels need images as uint8 of shape \(2, height, width, 3\)"):
        ArrayImages(pixels, [0, 1], name="blobs")
