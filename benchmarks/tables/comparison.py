"""Records -> a document's tables of strategies with and without sleep, beside what was published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.metrics import Difference, forgetting, paired_difference, pooled_accuracy, sign_flip_p
from benchmarks.records.published import Published
from benchmarks.records.record import Record
from benchmarks.tables.recipe import recipe_of
from benchmarks.tables.summary import describe, group_records, group_strategies, percent, sleep_label, summarise
from strategies import SUFFIXES, split_name

HEAD = (
    "| strategy | accuracy, % | n | published | reproduced | sleep - none, ± 95 % | p | forgets | kept | seconds |",
    "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|",
)

HEAD_WITH_SLEEP = (
    HEAD[0].replace("| strategy |", "| strategy | sleep |"),
    HEAD[1].replace("|---|", "|---|---|", 1),
)

PAIRS = 6  # below it, the exact p cannot fall under 0.05 and says nothing


@dataclass(frozen=True)
class Line:
    """One way of answering of one strategy.

    Attributes:
        strategy: The name it is shown with.
        way: The way of answering, "" where there is but one.
        matrices: Accuracy by seed, see `benchmarks.records.metrics`; of runs that are done.
        finals: Final accuracy by seed, fractions.
        records: All of its records, those that are lost included.
    """

    strategy: str
    way: str
    matrices: Mapping[int, Sequence[Sequence[float]]]
    finals: Mapping[int, float]
    records: Sequence[Record]

    @property
    def title(self) -> str:
        """Name and way, for people."""
        return f"`{self.strategy}`" + (f", {self.way.replace('_', ' ')}" if self.way else "")

    @property
    def sleep(self) -> str:
        """What its sleep was, see `sleep_label`."""
        return sleep_label(self.records[0].config.get("sleep") or {})

    @property
    def suffix(self) -> str:
        """What the strategy's own name ends in, "" without a sleep."""
        return split_name(self.records[0].strategy)[1]

    @property
    def forgetting(self) -> float | None:
        """Mean forgetting; None for joint training."""
        values = [value for matrix in self.matrices.values() if (value := forgetting(matrix)) is not None]
        return float(np.mean(values)) if values else None


def lines_of(records: Sequence[Record]) -> list[Line]:
    """Return the lines of one setting: a strategy with several ways of answering has several."""
    lines = []
    for name, group in group_strategies(records).items():
        done = [r for r in group if r.status == "done" and r.accuracy]
        ways = list(done[0].accuracy_by or {}) if done else []
        for way in ways or [""]:
            matrices = {r.seed: (r.accuracy_by or {}).get(way) or r.accuracy or [] for r in done}
            finals = {r.seed: pooled_accuracy(matrices[r.seed][-1], r.n_test) for r in done}  # each has its own order
            lines.append(Line(name, way, matrices, finals, group))
    return lines


def gain_of_sleep(line: Line, lines: Sequence[Line]) -> tuple[Difference, float] | None:
    """Return the paired difference to the same strategy without sleep, and its exact p; None without a pair."""
    base, suffix = split_name(line.strategy)
    plain = next((x for x in lines if x.strategy == base and x.way == line.way), None)
    if not suffix or plain is None:
        return None
    difference = paired_difference(line.finals, plain.finals)
    p = sign_flip_p([line.finals[seed] - plain.finals[seed] for seed in line.finals if seed in plain.finals])
    return None if difference is None or p is None else (difference, p)


def comparison(records: Iterable[Record], published: Mapping[str, Mapping[str, Published]]) -> str:
    """Return the Markdown of a document: a heading, what sleep was, a table and what makes it, for every setting.

    Where sleeps of one suffix differ, a column says which row had which.

    Args:
        records: Of any settings.
        published: Config name -> strategy -> what was published.
    """
    parts = []
    for (name, _), group in group_records(records).items():
        lines = lines_of(group)
        sleeps = sleeps_of(lines)
        is_one_each = all(len(labels) == 1 for labels in sleeps.values())
        said = ", ".join(f"`{suffix}` is {labels[0]}" for suffix, labels in sleeps.items()) if is_one_each else ""
        rows = [_row(line, lines, published.get(name, {}), shows_sleep=not is_one_each) for line in lines]
        above = [f"### {name}", "", *([f"Sleep: {said}.", ""] if said else [])]
        recipe = recipe_of(group)
        below = f"{describe(group)}." + (f" Made again by `{recipe}`." if recipe else "")
        parts.append("\n".join([*above, *(HEAD if is_one_each else HEAD_WITH_SLEEP), *rows, "", below]))
    return "\n\n".join(parts)


def sleeps_of(lines: Sequence[Line]) -> dict[str, list[str]]:
    """Return what each suffix stood for in some lines, in the order of SUFFIXES: one sleep, or several that differ."""
    found = {suffix: list(dict.fromkeys(x.sleep for x in lines if x.suffix == suffix)) for suffix in SUFFIXES}
    return {suffix: labels for suffix, labels in found.items() if labels}


def _verdict(there: Published | None, values: NDArray[np.float64]) -> str:
    """Return whether ours reproduce what was published; below three runs nobody knows."""
    if there is None:
        return ""
    if there.differs is not None:
        return f"- ({there.differs})"
    if len(values) < 3:
        return ""
    return "yes" if there.agrees_with(100 * float(values.mean()), 100 * float(values.std(ddof=1))) else "no"


def _row(line: Line, lines: Sequence[Line], published: Mapping[str, Published], *, shows_sleep: bool) -> str:
    (row,) = summarise(line.records)  # of all ways: times, bytes, what was lost
    values = np.array(list(line.finals.values()))
    mean = float(values.mean()) if len(values) else None
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    is_first = line is next(x for x in lines if x.strategy == line.strategy)
    there, gain = published.get(line.strategy) if is_first else None, gain_of_sleep(line, lines)
    cells = (
        line.title,
        *([line.sleep] if shows_sleep else []),
        percent(mean, sd) + (f" ({row.lost})" if row.lost else ""),
        str(len(values)),
        "" if there is None else percent(there.mean / 100, None if there.sd is None else there.sd / 100),
        _verdict(there, values),
        "" if gain is None else percent(gain[0].mean, gain[0].half_width, signed=True),
        "" if gain is None or gain[0].n < PAIRS else f"{gain[1]:.2g}",
        percent(line.forgetting),
        row.kept,
        "" if row.train is None or row.asleep is None else f"{row.train + row.asleep:.0f}",
    )
    return f"| {' | '.join(cells)} |"
