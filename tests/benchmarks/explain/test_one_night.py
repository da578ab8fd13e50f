"""One night as a page, on the digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.explain.one_night.running import explain_one_night
from lab_samples import TINY
from src_plugin.errors import ConfigError


def test_a_night_without_a_sleep_says_why(tiny: RunConfig, digits: Dataset):
    awake = tiny.model_copy(update={"sleep": tiny.sleep.model_copy(update={"set": {"steps": 0}})})
    with pytest.raises(ConfigError, match="no night was passed"):
        explain_one_night(awake, seed=0, data=digits)


@pytest.mark.slow
def test_the_command_leaves_a_record_a_picture_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    assert main(["explain", "night", str(config), "--seeds", "0", "--out", str(tmp_path)]) == 0
    (path,) = (tmp_path / "night").glob("*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert [part["step"] for part in record["parts"]] == list(range(40, 801, 40))
    changes = [part["change"][0] for part in record["parts"]]
    assert changes[0] < changes[-1]
    assert record["parts"][-1]["closed_fractions"][0] > 0
    assert [len(layer) for layer in record["rasters"][0]["layers"]] == [40, 30, 20, 10]
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert path.with_suffix(".svg").exists()
    assert "### Night 3 of Digits, SGD" in capsys.readouterr().out
