"""Figures 5 and 6 of the article: neurons of a class, on the digits; permutations are counted, not drawn."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.explain.neurons import running
from benchmarks.explain.neurons.running import top_of
from benchmarks.explain.neurons.testing import subset_p, two_groups_p
from lab_samples import TINY


@pytest.mark.parametrize("chosen", [[0, 1, 2], [3, 5, 7], [4, 6, 8]])
def test_p_is_that_of_all_subsets_written_out(chosen: list[int]):
    counts = np.array([0, 0, 1, 1, 2, 0, 5, 3, 9])
    sums = [counts[list(subset)].sum() for subset in combinations(range(len(counts)), 3)]
    assert subset_p(counts, counts[chosen]) == pytest.approx(np.mean(np.array(sums) >= counts[chosen].sum()))


def test_two_groups_differ_by_all_ways_to_part_them_and_not_at_all_where_nobody_fires():
    assert two_groups_p(np.array([9, 8, 7]), np.array([1, 2, 3])) == pytest.approx(2 / 20)
    assert two_groups_p(np.array([0, 0]), np.array([0, 0, 0])) == 1.0


def test_a_layer_too_small_for_100_neurons_gives_fewer_and_silent_ones_never_count():
    assert top_of(np.arange(1000)).tolist() == list(range(999, 899, -1))
    assert len(top_of(np.arange(1, 41))) == 10
    assert top_of(np.array([0, 3, 0, 0, 0, 0, 0, 0])).tolist() == [1]


def test_the_command_leaves_a_record_a_picture_and_what_the_article_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(running, "N_IMAGES", 10)
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    command = ["explain", "neurons", str(config), "--sleeps", "src_only", "--set", "stream.first=2"]
    assert main([*command, "--seeds", "0", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "neurons"
    (path,) = folder.glob("*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert list(record["classes"].values()) == ["old", "old", "new", "new", *["never"] * 6]
    layer = record["layers"][0]
    assert layer["by_class"]["0"]["input"][1] < layer["by_class"]["0"]["input"][0]  # of old classes, too
    assert layer["by_class"]["4"]["p"] < 0.05  # though nothing of class 4 was ever learnt
    assert (folder / "neurons.png").stat().st_size > 10_000
    out = capsys.readouterr().out
    assert "A layer of 30 units is too small for 100: 7 are taken." in out
    assert "our control, in noise neurons of classes never learnt fire more than random subsets" in out
