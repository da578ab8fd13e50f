"""From a folder of images to a table: `features`, then `run` on what it kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.configs.backbone import BackboneConfig
from benchmarks.data.load import load_images
from benchmarks.data.originals import LAYOUTS
from benchmarks.features.dataset import on_features
from benchmarks.records.record import Record, find_records
from benchmarks.streams.loading import forget_loaded

COLOURS = {"blue": (30, 40, 200), "green": (40, 180, 60), "red": (210, 50, 40), "yellow": (220, 210, 50)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four classes of coloured noise, which even a random network tells apart."""
    rng = np.random.default_rng(0)
    for split, n in {"train": 20, "test": 5}.items():
        for name, colour in COLOURS.items():
            folder = tmp_path / "data" / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = np.clip(np.array(colour) + rng.normal(0, 30, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "data"


def write_config(folder: Path, **changes: Any) -> Path:
    raw = {
        "stream": {"dataset": "image_folder", "folder": ["photos"], "n_experiences": 2, "scale": "first"},
        "backbone": {"name": "paper_vgg", "weights": "random", "image_size": 16, "precision": "single"},
        "model": {"hidden": [16]},
        "training": {"optimizer": "adam", "lr": 0.01, "batch_size": 10, "epochs": 5},
        "strategies": ["naive", "naive+src", "ncm", "joint"],
    }
    path = folder / "photos.yaml"
    path.write_text(yaml.safe_dump({**raw, **changes}), encoding="utf-8")
    return path


def places(photos: Path) -> list[str]:
    return ["--data-root", str(photos), "--features", str(photos.parent / "features")]


def done(folder: Path) -> dict[str, Record]:
    return {record.strategy: record for record in find_records(folder)}


def test_features_are_computed_once_and_run_on(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path)
    assert main(["features", str(config), *places(photos)]) == 0
    said = capsys.readouterr().out
    assert "photos: features (80, 512) and (20, 512)" in said
    (kept,) = (tmp_path / "features").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.npy")}
    assert len(before) == 2

    assert main(["run", str(config), "--seeds", "0", "--out", str(tmp_path / "runs"), *places(photos)]) == 0
    assert {path.name: path.stat().st_mtime_ns for path in kept.glob("*.npy")} == before
    records = done(tmp_path / "runs")
    assert {name: record.status for name, record in records.items()} == dict.fromkeys(records, "done")
    assert records["joint"].final_accuracy == 1.0
    assert records["naive"].accuracy is not None
    assert records["naive"].accuracy[1][0] < 0.5  # forgotten
    story = records["naive"].features
    assert story is not None
    assert story["key"] == kept.name
    assert story["backbone"]["name"] == "paper_vgg"
    assert str(tmp_path) not in records["naive"].model_dump_json()
    assert records["naive"].config["backbone"]["weights"] == "random"


def test_a_flipped_byte_is_named_and_repaired(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path)
    main(["features", str(config), *places(photos)])
    shard = next((tmp_path / "features").rglob("train-*.npy"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    capsys.readouterr()
    forget_loaded()  # as a process of its own would begin
    assert main(["run", str(config), "--out", str(tmp_path / "runs"), *places(photos)]) == 2
    said = capsys.readouterr().err
    assert shard.name in said
    assert "python -m benchmarks features <the config> --repair" in said
    assert main(["features", str(config), "--repair", *places(photos)]) == 0
    assert shard.read_bytes() == whole


SPLITS: dict[str, tuple[dict[str, Any], str]] = {
    "classes": ({"n_experiences": 3}, "photos: stream.n_experiences: the 4 classes of photos do not split"),
    "order": ({"n_experiences": 2, "class_order": [0, 1, 2]}, "photos: stream.class_order must name each of the"),
    "images": ({"n_experiences": 2, "images_per_experience": 60}, "asks for 60 images in experience 0, 30 of each"),
}


@pytest.mark.parametrize(("split", "message"), SPLITS.values(), ids=SPLITS)
def test_a_split_that_cannot_be_made_is_refused_before_features_are_computed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], split: dict[str, Any], message: str
) -> None:
    stream = {"dataset": "image_folder", "folder": ["photos"], **split}
    config = write_config(tmp_path, stream=stream)
    assert main(["run", str(config), "--out", str(tmp_path / "runs"), *places(photos)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "features").exists()
    assert not (tmp_path / "runs").exists()


def test_the_backbone_in_the_model_gives_the_same_accuracies(photos: Path, tmp_path: Path) -> None:
    for cached in (True, False):
        backbone = {"name": "paper_vgg", "weights": "random", "image_size": 16, "precision": "single", "cached": cached}
        config = write_config(tmp_path, backbone=backbone, strategies=["naive+src"])
        assert main(["run", str(config), "--seeds", "0", "--out", str(tmp_path / str(cached)), *places(photos)]) == 0
    apart, inside = (done(tmp_path / str(cached))["naive+src"] for cached in (True, False))
    assert apart.accuracy is not None
    assert inside.accuracy is not None
    for ours, theirs in zip(apart.accuracy, inside.accuracy, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
    assert apart.config["backbone"]["cached"] != inside.config["backbone"]["cached"]
    assert inside.features is not None


def test_without_a_backbone_the_pixels_are_learnt(photos: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, backbone=None, strategies=["joint"])
    assert main(["run", str(config), "--seeds", "0", "--out", str(tmp_path / "runs"), *places(photos)]) == 0
    record = done(tmp_path / "runs")["joint"]
    assert record.final_accuracy == 1.0
    assert record.features is not None
    assert sorted(record.features) == ["data", "key"]


def test_pixels_of_other_images_do_not_go_into_one_table(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, backbone=None, strategies=["naive"])
    given = ["run", str(config), "--out", str(tmp_path / "runs"), *places(photos)]
    assert main([*given, "--seeds", "0"]) == 0
    Image.new("RGB", (16, 16)).save(photos / "photos/train/red/0.png")
    forget_loaded()
    capsys.readouterr()
    assert main([*given, "--seeds", "0"]) == 0
    assert "today's images were not compared" in capsys.readouterr().out
    assert main([*given, "--seeds", "0", "1"]) == 2
    assert "on other images or features" in capsys.readouterr().err
    assert len(done(tmp_path / "runs")) == 1


@pytest.mark.slow
def test_extraction_is_timed_beside_the_plain_loop(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "speed" / "photos.json"
    how = ["--time", "32", "--turns", "1", "--time-record", str(file)]
    assert main(["features", str(write_config(tmp_path)), *how, *places(photos)]) == 0
    assert "the plain loop" in capsys.readouterr().out
    record = json.loads(file.read_text(encoding="utf-8"))
    assert len(record["seconds"]["extraction"]) == len(record["seconds"]["plain"]) == 1
    assert record["extraction"] == pytest.approx(32 / record["seconds"]["extraction"][0])
    assert {"commit", "config", "hardware", "versions"} <= set(record)
    assert not (tmp_path / "features").exists()


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no backbone": ({"backbone": None}, "keeps no features"),
    "an unknown backbone": ({"backbone": {"name": "resnet5O", "weights": "random"}}, "resnet50"),
    "a missing folder": ({"stream": {"dataset": "image_folder", "folder": ["fotos"], "n_experiences": 2}}, "fotos"),
    "a file of weights": (
        {"backbone": {"name": "paper_vgg", "weights": "none.safetensors"}},
        f"no file 'none.safetensors', that is {Path('none.safetensors').absolute()}; known: package",
    ),
    "a word for weights": ({"backbone": {"name": "resnet18", "weights": "pretraned"}}, "did you mean 'pretrained'?"),
}


@pytest.mark.parametrize(("changes", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_answered_with_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    assert main(["features", str(write_config(tmp_path, **changes)), *places(photos)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "features").exists()


def test_a_file_of_weights_must_be_pinned(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "some.safetensors"
    weights.write_bytes(b"12345")
    backbone = {"name": "paper_vgg", "weights": str(weights)}
    assert main(["features", str(write_config(tmp_path, backbone=backbone)), *places(photos)]) == 2
    sha256 = "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"
    assert f"weights_sha256: {sha256}" in capsys.readouterr().err
    backbone |= {"weights_sha256": sha256.replace("5", "6")}
    assert main(["features", str(write_config(tmp_path, backbone=backbone)), *places(photos)]) == 2
    assert "another file of weights" in capsys.readouterr().err


def test_greyscale_images_among_colour_ones_are_told_of_when_features_are_computed(
    photos: Path, tmp_path: Path
) -> None:
    path = photos / "photos" / "train" / "red" / "0.png"
    Image.open(path).convert("L").save(path)
    config = write_config(tmp_path)
    with pytest.warns(UserWarning, match="1 of 100 images are greyscale among colour ones"):
        assert main(["features", str(config), *places(photos)]) == 0
    assert main(["features", str(config), *places(photos)]) == 0  # warnings are errors here: this one says nothing


def test_greyscale_images_are_told_of_too_where_the_backbone_is_part_of_the_model(photos: Path) -> None:
    path = photos / "photos" / "train" / "red" / "0.png"
    Image.open(path).convert("L").save(path)
    images = load_images("image_folder", data_root=photos, folder=["photos"])
    backbone = BackboneConfig(name="paper_vgg", weights="random", image_size=16, cached=False)
    with pytest.warns(UserWarning, match="1 of 100 images are greyscale among colour ones"):
        on_features(images, backbone, cache=photos)


def write_set(root: Path, *, seed: int) -> Path:
    """Two classes of coloured noise, as `split/class/image`."""
    rng = np.random.default_rng(seed)
    for split, n in {"train": 10, "test": 4}.items():
        for label, colour in enumerate(rng.permutation([(30, 40, 200), (210, 50, 40)])):
            (root / split / f"class{label}").mkdir(parents=True)
            for i in range(n):
                pixels = np.clip(colour + rng.normal(0, 30, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / f"class{label}" / f"{i}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("cached", [True, False], ids=["features", "in the model"])
def test_one_image_set_after_another_goes_through_the_same_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cached: bool
) -> None:
    for seed, name in enumerate(("cub200", "tiny_imagenet")):  # in their names, for both have 200 classes
        root = write_set(tmp_path / "data" / name, seed=seed)
        found = replace(load_images("image_folder", folder=[str(root)]), name=name)
        monkeypatch.setitem(LAYOUTS, name, lambda *_, found=found, **__: found)
    backbone = {"name": "paper_vgg", "weights": "random", "image_size": 16, "precision": "single", "cached": cached}
    stream = {"dataset": "cub200", "then": ["tiny_imagenet"], "scale": "first"}
    config = write_config(tmp_path, stream=stream, backbone=backbone, strategies=["naive+src"])
    given = ["--data-root", str(tmp_path / "data"), "--features", str(tmp_path / "features")]
    assert main(["run", str(config), "--seeds", "0", "--out", str(tmp_path / "runs"), *given]) == 0
    record = done(tmp_path / "runs")["naive+src"]
    assert record.status == "done"
    assert record.n_test == [8, 8]
    assert record.accuracy is not None
    assert record.accuracy[1][1] > 0.7
    assert record.features is not None
    keys = record.features["key"].split("+")
    assert len(set(keys)) == 2
    assert record.features["then"]["tiny_imagenet"]["data"] != record.features["data"]
    if cached:
        assert {path.name for path in (tmp_path / "features").iterdir()} == set(keys)
        capsys.readouterr()
        assert main(["features", str(config), *given]) == 0
        said = capsys.readouterr().out
        for name, key in zip(("cub200", "tiny_imagenet"), keys, strict=True):
            assert f"features (20, 512) and (8, 512) of {name} in {tmp_path / 'features' / key}" in said
    forget_loaded()
