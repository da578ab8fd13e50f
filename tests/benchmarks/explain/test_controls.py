"""Whole streams with a control in the place of every sleep: the ends are runs that exist, and seeds are paired."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.explain.controls import streams
from benchmarks.explain.controls.rows import CONTROLS, NONE, SIMULATED, Control, Given
from benchmarks.explain.controls.streams import NAIVE, NAMES, explain_controls, with_sleep
from benchmarks.explain.controls.table import kept, markdown
from benchmarks.explain.running import measured_on_held_out
from benchmarks.runs.runner import run
from lab_samples import TINY
from src_plugin.errors import ConfigError


def told(seed: int, **finals: float):
    return {"seed": seed, "controls": {name: {"final": final} for name, final in finals.items()}}


def test_shares_are_of_the_gain_over_no_sleep_and_differences_paired_by_seed():
    records = [told(0, none=0.5, simulated=0.7, noise=0.55), told(1, none=0.6, simulated=0.8, noise=0.65)]
    found = kept(records)
    assert found["noise"].share == pytest.approx(0.25)
    assert found["noise"].less.mean == pytest.approx(-0.15)
    assert found["noise"].less.half_width == pytest.approx(0.0, abs=1e-9)
    assert found[NONE].share == pytest.approx(0.0)
    assert kept([told(0, none=0.7, simulated=0.6)])[NONE].share is None  # there is no gain to share


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "rival"), [("auto", "naive+settle"), ("src_only", "naive")])
def test_the_ends_are_the_runs_of_the_laboratory(
    tiny: RunConfig, digits: Dataset, monkeypatch: pytest.MonkeyPatch, preset: str, rival: str
):
    monkeypatch.setattr(streams, "NAMES", (NAIVE, NONE, SIMULATED, "unit_means_negative"))
    config = with_sleep(tiny, preset)
    record = explain_controls(config, seed=0, data=digits)
    same = measured_on_held_out(config)
    for name, strategy in ((NAIVE, "naive"), (NONE, rival), (SIMULATED, "naive+src")):
        final = run(same, strategy=strategy, seed=0, data=digits).final_accuracy
        assert record["controls"][name]["final"] == pytest.approx(final), name
    assert record["skipped"] == {"unit_means_negative": "the rule is not gated: all weights move"}
    json.dumps(record, allow_nan=False)
    assert "Left out:" in markdown([record])


def test_another_sleep_has_another_name_and_an_unknown_one_is_refused(tiny: RunConfig):
    assert with_sleep(tiny, None) is with_sleep(tiny, "auto") is tiny
    assert with_sleep(tiny, "paper/split_mnist").name == "tiny-paper_split_mnist"
    with pytest.raises(ConfigError, match="src_only"):
        with_sleep(tiny, "src_onyl")


def test_a_control_that_diverges_is_told_and_the_others_go_on(
    tiny: RunConfig, digits: Dataset, monkeypatch: pytest.MonkeyPatch
):
    def explode(given: Given):
        return given.trained.with_weights([weight * float("inf") for weight in given.trained.weights])

    monkeypatch.setattr(streams, "NAMES", (NAIVE, NONE, "rest"))
    monkeypatch.setattr(streams, "CONTROLS", {**CONTROLS, "rest": Control("the rest", explode)})
    record = explain_controls(with_sleep(tiny, "src_only"), seed=0, data=digits)
    assert "NaN or infinite" in record["controls"]["rest"]["diverged"]
    assert record["controls"][NONE]["final"] == record["controls"][NAIVE]["final"]
    told_of = [{**record, "controls": {**record["controls"], SIMULATED: record["controls"][NAIVE]}}]
    assert "weights were no longer finite under seed 0" in markdown(told_of)


@pytest.mark.slow
def test_the_command_runs_every_control_and_draws_what_each_keeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config, document = tmp_path / "tiny.yaml", tmp_path / "doc.md"
    config.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    document.write_text("<!-- table: begin -->\n<!-- table: end -->\n", encoding="utf-8")
    command = ["explain", "controls", str(config), "--seeds", "0", "--sleeps", "src_only", "--out", str(tmp_path)]
    assert main([*command, "--write", str(document)]) == 0
    (path,) = (tmp_path / "controls").glob("*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert {*record["controls"], *record["skipped"]} == set(NAMES)
    assert record["controls"]["rest"]["final"] != record["controls"][SIMULATED]["final"]
    table = document.read_text(encoding="utf-8")
    assert "| in the place of every sleep | Digits, SGD, src_only |" in table
    assert "each unit's change, on its negative weights alone: the rule is not gated" in table
    capsys.readouterr()
    assert main(command) == 0  # nothing is run again
    assert ".json" not in capsys.readouterr().out
