"""Loading: which folder is taken, how often, and what is refused before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.data.images import ImageSet
from benchmarks.data.load import load_dataset
from benchmarks.errors import DataError
from benchmarks.features import dataset
from benchmarks.runs.suite import plan, run_suite
from benchmarks.streams import loading
from benchmarks.streams.loading import Places, check_dataset, forget_loaded, load_first, load_for
from image_samples import as_folder, tree
from lab_samples import TINY
from src_plugin.errors import ConfigError

SHORT = {**TINY, "training": {"lr": 0.1, "batch_size": 50, "epochs": 1}}


def config(**changes: object) -> RunConfig:
    return RunConfig.model_validate({**SHORT, **changes})


def test_the_first_folder_that_has_the_data_is_taken() -> None:
    asked = []

    def load(root: Path | None, download: bool) -> str:
        asked.append((root, download))
        if root == Path("b") or download:
            return f"from {root}"
        raise DataError(f"it is not in {root}")

    a, b, c = (Path(name) for name in "abc")
    assert load_first(load, [a, b, c]) == "from b"
    assert asked == [(a, False), (b, False)]
    with pytest.raises(DataError, match=r"it is not in a And: it is not in c"):
        load_first(load, [a, c])
    with pytest.raises(DataError, match=r"^it is not in data$"):
        load_first(load, [])
    assert load_first(load, [a, c], download=True) == "from a"
    assert load_first(load, [a, b], download=True) == "from b"  # what is there is not fetched


def test_a_data_set_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(loading, "load_dataset", lambda name, **more: loaded.append(name) or load_dataset(name, **more))
    forget_loaded()
    jobs = plan(config(), strategies=["naive"], seeds=[0, 1], out=tmp_path)
    run_suite(jobs, console=Console(quiet=True), threads=1)
    assert loaded == ["digits"]
    load_for(config(), Places())
    assert loaded == ["digits"]  # in this process, for all suites
    forget_loaded()


def test_an_unknown_data_set_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"stream.dataset: unknown dataset 'cifar1O'.*cifar10"):
        check_dataset(config(stream={"dataset": "cifar1O", "n_experiences": 5}))
    with pytest.raises(ConfigError, match=r"stream.then: unknown dataset 'fashon_mnist'.*fashion_mnist"):
        check_dataset(config(stream={"dataset": "mnist", "then": ["fashon_mnist"]}))


def test_a_backbone_is_refused_for_data_that_are_pixels_only() -> None:
    with pytest.raises(ConfigError, match=r"digits has pixels only, and a backbone takes image sets: "):
        check_dataset(config(backbone={"name": "resnet18"}))


SPLITS = {
    "pixels": ({"dataset": "mnist", "n_experiences": 4}, "tiny: stream.n_experiences: the 10 classes of mnist do not"),
    "images": ({"dataset": "cifar100", "n_experiences": 30}, "the 100 classes of cifar100 do not split into 30"),
    "uneven images": ({"dataset": "cub200", "classes_per_experience": [100, 99]}, "sums to 199, but cub200 has 200"),
    "an order": ({"dataset": "digits", "n_experiences": 5, "class_order": [1, 0]}, "each of the labels 0 to 9 once"),
    "a list": ({"dataset": "cifar10", "n_experiences": 5, "images_per_experience": [9]}, "1 entries for 5 experiences"),
    "too many": ({"dataset": "cifar10", "n_experiences": 5, "images_per_experience": 10_001}, "one of them has 5000"),
}


@pytest.mark.parametrize(("stream", "message"), SPLITS.values(), ids=SPLITS)
def test_a_split_that_cannot_be_made_is_refused_before_anything_is_read(stream: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_dataset(config(stream=stream))


def test_a_folder_of_images_is_listed_to_check_its_split(tmp_path: Path) -> None:
    as_folder(tmp_path / "pets", tree(["cat", "dog", "emu"], splits={"train": 3, "test": 1}))
    stream = {"dataset": "image_folder", "folder": ["pets"], "classes_per_experience": [2, 1]}
    check_dataset(config(stream=stream), places=Places((tmp_path,)))
    check_dataset(config(stream={**stream, "classes_per_experience": [2, 2]}))  # nobody knows where it is
    with pytest.raises(ConfigError, match="sums to 4, but pets has 3 classes"):
        check_dataset(config(stream={**stream, "classes_per_experience": [2, 2]}), places=Places((tmp_path,)))
    with pytest.raises(ConfigError, match="asks for 7 images in experience 0"):
        check_dataset(config(stream={**stream, "images_per_experience": 7}), places=Places((tmp_path,)), seeds=[0])


def test_permuted_pixels_are_refused_with_a_backbone() -> None:
    with pytest.raises(ConfigError, match=r"permutations puts pixels into new orders.*leave backbone out"):
        check_dataset(config(stream={"dataset": "cifar10", "permutations": 3}, backbone={"name": "resnet18"}))


def test_images_are_decoded_once_whoever_asks_and_their_split_is_checked_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    monkeypatch.setattr(dataset, "as_pixels", lambda images, real=dataset.as_pixels: decoded.append(1) or real(images))
    as_folder(tmp_path / "pets", tree(["cat", "dog"]))
    stream = {"dataset": "image_folder", "folder": ["pets"], "n_experiences": 2}
    places = Places((tmp_path,))
    impossible = config(stream={**stream, "images_per_experience": 4})
    with pytest.raises(ConfigError, match=r"tiny: stream\.images_per_experience asks for 4 images in experience 0"):
        load_for(impossible, places)
    assert decoded == []
    assert load_for(config(stream=stream), places, console=Console(quiet=True)).name == "pets"
    load_for(config(stream=stream), places)
    assert decoded == [1]
    with pytest.raises(ConfigError, match="asks for 4 images"):
        load_for(impossible, places, seeds=[0])
    forget_loaded()


def test_images_that_are_left_out_do_not_count_when_the_split_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_the_last(images: ImageSet, *_: object, **__: object) -> Dataset:
        whole = dataset.as_pixels(images)
        return replace(whole, train_images=whole.train_images[:-1], train_labels=whole.train_labels[:-1])

    monkeypatch.setattr(dataset, "on_features", without_the_last)
    as_folder(tmp_path / "pets", tree(["cat", "dog"]))
    stream = {"dataset": "image_folder", "folder": ["pets"], "n_experiences": 2, "images_per_experience": 3}
    skipping = config(stream=stream, backbone={"name": "toy", "unreadable": "skip"})
    for _ in range(2):  # the second time they are loaded already
        with pytest.raises(ConfigError, match=r"asks for 3 images in experience 1, .* one of them has 2"):
            load_for(skipping, Places((tmp_path,)), seeds=[0])
    forget_loaded()
