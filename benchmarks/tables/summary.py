"""Results -> tables for the terminal, and words on records and numbers that all tables share. No number is typed."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from benchmarks.records.record import Record
from benchmarks.tables.results import BASELINE, Columns, Result, results_of


def percent(value: float | None, sd: float | None = None, *, signed: bool = False) -> str:
    """Return a fraction as a percentage with its spread, e.g. "72.5 ± 1.3"; "-" for None."""
    if value is None:
        return "-"
    text = f"{100 * value:+.1f}" if signed else f"{100 * value:.1f}"
    return text if sd is None else f"{text} ± {100 * sd:.1f}"


def make_table(records: Sequence[Record], *, width: int | None = None, note: str = "") -> Table:
    """Return the table of one setting: accuracies in percent over all test images after the last experience.

    Args:
        records: Of one setting.
        width: Characters there are. Where not all columns fit, those of SPARED are left out, one after the other, and a
            line under the table says which; None shows all.
        note: What the title says of them besides their config's name, see `what_differs`.
    """
    rows = main_results(records)
    name = records[0].config_name + (f" ({note})" if note else "")
    headings = [heading for heading in CELLS if heading != "lost" or any(row.lost for row in rows)]
    table = _table_of(name, rows, headings)
    if width is None or _widths(table).minimum <= width:
        return table  # a label of a sleep may be broken into lines, a number never
    left_out: list[str] = []
    for heading in SPARED:
        if _widths(table).maximum <= width:
            break
        left_out.append(heading)
        table = _table_of(name, rows, [h for h in headings if h not in left_out])
    table.caption = f"left out for lack of room: {', '.join(left_out)}; a wider window shows all"
    return table


def _table_of(name: str, rows: Sequence[Result], headings: Sequence[str]) -> Table:
    title = f"{name}: accuracy in percent over all test images after the last experience"
    table = Table(title=title, title_justify="left", title_style="bold", caption_justify="left")
    for heading in headings:
        is_text = heading in ("strategy", "sleep", "lost")
        may_break = {"sleep": LABEL, "lost": LABEL}.get(heading)
        table.add_column(
            heading, justify="left" if is_text else "right", no_wrap=may_break is None, min_width=may_break
        )
    for row in rows:
        table.add_row(*(CELLS[heading](row) for heading in headings))
    return table


def _widths(table: Table) -> Measurement:
    """Return the least width that breaks no number, and the one that breaks nothing."""
    endless = Console(width=10_000)
    return Measurement.get(endless, endless.options, table)


def main_results(records: Sequence[Record]) -> list[Result]:
    """Return the results of one setting in the first way of answering, so that each strategy has one."""
    return list({result.name: result for result in reversed(results_of(records))}.values())[::-1]


def over_baseline(row: Result) -> str:
    """Return what a strategy has more than naive training, in points, over the seeds that both have."""
    pairs = row.over_baseline
    spread = float(np.std(pairs, ddof=1)) if len(pairs) > 1 else None
    return percent(float(np.mean(pairs)) if pairs else None, spread, signed=True)


CELLS: Columns[Result] = {
    "strategy": lambda row: row.name,
    "sleep": lambda row: row.sleep or "-",
    "mean ± sd": lambda row: percent(row.mean, row.sd),
    "n": lambda row: str(len(row.finals)),
    f"vs {BASELINE} (pairs)": lambda row: over_baseline(row) + (f" ({n})" if (n := len(row.over_baseline)) else ""),
    "forgets": lambda row: percent(row.forgetting),
    "train s": lambda row: "-" if row.train is None else f"{row.train:.1f}",
    "sleep s": lambda row: f"{row.asleep:.1f}" if row.sleep and row.asleep is not None else "-",
    "kept": lambda row: row.kept_text or "-",
    "lost": lambda row: row.lost,
}
"""Columns of a table, and what stands in them. "lost" is there where a run was."""

LABEL = 14
"""Characters that the label of a sleep, or of what was lost, has at least before it is broken into lines."""

SPARED = ("sleep", "sleep s", "train s", "kept", "forgets")
"""Columns that a narrow window goes without, first those that are missed least."""


def describe(records: Sequence[Record]) -> str:
    """Return one line saying with which versions and on what the records of a table were made, and what they cost."""
    facts = {
        json.dumps([r.commit[:12], r.tree_clean, r.versions.get("torch"), r.hardware], sort_keys=True) for r in records
    }
    first = records[0]
    state = {True: "", False: ", changed files", None: ""}[first.tree_clean]
    threads = first.hardware.get("threads")
    line = (
        f"commit {first.commit[:12]}{state}; torch {first.versions.get('torch')}; {first.hardware.get('cpu')}, "
        f"{threads} thread{'s' * (threads != 1)}, {first.hardware.get('device')}"
    )
    if len(facts) > 1:
        line += f"; and {len(facts) - 1} more commits or machines among these records"
    cost = _duration(sum(r.seconds.total for r in records))
    return (
        f"{line}; {len(records):,} runs took {cost}, one after the other"
        if len(records) > 1
        else f"{line}; took {cost}"
    )


def _duration(seconds: float) -> str:
    """Return a time for people, e.g. "12 s", "8 min", "3.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
