"""`python -m benchmarks explain`: from a config to records, tables and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.explain.controls.rows import IN_PLACE, SIMULATED, TITLES
from benchmarks.explain.running import explain, held_out
from benchmarks.explain.tables import differences, markdown, stage_means
from benchmarks.records.metrics import pooled_accuracy
from benchmarks.runs.runner import run
from lab_samples import TINY
from src_plugin.errors import ConfigError


def told(seed: int, **accuracy: float):
    first = {"old_classes": 0, "accuracy": dict.fromkeys(accuracy, 1.0)}
    return {"seed": seed, "nights": [first, {"old_classes": 2, "accuracy": accuracy}]}


def test_means_are_over_nights_with_old_classes_and_differences_paired_by_seed():
    records = [told(0, none=0.5, simulated=0.7), told(1, none=0.6, simulated=0.7)]
    assert stage_means(records[0]) == {"none": 0.5, "simulated": 0.7}
    mean, gain = differences(records)["none"]
    assert mean == pytest.approx(0.55)
    assert gain.mean == pytest.approx(-0.15)
    assert gain.half_width == pytest.approx(12.706 * 0.05, rel=1e-3)  # t of one degree of freedom, sd / sqrt(2) = 0.05


def test_the_stream_goes_on_as_a_run_with_simulated_nights(tiny: RunConfig, digits: Dataset):
    record = explain(tiny, seed=0, data=digits)
    real = run(held_out(tiny), strategy="naive+src", seed=0, data=digits)
    assert real.accuracy is not None
    assert record["held_out"] == real.n_test
    for i, night in enumerate(record["nights"]):
        seen = pooled_accuracy(real.accuracy[i][: i + 1], real.n_test[: i + 1])
        assert night["accuracy"][SIMULATED] == pytest.approx(seen)
        assert night["decision"] == real.sleep_reports[i]["decision"]
    json.dumps(record, allow_nan=False)
    assert "| only each unit's mean change |" in markdown([record])


def test_one_head_for_each_task_is_refused(tiny: RunConfig):
    tasks = tiny.model_copy(update={"stream": tiny.stream.model_copy(update={"task_labels": True})})
    with pytest.raises(ConfigError, match="one head for all classes"):
        held_out(tasks)


@pytest.mark.slow
def test_the_command_from_a_config_to_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config, document = tmp_path / "tiny.yaml", tmp_path / "doc.md"
    config.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    document.write_text("<!-- table: begin -->\n<!-- table: end -->\n", encoding="utf-8")
    command = ["explain", "closed-form", str(config), "--seeds", "0", "1", "--adam", "--out", str(tmp_path / "out")]
    assert main([*command, "--write", str(document)]) == 0
    folder = tmp_path / "out" / "closed_form"
    assert len(list(folder.glob("*.json"))) == 4
    assert (folder / "nights.png").stat().st_size > 10_000
    assert (folder / "nights.svg").exists()
    table = document.read_text(encoding="utf-8")
    assert "| in the place of the sleep | Digits, SGD | Digits, Adam |" in table
    assert all(TITLES[name] in table for name in IN_PLACE if name not in ("unit_means_negative", "last_mean"))
    assert "Digits, SGD | 1 |" in table
    capsys.readouterr()
    made = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert main(command) == 0  # nothing is run again
    assert ".json" not in capsys.readouterr().out
    assert made == {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert main(["collect", str(tmp_path / "out")]) == 0
    assert not list(folder.glob("*.json"))
    capsys.readouterr()
    assert main([*command, "--write", str(document)]) == 0
    assert ".json" not in capsys.readouterr().out
    assert document.read_text(encoding="utf-8") == table


@pytest.mark.slow
def test_published_presets_have_a_row_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = tmp_path / "paper.yaml"
    preset = {"preset": "paper/split_mnist", "set": {"steps": 300, "steps_growth": 0, "patch": None}}
    config.write_text(yaml.safe_dump({**TINY, "sleep": preset}), encoding="utf-8")
    assert main(["explain", "closed-form", str(config), "--seeds", "0", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "### The published, gated rule" in out
    assert "its negative weights alone" in out


@pytest.mark.slow
def test_predictions_are_recorded_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from benchmarks.explain import prediction

    monkeypatch.setattr(prediction, "DEPTHS", (0.2,))
    monkeypatch.setattr(prediction, "MANY", (2.0, 1e5))
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    assert main(["explain", "prediction", str(config), "--seeds", "0", "--out", str(tmp_path)]) == 0
    (path,) = (tmp_path / "prediction").glob("*.json")
    settings = json.loads(path.read_text(encoding="utf-8"))["settings"]
    assert len(settings) == 4 * 4 + 2 * 2
    assert path.with_suffix(".png").stat().st_size > 10_000
    turned = settings[-1]["layers"][0]  # potentiation as strong, every input that is ever active in every step
    assert turned["fraction"] < 0
    assert turned["predicted"]["formula"] < 0
    out = capsys.readouterr().out
    assert "### Predicted sleeps: Digits, SGD" in out
    assert "| leak 0.999 | 1 |" in out
