"""Records -> the one table of a document over all settings; so no number in it is typed by hand."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks import markdown
from benchmarks.records.record import Record
from benchmarks.tables.results import Columns, Result, group_records
from benchmarks.tables.summary import main_results, over_baseline, percent

COLUMNS: Columns[Result] = {
    "config": lambda row: f"`{row.records[0].config_name}`",
    "strategy": lambda row: f"`{row.name}`",
    "sleep": lambda row: f"`{row.sleep}`" if row.sleep else "",
    "accuracy, %": lambda row: percent(row.mean, row.sd) + (f" ({row.lost})" if row.lost else ""),
    "seeds": lambda row: str(len(row.finals)),
    "vs naive": over_baseline,
    "kept between experiences": lambda row: row.kept_text,
    "sleep, s": lambda row: f"{row.asleep:.1f}" if row.sleep and row.asleep is not None else "",
}


def markdown_table(records: Iterable[Record]) -> str:
    """Return one table over all settings: final accuracy on all test images, mean and standard deviation over seeds."""
    rows = [row for group in group_records(records).values() for row in main_results(group)]
    return markdown.table(list(COLUMNS), [[cell(row) for cell in COLUMNS.values()] for row in rows])
