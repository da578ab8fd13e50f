"""Figure 4 of the article: hidden activity before and after each night, on the digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.__main__ import main
from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.explain.correlations.running import class_correlations, explain_correlations, sparseness
from benchmarks.explain.correlations.table import changes, matrix
from lab_samples import TINY
from src_plugin.errors import ConfigError


def test_an_image_is_no_pair_with_itself_and_one_answered_alike_by_all_units_is_left_out():
    up, down, flat = [1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 2.0, 2.0]
    found = class_correlations([torch.tensor([up, up, flat]), torch.tensor([down])])
    assert found[0, 0] == pytest.approx(1.0)  # up with up
    assert found[0, 1] == pytest.approx(-1.0)
    assert found[1, 1].isnan()


def test_sparseness_is_0_where_all_answer_alike_and_1_where_one_answers_alone():
    assert sparseness(torch.tensor([[2.0, 2.0, 2.0, 2.0]])) == pytest.approx(0.0)
    assert sparseness(torch.tensor([[0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])) == pytest.approx(1.0)


def test_without_a_hidden_layer_there_is_nothing_to_look_at(tiny: RunConfig, digits: Dataset):
    flat = tiny.model_copy(update={"model": tiny.model.model_copy(update={"hidden": []})})
    with pytest.raises(ConfigError, match="there is no hidden layer to look at"):
        explain_correlations(flat, seed=0, data=digits)


def test_the_command_leaves_a_record_a_picture_and_what_the_article_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    assert main(["explain", "correlations", str(config), "--seeds", "0", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "correlations"
    (path,) = folder.glob("*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    last = record["nights"][-1]
    assert [matrix(layer).shape for layer in last["morning"]["layers"]] == [(10, 10), (10, 10)]
    assert last["morning"]["layers"] != last["evening"]["layers"]
    assert changes([record], 0)["old"].by.mean < 0  # a night takes answers away, of old classes too
    assert (folder / "correlations.png").stat().st_size > 10_000
    assert (folder / "correlations.svg").exists()
    assert "sparseness rises" in capsys.readouterr().out
