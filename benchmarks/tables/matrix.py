"""Records -> the tables of a matrix, one per data set: a row per regime, a column per method. No number is typed.

What auto gains is paired by seed: auto and its rival learn from the same initial weights and the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from textwrap import fill

import numpy as np
from rich import box
from rich.table import Table

from benchmarks import markdown
from benchmarks.configs.matrix import Cell, Matrix
from benchmarks.configs.run import resolve
from benchmarks.records.metrics import Difference, paired_difference
from benchmarks.records.record import Record, Seconds, config_hash
from benchmarks.tables.summary import describe, percent

NAIVE, AVERAGE, RIVAL, ONLY, AUTO, JOINT = "naive", "average", "naive+settle", "naive+only", "naive+src", "joint"
METHODS = {
    NAIVE: "naive",
    AVERAGE: "average",
    RIVAL: "settle + level",
    "naive+level": "level",
    ONLY: "SRC only",
    "naive+before": "auto before",
    "naive+simulated": "simulated",
    AUTO: "auto",
    "naive+fit": "fit only",
    "naive+settle_means": "settle, class means",
    "naive+means": "auto, class means",
    "ncm": "nearest class mean",
    "slda": "StreamingLDA",
    JOINT: "joint",
}
"""Method -> heading, in the order of the columns; a method that is not here comes last, under its own name."""

AVERAGED = "training"  # the group whose rows the last one averages
TOLERATED = 0.01  # by which auto may be worse than the same run without sleep where no harm is promised


@dataclass(frozen=True)
class Row:
    """One regime on one data set, or the mean of several.

    Attributes:
        dataset: The data set, as people read it.
        group: What the regime varies; "" for a mean.
        title: As people read it.
        finals: Method -> seed -> final accuracy, a fraction; a method that is part of the regime but has no run that is
            done maps to nothing.
        no_harm: Whether sleep promises to cost nothing here.
        lost: Runs that diverged or failed.
        class_means: Method -> seed -> mean over classes of accuracy, where classes are of uneven size.
        asleep: Seconds of auto's sleeps over its seconds of training, both measured in the same runs; None without one.
    """

    dataset: str
    group: str
    title: str
    finals: dict[str, dict[int, float]]
    no_harm: bool = False
    lost: int = 0
    class_means: dict[str, dict[int, float]] = field(default_factory=dict)
    asleep: float | None = None

    def mean(self, method: str) -> float | None:
        """Return the mean over seeds; None without a done run."""
        values = list(self.finals.get(method, {}).values())
        return float(np.mean(values)) if values else None

    def gain(self, rival: str) -> Difference | None:
        """Return auto minus another method, paired by seed; None without a shared seed."""
        return paired_difference(self.finals.get(AUTO, {}), self.finals.get(rival, {}))

    @property
    def is_harmed(self) -> bool | None:
        """Whether auto is more than a point below the same run without sleep; None if unknown or never promised."""
        gain = self.gain(NAIVE)
        # 1e-9: 0.89 - 0.9 is a little more than a point in binary, and a point exactly is allowed.
        return None if gain is None or not self.no_harm else gain.mean < -TOLERATED - 1e-9


def make_rows(matrix: Matrix, records: Iterable[Record]) -> list[Row]:
    """Return the rows of a matrix, data set by data set, each with the mean of its training regimes at the end.

    Args:
        matrix: Which config each cell stands for; records of other configs, or of its earlier versions, are left out.
        records: From any folder.
    """
    found: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        found.setdefault((record.config_name, record.strategy, record.hash), []).append(record)
    rows = []
    for title in dict.fromkeys(cell.title for cell in matrix.cells):
        own = [_row(cell, found) for cell in matrix.cells if cell.title == title]
        averaged = [row for row in own if row.group == AVERAGED]
        rows += own + ([mean_row(averaged)] if len(averaged) > 1 else [])
    return rows


def _row(cell: Cell, found: dict[tuple[str, str, str], list[Record]]) -> Row:
    finals: dict[str, dict[int, float]] = {}
    class_means: dict[str, dict[int, float]] = {}
    lost = 0
    slept: list[Seconds] = []
    is_uneven = cell.config.stream.class_shares is not None
    for method, strategy in cell.strategies.items():
        key = (cell.config.name, strategy, config_hash(resolve(cell.config, strategy)))
        finals[method] = {}
        for record in sorted(found.get(key, []), key=lambda record: record.seed):
            if record.status == "done" and record.final_accuracy is not None:
                finals[method][record.seed] = record.final_accuracy
                class_mean = ((record.calibration or [{}])[-1].get("after") or {}).get("class_mean")
                if is_uneven and class_mean is not None:
                    class_means.setdefault(method, {})[record.seed] = class_mean
                slept += [record.seconds] if method == AUTO else []
            else:
                lost += 1
    train = sum(seconds.train for seconds in slept)
    asleep = sum(seconds.sleep for seconds in slept) / train if train else None
    regime = cell.regime
    return Row(
        cell.title,
        regime.group,
        regime.title,
        finals,
        no_harm=regime.no_harm,
        lost=lost,
        class_means=class_means,
        asleep=asleep,
    )


def mean_row(rows: Sequence[Row]) -> Row:
    """Return the mean of rows, seed by seed, over the seeds that all of them have, so that every seed weighs the same.

    A method that one of the rows does not have at all is left out.
    """
    finals = {}
    for method in rows[0].finals:
        if all(method in row.finals for row in rows):
            seeds = [seed for seed in rows[0].finals[method] if all(seed in row.finals[method] for row in rows)]
            finals[method] = {seed: float(np.mean([row.finals[method][seed] for row in rows])) for seed in seeds}
    return Row(rows[0].dataset, "", f"mean of {rows[0].group}", finals)


def methods_of(rows: Iterable[Row]) -> list[str]:
    """Return the methods that occur, in the order of the columns."""
    present = list(dict.fromkeys(method for row in rows for method in row.finals))
    return [m for m in METHODS if m in present] + [m for m in present if m not in METHODS]


def columns(rows: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    """Return the columns after the regime: heading -> what stands there, as text, "" where nothing belongs."""
    methods = methods_of(rows)
    shown: dict[str, Callable[[Row], str]] = {METHODS.get(m, m): partial(_accuracy, method=m) for m in methods}
    shown["n"] = _seeds
    if AUTO in methods and RIVAL in methods:
        shown[f"{METHODS[AUTO]} vs {METHODS[RIVAL]}, ±\N{NO-BREAK SPACE}95\N{NO-BREAK SPACE}%"] = _over_rival
    if AUTO in methods and NAIVE in methods:
        shown[f"{METHODS[AUTO]} vs {METHODS[NAIVE]}"] = _over_naive
    if any(row.asleep is not None for row in rows):
        shown["sleep / training"] = _asleep
    if any(row.no_harm for row in rows):
        shown["no harm"] = _harm
    if any(row.lost for row in rows):
        shown["lost"] = lambda row: str(row.lost or "")
    return shown


def _accuracy(row: Row, *, method: str) -> str:
    if method not in row.finals:
        return ""
    by_class = list(row.class_means.get(method, {}).values())
    return percent(row.mean(method)) + (f" ({percent(float(np.mean(by_class)))})" if by_class else "")


def _seeds(row: Row) -> str:
    sizes = sorted({len(by_seed) for by_seed in row.finals.values()})
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}-{sizes[-1]}"


def _over_rival(row: Row) -> str:
    if not {AUTO, RIVAL} <= row.finals.keys():
        return ""
    gain = row.gain(RIVAL)
    return "-" if gain is None else percent(gain.mean, gain.half_width, signed=True)


def _over_naive(row: Row) -> str:
    if not {AUTO, NAIVE} <= row.finals.keys():
        return ""
    gain = row.gain(NAIVE)
    return percent(gain.mean if gain else None, signed=True)


def _asleep(row: Row) -> str:
    return "" if row.asleep is None else f"{100 * row.asleep:.0f}\N{NO-BREAK SPACE}%"


def _harm(row: Row) -> str:
    return {True: "BROKEN", False: "kept", None: "-" if row.no_harm else ""}[row.is_harmed]


def make_tables(matrix: Matrix, rows: Sequence[Row], *, width: int = 80) -> list[Table]:
    """Return a table per data set, for the terminal: percent over all test images after the last experience.

    Args:
        matrix: Has the title.
        rows: What is shown.
        width: Characters there are: headings are broken into as few lines as they have room for.
    """
    tables = []
    shown = columns(rows)
    for dataset, own in by_dataset(rows).items():
        title = f"{matrix.title}, {dataset}: accuracy in percent after the last experience"
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)
        table.add_column("regime", no_wrap=True)
        cells = {heading: max(len(text(row)) for row in own) for heading, text in shown.items()}
        room = width - max(len(row.title) for row in own)
        broken = next(b for n in (1, 2, 3, 4) if sum(map(_width, (b := _broken(cells, n)).values())) <= room or n == 4)
        for heading in shown:
            table.add_column(broken[heading], justify="right", no_wrap=True, min_width=cells[heading])
        for i, row in enumerate(own):
            if i and row.group != own[i - 1].group:
                table.add_section()
            style = "bold" if not row.group else "red" if row.is_harmed else None
            table.add_row(row.title, *(text(row) for text in shown.values()), style=style)
        tables.append(table)
    return tables


def _broken(cells: Mapping[str, int], n: int) -> dict[str, str]:
    """Return headings broken between words into `n` lines at most, but where a word or the cells below ask for more."""
    fitted = {}
    for heading, least in cells.items():
        widths = range(max(least, *map(len, heading.split(" "))), len(heading) + 1)
        texts = (fill(heading, width, break_long_words=False) for width in widths)
        fitted[heading] = next((text for text in texts if text.count("\n") < n), heading)
    return fitted


def _width(heading: str) -> int:
    """Return how wide a column is at least, with the spaces beside it."""
    return max(map(len, heading.split("\n"))) + 1


def by_dataset(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each data set."""
    return {dataset: [r for r in rows if r.dataset == dataset] for dataset in dict.fromkeys(r.dataset for r in rows)}


