"""Heads of several depths, likeness to task 1 and one task trained little, on the digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.__main__ import main
from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.explain.controls.streams import with_sleep
from benchmarks.explain.depth import picture, running, table
from benchmarks.explain.depth.running import cosine, explain_depth
from lab_samples import TINY
from src_plugin.errors import ConfigError
from src_plugin.head.state import HeadState


def test_cosine_is_of_all_weights_together():
    a = HeadState((torch.tensor([[3.0, 0.0]]), torch.tensor([[4.0]])), (None, None))
    b = HeadState((torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0]])), (None, None))
    assert cosine(a, a) == pytest.approx(1.0)
    assert cosine(a, b) == pytest.approx(3 / 5)


def test_published_thresholds_are_for_one_depth_and_are_refused(tiny: RunConfig, digits: Dataset):
    with pytest.raises(ConfigError, match="take --sleeps auto or src_only"):
        explain_depth(with_sleep(tiny, "paper/split_mnist"), seed=0, data=digits)


def test_the_command_leaves_a_record_a_picture_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for module in (running, table, picture):
        monkeypatch.setattr(module, "DEPTHS", (1, 2))
    monkeypatch.setattr(running, "TRAINED", (10000,))
    config = tmp_path / "tiny.yaml"
    stream = {"dataset": "digits", "n_experiences": 2, "samples_per_experience": 150}
    small = {**TINY, "stream": stream, "training": {"lr": 0.1, "batch_size": 10, "epochs": 1}}
    config.write_text(yaml.safe_dump(small), encoding="utf-8")
    assert main(["explain", "depth", str(config), "--seeds", "0", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "depth"
    (path,) = folder.glob("*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert list(record["trained"]) == ["1128"]  # those were all there are
    assert all(0 < told["cosine"][0] < 1 for told in record["depths"].values())
    assert record["depths"]["1"]["slept"] != record["depths"]["1"]["naive"]
    assert (folder / "depth.png").stat().st_size > 10_000
    assert "| 1,128 |" in capsys.readouterr().out
