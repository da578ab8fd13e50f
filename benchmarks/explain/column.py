"""Pictures as wide as a column of a paper or a phone: panels under each other, letters of 8 points."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import matplotlib
import numpy as np

from benchmarks.explain.picture import INK

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

WIDTH_IN, CHARACTERS = 3.5, 66
GREY = "#E2E2E2"


def column(heights: Sequence[float], *, title: str, note: str) -> tuple[Figure, list[SubFigure]]:
    """Return a figure and a part of it for each panel, one under the other.

    Args:
        heights: Of the panels, in.
        title: Above them.
        note: Below them: what is shown.
    """
    lines = fill(note, CHARACTERS)
    below = 0.12 * (lines.count("\n") + 1) + 0.08
    whole = plt.figure(figsize=(WIDTH_IN, 0.3 + sum(heights) + below), layout="constrained")
    rows = whole.subfigures(len(heights) + 2, 1, height_ratios=[0.3, *heights, below], hspace=0.0, squeeze=False)
    parts: list[SubFigure] = [row[0] for row in np.asarray(rows)]
    parts[0].text(0.02, 0.5, title, fontsize=9.5, fontweight="bold", ha="left", va="center")
    parts[-1].text(0.02, 0.98, lines, fontsize=6.2, color=INK, ha="left", va="top")
    return whole, parts[1:-1]


def tidy(axis: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Give a panel its words, at a size that can be read on a phone, and take away what says nothing."""
    axis.set_title(title, fontsize=8, loc="left", fontweight="bold", pad=4)
    axis.set_xlabel(x, fontsize=8, labelpad=1)
    axis.set_ylabel(y, fontsize=8, labelpad=2)
    axis.tick_params(labelsize=7.5, length=2)
    axis.grid(color=GREY, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
