"""Accuracy and likeness to task 1 over depth, and what a sleep does to one task, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from benchmarks.explain.column import column, tidy
from benchmarks.explain.controls.table import groups_of_sleeps, sleep_of
from benchmarks.explain.depth.running import DEPTHS
from benchmarks.explain.depth.table import trained
from benchmarks.explain.picture import COLOURS, INK, MARKERS, save
from benchmarks.explain.records import Told

HEIGHTS = (1.7, 1.7, 2.1)


def draw_depth(records: Sequence[Told], path: Path) -> list[Path]:
    """Draw all sleeps in three panels.

    Args:
        records: Of `explain_depth`.
        path: Where the PNG goes; the SVG stands beside it.

    Returns:
        Both paths; none without records.
    """
    groups = dict(sorted(groups_of_sleeps(records).items()))
    if not groups:
        return []
    note = (
        "A: all classes at the end of a stream. B: all weights, mean over nights after task 1. C: all classes at once, "
        "from few images to all; markers are seeds. "
        f"{', '.join(str(len(group)) for group in groups.values())} seeds."
    )
    figure, parts = column(HEIGHTS, title="Depth, task 1, and one task", note=note)
    over, near, single = (part.subplots() for part in parts)
    for k, group in enumerate(groups.values()):
        _lines(over, near, group, k)
        _single(single, group, k)
    tidy(over, title="A  % right at the end")
    tidy(near, title="B  Cosine similarity to task 1 alone", x="hidden layers")
    for axis in (over, near):
        axis.set_xticks(DEPTHS)
    over.legend(frameon=False, fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, -0.42), handlelength=1.3)
    near.plot([], [], ":", color=INK, label="before a night")
    near.plot([], [], "-", color=INK, label="after it")
    near.legend(frameon=False, fontsize=7, loc="best")
    single.axhline(0, color=INK, linewidth=0.8)
    single.set_xscale("log")
    tidy(single, title="C  One task: what a sleep adds, points", x="training images")
    return save(figure, path)


def _lines(over: Axes, near: Axes, group: Sequence[Told], k: int) -> None:
    colour, name = COLOURS[k], sleep_of(group[0])
    if k == 0:
        over.plot(DEPTHS, _means(group, "naive"), ":", color=INK, label="no sleep")
    over.plot(DEPTHS, _means(group, "slept"), f"-{MARKERS[k]}", color=colour, markersize=3.5, label=name)
    cosines = np.array([[record["depths"][str(d)]["cosine"] for d in DEPTHS] for record in group]).mean(0)
    for stage, line in ((0, ":"), (1, "-")):
        near.plot(DEPTHS, cosines[:, stage], line, color=colour)


def _means(group: Sequence[Told], key: str) -> list[float]:
    return [100 * float(np.mean([record["depths"][str(d)][key] for record in group])) for d in DEPTHS]


def _single(axis: Axes, group: Sequence[Told], k: int) -> None:
    found = trained(group)
    colour = COLOURS[k]
    axis.plot(list(found), [100 * by.mean for by in found.values()], "-", color=colour, linewidth=1.2)
    for record in group:
        points = {int(n): 100 * (after - before) for n, (before, after) in record["trained"].items()}
        axis.plot(list(points), list(points.values()), MARKERS[k], color=colour, markersize=3)
