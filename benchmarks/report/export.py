"""Benchmarks -> one CSV with every number as it is, and one Markdown document with a table per benchmark."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from benchmarks import markdown
from benchmarks.report.rows import Benchmark, Row
from benchmarks.report.statistics import Gain
from benchmarks.tables.comparison import published_text
from benchmarks.tables.results import Columns, Result
from benchmarks.tables.summary import describe, percent

STATUSES = ("done", "diverged", "failed", "skipped")
TOO_SMALL = "n too small"


def csv_text(benchmarks: Sequence[Benchmark]) -> str:
    """Return a line for every row: accuracies are fractions, published ones as well; unknown is empty."""
    lines = [_fields(benchmark, row) for benchmark in benchmarks for row in benchmark.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _fields(benchmark: Benchmark, row: Row) -> dict[str, Any]:
    gain, there = row.gain, row.published
    return {
        "benchmark": benchmark.name,
        "strategy": row.name,
        "way": row.way,
        "settings": row.variant,
        "sleep": row.sleep,
        "sleeps": row.sleeps,
        "earlier_images": yes_no(row.stores),
        "n": len(row.finals),
        "accuracy_mean": row.mean,
        "accuracy_sd": row.sd,
        "interval_low": row.interval[0] if row.interval else None,
        "interval_high": row.interval[1] if row.interval else None,
        "difference_mean": gain.difference.mean if gain else None,
        "difference_half_width": gain.difference.half_width if gain else None,
        "difference_pairs": gain.difference.n if gain else None,
        "p": gain.p if gain else None,
        "p_holm": gain.p_holm if gain else None,
        "published_mean": _fraction(there.mean) if there else None,
        "published_sd": _fraction(there.sd) if there else None,
        "published_source": there.source if there else None,
        "reproduced": yes_no(row.reproduced),
        "forgetting": row.forgetting,
        "kept_bytes": row.kept_bytes,
        "train_seconds": row.train,
        "sleep_seconds": row.asleep,
        **{status: row.counts.get(status, 0) for status in STATUSES},
        "provenance": row.provenance,
        "records": " ".join(run.copy for run in row.runs),
    }


def _fraction(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 6)  # 48.47 is 0.4847, not 0.48469999999999996


def markdown_text(benchmarks: Sequence[Benchmark]) -> str:
    """Return a heading, a table and where it is from, for every benchmark."""
    parts = []
    for benchmark in benchmarks:
        cells = [[cell(row) for cell in COLUMNS.values()] for row in benchmark.rows]
        table = markdown.table(list(COLUMNS), cells, align="lrrrrrrlrlrrll")
        parts.append("\n".join([f"## {benchmark.name}", "", table, "", f"{describe(benchmark.records)}."]))
    return "# Results\n\n" + "\n\n".join(parts) + "\n"


def accuracy_text(row: Result) -> str:
    """Return mean and standard deviation in percent, "" without a done run."""
    return "" if row.mean is None else percent(row.mean, row.sd)


def gain_text(gain: Gain | None) -> str:
    """Return what sleep adds in points with half of its interval, "" without a pair."""
    return "" if gain is None else percent(gain.difference.mean, gain.difference.half_width, signed=True)


def p_text(gain: Gain | None) -> str:
    """Return the corrected p, or that there are too few pairs for one."""
    if gain is None:
        return ""
    return TOO_SMALL if gain.p_holm is None else f"{gain.p_holm:.2g}"


def seconds_text(seconds: float | None) -> str:
    """Return seconds to three figures, e.g. "0.24", "12.3", "1,234"; "" for None."""
    return "" if seconds is None else _three_figures(seconds)


def bytes_text(count: int | None) -> str:
    """Return a number of bytes to three figures, e.g. "600 B", "6.36 kB", "1.41 MB"."""
    if count is None:
        return ""
    for unit, size in {"GB": 1e9, "MB": 1e6, "kB": 1e3}.items():
        if count >= size:
            return f"{_three_figures(count / size)} {unit}"
    return f"{count} B"


def _three_figures(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def yes_no(value: bool | None) -> str:
    """Return "yes", "no", or "" where nobody knows."""
    return {True: "yes", False: "no", None: ""}[value]


COLUMNS: Columns[Row] = {
    "strategy": lambda row: f"`{row.name}`{row.way_text}" + (f" ({row.variant})" if row.variant else ""),
    "accuracy, %": lambda row: accuracy_text(row),
    "95 % interval": lambda row: f"{percent(row.interval[0])} to {percent(row.interval[1])}" if row.interval else "",
    "n": lambda row: str(len(row.finals)),
    "sleep - none, ± 95 %": lambda row: gain_text(row.gain),
    "p, Holm": lambda row: p_text(row.gain),
    "published": lambda row: published_text(row.published),
    "reproduced": lambda row: yes_no(row.reproduced),
    "kept": lambda row: row.kept_text,
    "earlier images": lambda row: yes_no(row.stores),
    "train, s": lambda row: seconds_text(row.train),
    "sleep, s": lambda row: seconds_text(row.asleep) if row.sleep else "",
    "lost": lambda row: row.lost,
    "provenance": lambda row: row.provenance,
}
