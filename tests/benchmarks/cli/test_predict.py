"""From a config to a prediction: `run --save-models` in one process, `predict` in another."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.__main__ import main
from benchmarks.records.record import find_records
from benchmarks.runs import attempt, runner
from benchmarks.runs.keeping import prepare_saving
from benchmarks.runs.saved import load_model
from benchmarks.streams.loading import forget_loaded
from lab_samples import TASKS, TINY
from model_samples import COLOURS, SMALL, make_photos, write_photos_config
from places import ROOT
from strategies.prediction import classifiers


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    make_photos(tmp_path / "data" / "photos" / "train", n=8)
    return make_photos(tmp_path / "data" / "photos" / "test", n=2, seed=1)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Fill with the scores of each strategy's own network for all test images, as the run ends."""
    found: dict[str, Tensor] = {}

    def spy(strategy: Any, *, config: Any, data: Any, scales: Any) -> Any:
        images = data.test_images[:] / (1.0 if scales is None else scales[-1])
        with torch.no_grad():
            strategy.model.eval()
            found[type(strategy).__name__] = next(iter(classifiers(strategy).values()))(images)
        return prepare_saving(strategy, config=config, data=data, scales=scales)

    monkeypatch.setattr(runner, "prepare_saving", spy)
    return found


def run(config: Path, *more: str, seeds: str = "0") -> int:
    folder = config.parent
    given = ["--seeds", seeds, "--out", str(folder / "runs"), "--data-root", str(folder / "data")]
    return main(["run", str(config), "--save-models", "--features", str(folder / "features"), *given, *more])


def files(folder: Path) -> list[Path]:
    return sorted((folder / "runs").rglob("*.model.safetensors"))


BACKBONES = {
    "pixels": {"stream": {"dataset": "image_folder", "folder": ["photos"], "n_experiences": 2}},
    "features": {"backbone": SMALL},
    "in the model": {"backbone": {**SMALL, "cached": False}},
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", BACKBONES.values(), ids=BACKBONES)
def test_another_process_gives_the_probabilities_of_the_run_itself(
    tmp_path: Path, photos: list[Path], told: dict[str, Tensor], changes: dict[str, Any]
) -> None:
    assert run(write_photos_config(tmp_path, **changes)) == 0
    (file,) = files(tmp_path)
    (own,) = told.values()
    command = [sys.executable, "-m", "benchmarks", "predict", str(file), *map(str, photos), "--json", "--top", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [answer["image"] for answer in answers] == [str(path) for path in photos]
    for answer, expected in zip(answers, own.softmax(dim=1), strict=True):
        found = {row["class"]: row["probability"] for row in answer["classes"]}
        assert [found[name] for name in COLOURS] == pytest.approx(expected.tolist(), abs=1e-6)
        assert list(found.values()) == sorted(found.values(), reverse=True)


@pytest.mark.slow
def test_rivals_leave_files_too_and_each_answers_as_it_was_measured(
    tmp_path: Path, photos: list[Path], told: dict[str, Tensor]
) -> None:
    config = write_photos_config(tmp_path, backbone=SMALL, strategies=["ncm", "slda", "icarl_mlp", "joint"])
    assert run(config) == 0
    right = torch.arange(4).repeat_interleave(2)
    records = {record.strategy: record for record in find_records(tmp_path / "runs")}
    for file in files(tmp_path):
        found = load_model(file).predict(photos)
        assert found.sum(dim=1).tolist() == pytest.approx([1.0] * 8)
        assert (found.argmax(1) == right).float().mean() == pytest.approx(records[file.parent.name].final_accuracy)
    torch.testing.assert_close(
        load_model(files(tmp_path)[-2]).predict(photos), told["NearestClassMean"].softmax(dim=1), atol=1e-6, rtol=0
    )


def tiny(folder: Path, **changes: Any) -> Path:
    training = {**TINY["training"], "epochs": 1}
    return write_photos_config(folder, **{**TINY, "training": training, "strategies": ["naive"], **changes})


@pytest.mark.slow
def test_a_done_run_without_a_model_file_says_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(tmp_path)
    assert main(["run", str(config), "--seeds", "0", "--out", str(tmp_path / "runs")]) == 0
    assert not files(tmp_path)
    assert run(config) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no model was kept of tiny: naive, seed 0, which is already done: to have it, run it again with" in said
    (record,) = (tmp_path / "runs").rglob("seed*.json")
    record.unlink()
    assert run(config) == 0
    (file,) = files(tmp_path)
    assert file.name == f"{record.stem}.model.safetensors"
    assert f"python -m benchmarks predict {file}" in capsys.readouterr().out
    assert load_model(file).about["run"]["record_sha256"] == hashlib.sha256(record.read_bytes()).hexdigest()


def test_a_record_is_not_written_before_its_model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A process that dies between the two makes the run again, and has both then.
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    config = tiny(tmp_path)
    monkeypatch.setattr(attempt, "write_record", die)
    assert run(config) == 130
    assert len(files(tmp_path)) == 1
    assert not list((tmp_path / "runs").rglob("seed*.json"))
    monkeypatch.undo()
    assert run(config) == 0
    assert len(files(tmp_path)) == 1
    assert len(list(find_records(tmp_path / "runs"))) == 1


def test_of_a_network_that_asks_for_the_task_no_model_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny(tmp_path, stream={**TASKS, "samples_per_experience": 50})) == 0
    assert "no model is kept of tiny: naive: its network asks for the task of each image" in " ".join(
        capsys.readouterr().out.split()
    )
    assert not files(tmp_path)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    assert run(tiny(folder)) == 0
    return files(folder)[0]


def test_a_table_has_a_row_for_each_image_and_as_many_classes_as_are_asked_for(
    tmp_path: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_photos(tmp_path / "small", n=1, side=8)
    capsys.readouterr()
    assert main(["predict", str(model_file), *map(str, images), "--top", "2"]) == 0
    said = capsys.readouterr().out
    assert said.count("%") == 2 * len(images)
    assert "probability" in said


def not_an_image(folder: Path) -> list[str]:
    (folder / "notes.png").write_text("no image")
    return [str(folder / "notes.png")]


def too_large(folder: Path) -> list[str]:
    return [str(make_photos(folder / "large", n=1, classes=["red"])[0])]


BAD: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "no image": (not_an_image, "notes.png cannot be read"),
    "gone": (lambda folder: [str(folder / "gone.png")], "gone.png cannot be read"),
    "too large": (too_large, "it has 16 x 16 pixels, and the network learnt images of 8 x 8; bring it to that size"),
    "no class": (lambda folder: [*too_large(folder), "--top", "0"], "--top must be 1 or more; got 0"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_predicted_ends_in_one_sentence(
    tmp_path: Path,
    model_file: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: Callable[[Path], list[str]],
    message: str,
) -> None:
    capsys.readouterr()
    assert main(["predict", str(model_file), *arguments(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err


def test_a_torn_model_file_ends_in_one_sentence(
    tmp_path: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn.model.safetensors"
    torn.write_bytes(model_file.read_bytes()[:-1])
    assert main(["predict", str(torn), "any.png"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {torn} is torn, or no safetensors file")


def teardown_module() -> None:
    forget_loaded()
