"""The table of the README: made from records, never typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.readme import BEGIN, END, HEAD, markdown_table, with_table
from benchmarks.records import find_records
from lab_samples import finished
from src_plugin.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_a_row_says_mean_spread_seeds_and_difference() -> None:
    records = [finished("naive", seed, 0.2) for seed in range(2)]
    records += [finished("naive+src", seed, final) for seed, final in enumerate((0.6, 0.8))]
    *head, naive, slept = markdown_table(records).splitlines()
    assert tuple(head) == HEAD
    assert "| `naive` |  | 20.0 ± 0.0 | 2 | - |" in naive
    assert "| `naive+src` | `auto` | 70.0 ± 14.1 | 2 | +50.0 ± 14.1 |" in slept


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    text = with_table(f"above\n{BEGIN}\nold\n{END}\nbelow\n", [finished("naive", 0, 0.2)], where="README.md")
    assert text.startswith(f"above\n{BEGIN}\n| config")
    assert text.endswith(f"|\n{END}\nbelow\n")
    assert "old" not in text


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"README.md has no place for a table; put a line"):
        with_table("text", [], where="README.md")


def test_the_table_of_the_readme_is_the_one_its_records_make() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    records = list(find_records(ROOT / "benchmarks" / "results"))
    assert records
    assert all(record.tree_clean for record in records)
    assert with_table(text, records, where="README.md") == text


def test_the_script_of_the_readme_is_the_example_that_ci_runs() -> None:
    script = (ROOT / "examples" / "forgetting_and_sleep.py").read_text(encoding="utf-8")
    assert f"```python\n{script}```" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(script.splitlines()) <= 20
