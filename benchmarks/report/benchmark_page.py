"""What the page of one benchmark shows around its table: facts, notes, and where its records are from."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.records.environment import ROOT
from benchmarks.records.record import Record
from benchmarks.report.points import chart_data
from benchmarks.report.rows import Benchmark, Row
from benchmarks.report.runs import slug, unique
from benchmarks.tables.summary import describe
from strategies import STRATEGIES

SIGNIFICANT = 0.05


def benchmark_context(benchmark: Benchmark, dates: Mapping[str, str]) -> dict[str, Any]:
    """Return what the template `benchmark.html` shows of a benchmark.

    Args:
        benchmark: Its rows and runs.
        dates: Commit -> its date.
    """
    ids = unique([slug(row.title) for row in benchmark.rows])
    rows = list(zip(benchmark.rows, ids, strict=True))
    drawn = [(row, name) for row, name in rows if row.mean is not None]
    known = {base: f"{row.paper}. It keeps {row.keeps}." for base, row in STRATEGIES.items()}
    return {
        "b": {
            "name": benchmark.name,
            "slug": benchmark.slug,
            "rows": rows,
            "facts": _facts(benchmark),
            "notes": _notes(benchmark),
        },
        "has_published": any(row.published for row in benchmark.rows),
        "has_lost": any(row.lost for row in benchmark.rows),
        "drawn": drawn,
        "chosen": _first_choice(drawn),
        "unplaced": ", ".join(row.title for row, _ in drawn if row.kept_bytes is None),
        "about": {row.base: known.get(row.base, "") for row in benchmark.rows},
        "data": chart_data(benchmark.rows, ids),
        "records_line": records_line(benchmark.records, dates),
    }


def _first_choice(drawn: Sequence[tuple[Row, str]]) -> str:
    """Return the strategy that is looked at first: one that sleeps, naive's if it can be."""
    order = sorted(
        drawn, key=lambda item: (item[0].sleeps != "on", item[0].base != "naive", item[0].name.endswith("only"))
    )
    return order[0][1] if order else ""


def _facts(benchmark: Benchmark) -> list[tuple[str, str]]:
    config = benchmark.config
    held_out = (config.get("stream") or {}).get("validation")
    first = next(iter(benchmark.measured), None)
    n_images = f"{sum(first.n_test):,} {'held-out training' if held_out else 'test'} images" if first else ""
    facts = [
        ("data", benchmark.dataset),
        ("stream", _stream(benchmark)),
        ("measured on", n_images),
        *((key, _words(config.get(key) or {})) for key in ("model", "training", "backbone")),
    ]
    return [(name, words) for name, words in facts if words]


def _stream(benchmark: Benchmark) -> str:
    """Return the classes of each experience in words, in how many orders they came, or what is configured."""
    if not benchmark.measured:
        n = benchmark.n_experiences
        return (f"{n} experiences by its config; " if n else "") + "no run has got as far as its classes"
    first = benchmark.measured[0]
    orders = {tuple(tuple(classes) for classes in record.experiences) for record in benchmark.measured}
    stream = f"{len(first.class_order)} classes in {len(first.experiences)} experiences"
    if len(orders) > 1:
        return f"{stream}, in {len(orders)} orders"
    return f"{stream}: {' | '.join(', '.join(names) for names in first.experiences)}"


def _words(section: Mapping[str, Any]) -> str:
    """Return a section of a config in one line, without what is not set."""
    parts = [f"{key} {_word(value)}" for key, value in section.items() if value is not None]
    return ", ".join(parts).replace("_", " ")


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "-".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _notes(benchmark: Benchmark) -> list[str]:
    """Return what has to be known to read the table: how small p can be, and where published numbers are from."""
    tested = [row.gain.difference.n for row in benchmark.rows if row.gain is not None and row.gain.p is not None]
    notes = []
    if tested:
        floor = min(1.0, len(tested) * 2 / 2 ** max(tested))
        comparisons = "one comparison" if len(tested) == 1 else f"{len(tested)} comparisons"
        if floor > SIGNIFICANT:
            notes.append(
                f"{comparisons[:1].upper()}{comparisons[1:]} of at most {max(tested)} pairs: corrected, p cannot fall "
                f"below {floor:.2g}, however large a difference. Look at the intervals."
            )
    sources = sorted({row.published.source for row in benchmark.rows if row.published})
    if sources:
        notes.append(f"Published: {'; '.join(sources)}.")
    return notes


def records_line(records: Sequence[Record], dates: Mapping[str, str]) -> str:
    """Return a sentence on commits, versions and machines of some records, and on the time they took."""
    own = sorted({dates[record.commit] for record in records if record.commit in dates})
    when = f"; commits of {own[0]}" + (f" to {own[-1]}" if len(own) > 1 else "") if own else ""
    return f"Records: {describe(records)}{when}."


def commit_dates(commits: Iterable[str]) -> dict[str, str]:
    """Return the dates of those commits that this checkout has, as YYYY-MM-DD."""
    known = sorted(name for name in commits if len(name) == 40 and all(sign in "0123456789abcdef" for sign in name))
    if not known:
        return {}
    command = ["git", "-C", str(ROOT), "log", "--no-walk", "--ignore-missing", "--format=%H %cs", *known]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split(" ", 1) for line in done.stdout.splitlines()) if done.returncode == 0 else {}
