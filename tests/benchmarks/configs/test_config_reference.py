"""The reference of keys is what the code says, and its examples are configs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml

from benchmarks.configs.files import merge
from benchmarks.configs.reference import COMMAND, attributes_of, example_of, reference, write_reference
from benchmarks.configs.run import RunConfig, StreamConfig
from places import ROOT
from strategies import STRATEGIES

PAGE = ROOT / "docs" / "configuration.md"
COMPLETE = {
    "name": "mine",
    "stream": {"dataset": "digits"},
    "backbone": {"name": "resnet18"},
    "model": {"hidden": [20]},
    "training": {"lr": 0.1, "batch_size": 10, "epochs": 1},
    "strategies": ["naive"],
}


@pytest.fixture(scope="module")
def page() -> str:
    return reference()


def rows_of(page: str) -> dict[str, list[str]]:
    """Return the cells of each row of all tables, by the first."""
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {first: others for first, *others in cells}


def test_the_page_that_is_committed_is_that_of_the_code(page: str) -> None:
    assert PAGE.read_text(encoding="utf-8") == page, f"keys have changed, and the page has not: {COMMAND}"


def test_a_page_is_written_as_it_is_compared(tmp_path: Path, page: str) -> None:
    write_reference(tmp_path / "page.md")
    assert (tmp_path / "page.md").read_bytes() == page.encode()


def test_every_key_has_a_row_with_its_full_name_and_a_meaning(page: str) -> None:
    rows = rows_of(page)
    for name in RunConfig.model_fields:
        assert f"`{name}`" in rows
    for name in StreamConfig.model_fields:
        assert f"`stream.{name}`" in rows
    assert {"`extends`", "`backbone.weights`", "`sleep.set.depth`", "`settings.ewc_lambda`"} <= rows.keys()
    assert all(cells[-1] for cells in rows.values())
    assert {len(cells) for cells in rows.values()} == {3}


def test_a_row_says_what_is_taken_and_what_is_there_without_it(page: str) -> None:
    rows = rows_of(page)
    assert rows["`training.lr`"] == ["a number greater than 0", "**required**", "Its learning rate."]
    assert rows["`model.bias`"][:2] == ["true or false", "`false`"]
    assert rows["`sleep.set.target_rates`"][:2] == ["a list of 3 numbers", "`[0.018, 0.011, 0.005]`"]
    assert rows["`name`"][1] == "the file's name"
    assert "`cub200`" in rows["`stream.dataset`"][2]
    assert "null for all" in rows["`stream.samples_per_experience`"][2]


def test_which_strategy_reads_which_setting_stands_at_both(page: str) -> None:
    rows = rows_of(page)
    assert rows["`ewc_online`"][0] == "`settings.ewc_online_lambda`, `settings.ewc_decay`"
    assert rows["`settings.ewc_decay`"][2].endswith("Read by `ewc_online`.")
    assert "`rehearsal`" in rows["`settings.memory_fraction`"][2]
    assert {f"`{name}`" for name in STRATEGIES} <= rows.keys()


def test_the_index_leads_to_every_section(page: str) -> None:
    headings = re.findall(r"^## (.*)$", page, flags=re.MULTILINE)
    index = dict(re.findall(r"\[([^]]+)\]\(#([\w-]+)\)", page.partition("##")[0]))
    assert list(index) == headings
    assert index["sleep.set"] == "sleepset"  # GitHub leaves full stops out


def test_every_example_is_a_config(page: str) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert len(examples) == 7
    for example in examples:
        raw = yaml.safe_load(example)
        raw.pop("extends", None)
        merged = merge(COMPLETE, raw)
        merged["stream"].setdefault("n_experiences", 5)
        RunConfig.model_validate(merged).sleep.build()


def test_texts_of_a_docstring_are_joined() -> None:
    text = inspect.cleandoc(
        """A line.

        Attributes:
            one: Begins here
                and goes on: here.
            two: Ends.

        Example:
            one:
              two: 3

        More.
        """
    )
    assert attributes_of(text) == {"one": "Begins here and goes on: here.", "two": "Ends."}
    assert example_of(text) == "one:\n  two: 3"