def describe_matrix(records: Sequence[Record]) -> str:
    """Return one line saying over how many seeds and test images, with which versions and on what."""
    seeds = sorted({record.seed for record in records if record.status in ("done", "diverged")})
    images = sorted({sum(record.n_test) for record in records if record.status == "done"})
    size = " to ".join(f"{n:,}" for n in dict.fromkeys((images[0], images[-1]))) if images else "no"
    which = ", ".join(map(str, seeds))
    in_order = sorted(records, key=lambda record: (record.config_name, record.strategy, record.seed))
    return f"{len(seeds)} seed{'s' * (len(seeds) > 1)} ({which}); {size} test images; {describe(in_order)}"


def markdown_tables(rows: Sequence[Row], records: Sequence[Record]) -> str:
    """Return the same tables in Markdown, with a line on where they are from."""
    shown = columns(rows)
    lines = []
    for dataset, own in by_dataset(rows).items():
        cells = []
        for i, row in enumerate(own):
            if row.group and (i == 0 or row.group != own[i - 1].group):
                cells.append([f"**{row.group}**"])
            title = row.title if row.group else f"**{row.title}**"
            cells.append([title, *(text(row) for text in shown.values())])
        lines += [f"### {dataset}", "", markdown.table(["regime", *shown], cells, align="lr"), ""]
    uneven = " In brackets: mean over classes, of uneven size." if any(row.class_means for row in rows) else ""
    return "\n".join([*lines, f"{describe_matrix(records)}.{uneven}"])
