"""The example of photos month by month, on tiny photos and a tiny backbone."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from benchmarks import load_model
from benchmarks.configs.backbone import BackboneConfig
from model_samples import SMALL, make_photos
from places import ROOT


@pytest.mark.slow
def test_the_example_learns_saves_and_predicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    make_photos(photos / "2026-01", n=10, classes=["blue", "red"], side=32)
    make_photos(photos / "2026-02", n=10, classes=["green", "yellow"], seed=1, side=32)
    learn = runpy.run_path(str(ROOT / "examples" / "photos_month_by_month.py"))["learn"]
    learn(photos, tmp_path / "models", BackboneConfig.model_validate(SMALL))
    said = capsys.readouterr().out
    *rows, advice = said.splitlines()[-5:]
    assert [line.split(":")[0].strip() for line in rows] == ["sleep", "settling", "ncm", "slda"]
    assert advice.startswith(("Take ncm. With 8 photos,", "Take slda. With 8 photos,"))
    assert "ncm: 100.0% of 8 photos of 4 categories" in said
    assert load_model(tmp_path / "models" / "sleep.model.safetensors").class_names == ("blue", "red", "green", "yellow")
