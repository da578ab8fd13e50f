"""Loading: which folder is taken, how often, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import loading
from benchmarks.config import RunConfig
from benchmarks.data import DataError, load_dataset
from benchmarks.loading import Places, check_dataset, forget_loaded, load_first, load_for
from benchmarks.suite import plan, run_suite
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
