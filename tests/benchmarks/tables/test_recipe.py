"""Recipes: the command that makes records again, and none where there is none."""

from __future__ import annotations

import pytest

from benchmarks.configs.files import load_config
from benchmarks.configs.matrix import load_matrix
from benchmarks.configs.run import RunConfig, resolve
from benchmarks.records.record import Record, find_records
from benchmarks.tables.comparison import comparison
from benchmarks.tables.recipe import recipe_of
from benchmarks.tables.results import group_records
from lab_samples import finished
from places import ROOT

DIGITS = load_config(ROOT / "configs" / "split_digits.yaml")
PAPER = load_config(ROOT / "configs" / "table1" / "table1_mnist_paper.yaml")
CELL = next(
    cell.config for cell in load_matrix(ROOT / "configs" / "table2_mnist.yaml").cells if "k50" in cell.config.name
)


def records_of(config: RunConfig, *strategies: str, name: str = "") -> list[Record]:
    return [
        finished(strategy, seed, 0.2, config_name=name or config.name, config=resolve(config, strategy))
        for strategy in strategies
        for seed in (2, 0)
    ]


RECIPES = {
    "run configs/split_digits.yaml --strategies ewc naive": (DIGITS, ["ewc", "naive"]),  # not the one of configs/found
    "run configs/table1/table1_mnist_paper.yaml": (PAPER, PAPER.strategies),
    "regimes configs/table2_mnist.yaml --only k50 --datasets mnist": (CELL, ["icarl_mlp"]),
}


@pytest.mark.parametrize(("command", "made"), RECIPES.items(), ids=["some", "all", "matrix"])
def test_a_table_says_by_which_command_it_is_made(command: str, made: tuple[RunConfig, list[str]]) -> None:
    config, strategies = made
    records = records_of(config, *strategies)
    assert recipe_of(records) == f"python -m benchmarks {command} --seeds 0 2"
    assert comparison(records, {}).endswith(f". Made again by `python -m benchmarks {command} --seeds 0 2`.")


OTHER = DIGITS.model_copy(update={"training": DIGITS.training.model_copy(update={"epochs": 77})})


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (DIGITS, "nothing"),
        (DIGITS, "split_digits-epochs-77"),
        (OTHER, "split_digits"),
        (CELL, "table2_mnist-mnist-k51"),
    ],
    ids=["unknown", "changed on the command line", "changed since", "no such cell"],
)
def test_what_no_file_says_has_no_recipe(config: RunConfig, name: str) -> None:
    records = records_of(config, "naive", name=name)
    assert recipe_of(records) == ""
    assert "Made again" not in comparison(records, {})


def test_every_table_of_the_strategies_has_a_recipe() -> None:
    for (name, _), group in group_records(find_records(ROOT / "benchmarks" / "results" / "paper")).items():
        assert recipe_of(group), name
