"""CSV and Markdown hold the numbers of the rows."""

from __future__ import annotations

import csv
import io

import pytest

from benchmarks.report.export import bytes_text, seconds_text


@pytest.fixture(scope="module")
def lines(site):
    text = (site / "leaderboard.csv").read_text(encoding="utf-8")
    return {(line["benchmark"], line["strategy"], line["way"]): line for line in csv.DictReader(io.StringIO(text))}


def test_csv_has_every_number_as_it_is(lines):
    slept = lines["tiny", "naive+src", ""]
    assert float(slept["accuracy_mean"]) == pytest.approx(0.60)
    assert float(slept["difference_mean"]) == pytest.approx(0.40)
    assert (slept["n"], slept["difference_pairs"], slept["p"], slept["p_holm"]) == ("6", "6", "0.03125", "0.03125")
    assert (slept["kept_bytes"], slept["earlier_images"], slept["sleeps"], slept["done"]) == ("600", "no", "on", "6")
    assert len(slept["records"].split()) == 6


def test_csv_leaves_unknown_empty(lines):
    lost = lines["tiny", "ewc", ""]
    assert (lost["accuracy_mean"], lost["accuracy_sd"], lost["p"], lost["reproduced"]) == ("", "", "", "")
    assert (lost["n"], lost["diverged"], lost["done"]) == ("0", "1", "0")


def test_csv_has_published_numbers_as_fractions(lines):
    published = lines["table1_mnist_paper", "naive+src", ""]
    assert (published["provenance"], published["n"], published["published_mean"]) == ("published", "0", "0.4847")
    ours = lines["table1_mnist_paper", "naive", ""]
    assert (ours["reproduced"], ours["published_source"]) == ("yes", "Table 1")


def test_records_of_the_csv_are_there(lines, site):
    for line in lines.values():
        assert all((site / path).is_file() for path in line["records"].split())


def test_markdown_has_a_table_per_benchmark(site):
    text = (site / "leaderboard.md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## table1_mnist_paper",
        "## tiny",
        "## ways",
    ]
    (slept,) = (line for line in text.splitlines() if line.startswith("| `naive+src` | 60.0"))
    cells = [cell.strip() for cell in slept.strip("|").split("|")]
    assert cells[1] == "60.0 ± 2.0"
    # Differences of 40, 41, 39, 40, 40, 40 points: sd 0.63, times t(5) = 2.57, over the root of 6: 0.66.
    assert cells[3:6] == ["6", "+40.0 ± 0.7", "0.031"]
    assert cells[8:10] == ["600 B", "no"]
    (rehearsed,) = (line for line in text.splitlines() if line.startswith("| `replay+src`"))
    assert "| n too small |" in rehearsed
    assert "| `icarl`, outputs | 30.0 ± 0.0 |" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, ""),
        (0, "0 B"),
        (600, "600 B"),
        (6360, "6.36 kB"),
        (999_960, "1,000 kB"),
        (1_414_800, "1.41 MB"),
        (2e9, "2.00 GB"),
    ],
)
def test_bytes_for_people(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0.0, "0.00"), (9.999, "10.0"), (23.84, "23.8"), (1234.5, "1,234")]
)
def test_seconds_for_people(value, text):
    assert seconds_text(value) == text
