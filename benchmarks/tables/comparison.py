"""Records -> a document's tables of strategies with and without sleep, beside what was published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks import markdown
from benchmarks.records.metrics import Difference, paired_difference, sign_flip_p
from benchmarks.records.published import Published
from benchmarks.records.record import Record
from benchmarks.tables.recipe import recipe_of
from benchmarks.tables.results import Columns, Result, group_records, results_of
from benchmarks.tables.summary import describe, percent
from strategies import SUFFIXES

PAIRS = 6  # below it, the exact p cannot fall under 0.05 and says nothing


def gain_of_sleep(result: Result) -> tuple[Difference, float] | None:
    """Return the paired difference to the same strategy without sleep, and its exact p; None without a pair."""
    if result.against is None:
        return None
    ours, theirs = result.finals, result.against.finals
    difference = paired_difference(ours, theirs)
    p = sign_flip_p([ours[seed] - theirs[seed] for seed in ours if seed in theirs])
    return None if difference is None or p is None else (difference, p)


def published_text(there: Published | None) -> str:
    """Return what was published, in percent."""
    return "" if there is None else percent(there.mean / 100, None if there.sd is None else there.sd / 100)


def _verdict(row: Result) -> str:
    """Return whether ours reproduce what was published; below three runs nobody knows."""
    if row.published is not None and row.published.differs is not None:
        return f"- ({row.published.differs})"
    return {True: "yes", False: "no", None: ""}[row.reproduced]


def _gain(row: Result) -> str:
    gain = gain_of_sleep(row)
    return "" if gain is None else percent(gain[0].mean, gain[0].half_width, signed=True)


def _p(row: Result) -> str:
    gain = gain_of_sleep(row)
    return "" if gain is None or gain[0].n < PAIRS else f"{gain[1]:.2g}"


COLUMNS: Columns[Result] = {
    "strategy": lambda row: f"`{row.name}`{row.way_text}",
    "sleep": lambda row: row.sleep,
    "accuracy, %": lambda row: percent(row.mean, row.sd) + (f" ({row.lost})" if row.lost else ""),
    "n": lambda row: str(len(row.finals)),
    "published": lambda row: published_text(row.published),
    "reproduced": _verdict,
    "sleep - none, ± 95 %": _gain,
    "p": _p,
    "forgets": lambda row: percent(row.forgetting),
    "kept": lambda row: row.kept_text,
    "seconds": lambda row: "" if row.seconds is None else f"{row.seconds:.0f}",
}
TEXTS = ("strategy", "sleep", "reproduced")
"""Columns that begin at the left."""


def comparison(records: Iterable[Record], published: Mapping[str, Mapping[str, Published]]) -> str:
    """Return the Markdown of a document: a heading, what sleep was, a table and what makes it, for every setting.

    Where sleeps of one suffix differ, a column says which row had which.

    Args:
        records: Of any settings.
        published: Config name -> strategy -> what was published.
    """
    parts = []
    for (name, _), group in group_records(records).items():
        rows = results_of(group, published.get(name, {}))
        sleeps = sleeps_of(rows)
        is_one_each = all(len(labels) == 1 for labels in sleeps.values())
        said = ", ".join(f"`{suffix}` is {labels[0]}" for suffix, labels in sleeps.items()) if is_one_each else ""
        shown = {heading: cell for heading, cell in COLUMNS.items() if heading != "sleep" or not is_one_each}
        above = [f"### {name}", "", *([f"Sleep: {said}.", ""] if said else [])]
        recipe = recipe_of(group)
        below = f"{describe(group)}." + (f" Made again by `{recipe}`." if recipe else "")
        table = markdown.table(
            list(shown),
            [[cell(row) for cell in shown.values()] for row in rows],
            align="".join("l" if heading in TEXTS else "r" for heading in shown),
        )
        parts.append("\n".join([*above, table, "", below]))
    return "\n\n".join(parts)


def sleeps_of(rows: Sequence[Result]) -> dict[str, list[str]]:
    """Return what each suffix stood for in some rows, in the order of SUFFIXES: one sleep, or several that differ."""
    found = {suffix: list(dict.fromkeys(x.sleep for x in rows if x.suffix == suffix)) for suffix in SUFFIXES}
    return {suffix: labels for suffix, labels in found.items() if labels}
