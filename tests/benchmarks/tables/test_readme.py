"""README and pages: their tables are made from records, never typed, and their links lead to files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.configs.files import load_config
from benchmarks.configs.matrix import load_matrix
from benchmarks.markdown import BEGIN, END, between_marks, write_between_marks
from benchmarks.records.published import load_published
from benchmarks.records.record import find_records
from benchmarks.runs.search import choose, plan_search
from benchmarks.tables.comparison import comparison
from benchmarks.tables.matrix import make_rows, markdown_tables
from benchmarks.tables.picture import SOURCE, fingerprint
from benchmarks.tables.readme import markdown_table
from benchmarks.tables.summary import main_results
from lab_samples import finished
from places import ROOT
from src_plugin.errors import ConfigError
from strategies import STRATEGIES


def test_a_row_says_mean_spread_seeds_and_difference() -> None:
    records = [finished("naive", seed, 0.2) for seed in range(2)]
    records += [finished("naive+src", seed, final) for seed, final in enumerate((0.6, 0.8))]
    *head, naive, slept = markdown_table(records).splitlines()
    assert head == [
        "| config | strategy | sleep | accuracy, % | seeds | vs naive | kept between experiences | sleep, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    assert "| `naive` |  | 20.0 ± 0.0 | 2 | - |" in naive
    assert "| `naive+src` | `auto` | 70.0 ± 14.1 | 2 | +50.0 ± 14.1 |" in slept


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    text = between_marks(f"above\n{BEGIN}\nold\n{END}\nbelow\n", "new", where="README.md")
    assert text == f"above\n{BEGIN}\nnew\n{END}\nbelow\n"


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"README.md has no place for a table; put a line"):
        between_marks("text", "new", where="README.md")


def test_a_document_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.md cannot be read: No such file.*--write needs a document with marks"):
        write_between_marks(tmp_path / "none.md", "new")


def test_the_table_of_the_results_is_the_one_its_records_make() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    records = list(find_records(ROOT / "benchmarks" / "results" / "suites"))
    assert records
    assert all(record.tree_clean for record in records)
    assert between_marks(text, markdown_table(records), where="docs/results.md") == text


def test_the_pictures_of_the_suites_show_what_their_records_say() -> None:
    pictures = list((ROOT / "benchmarks" / "results" / "suites").glob("*/accuracy.png"))
    assert pictures
    for path in pictures:
        assert Image.open(path).text[SOURCE] == fingerprint(list(find_records(path.parent))), path


def test_the_first_numbers_of_the_readme_are_those_of_its_records() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    found = re.search(r"keeps (\d+) % without sleep keeps (\d+) % with it; .*? it reaches (\d+) %", text)
    assert found is not None
    rows = {row.name: row for row in main_results(list(find_records(ROOT / "benchmarks/results/suites/split_mnist")))}
    means = [rows[name].mean for name in ("naive", "naive+src", "joint")]
    assert [int(number) for number in found.groups()] == [round(100 * mean) for mean in means if mean is not None]


@pytest.mark.parametrize("name", ["regimes", "rehearsal"])
def test_the_tables_of_a_matrix_are_those_its_records_make(name: str) -> None:
    matrix = load_matrix(ROOT / "configs" / f"{name}.yaml")
    records = list(find_records(ROOT / "benchmarks" / "results" / matrix.stem))
    assert records
    assert all(record.tree_clean for record in records)
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert between_marks(text, markdown_tables(make_rows(matrix, records), records), where=name) == text


def test_the_tables_of_the_strategies_are_those_their_records_make() -> None:
    records = list(find_records(ROOT / "benchmarks" / "results" / "paper"))
    assert records
    assert all(record.tree_clean for record in records)
    text = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    assert between_marks(text, comparison(records, load_published()), where="docs/strategies.md") == text


def test_every_strategy_is_described_with_its_settings() -> None:
    text = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    for name, row in STRATEGIES.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` | ") and row.paper in line)
        assert row.keeps in line
        assert all(f"`{setting}`" in line for setting in row.settings)


def test_what_was_found_is_what_the_search_records_say() -> None:
    records = list(find_records(ROOT / "benchmarks" / "results" / "search"))
    for path in sorted((ROOT / "configs" / "found").glob("*.yaml")):
        config = load_config(path)
        own = {record.hash: record for record in records if record.config_name == f"search-{path.stem}"}
        seeds = {record.seed for record in records if record.config_name == f"search-{path.stem}"}
        by_job = {(record.strategy, record.seed, record.hash): record for record in records}
        assert own, path
        strategies = sorted({record.strategy for record in own.values()})
        trials = plan_search(config, strategies=strategies, seeds=sorted(seeds), out=Path("runs"))
        made = {job: by_job[job.strategy, job.seed, job.path.stem.rpartition("-")[2]] for t in trials for job in t.jobs}
        for found in choose(trials, made):
            chosen = found.trials[found.best].settings
            assert {key: getattr(config.settings, key) for key in chosen} == chosen, (path.stem, found.strategy)


def test_the_script_of_the_readme_is_the_example_that_ci_runs() -> None:
    script = (ROOT / "examples" / "forgetting_and_sleep.py").read_text(encoding="utf-8")
    assert f"```python\n{script}```" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(script.splitlines()) <= 20


def test_the_readme_is_short_and_says_where_sleep_does_not_help() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert "### Where it does not help" in text


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        place, _, heading = link.partition("#")
        target = page.parent / place if place else page
        assert link.startswith("https://") or target.exists(), link
        if heading and target.suffix == ".md" and not link.startswith("https://"):
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in headings}, link


def test_every_page_is_named_on_the_first_one() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[2:] if f"](docs/{page.name})" not in text] == []
