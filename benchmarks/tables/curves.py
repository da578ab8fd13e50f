"""A matrix along one number (a fraction, a memory, epochs) as a picture: accuracy with and without sleep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import matplotlib
import numpy as np

from benchmarks.tables.matrix import AUTO, NAIVE, ONLY, Row, by_dataset

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

LINES = {
    NAIVE: ("without sleep", "#E69F00", "o"),
    ONLY: ("SRC only", "#009E73", "^"),
    AUTO: ("with sleep", "#0072B2", "s"),
}
"""Method -> what people read, colour (Okabe & Ito), marker."""

WIDTH_IN, HEIGHT_IN, DPI = 5.6, 4.4, 150
CHARACTERS_PER_IN = 15.0  # of the line below, so that none is cut off
UPRIGHT = 50  # characters of all labels together, up to which they stand side by side


def draw_curves(rows: Sequence[Row], path: Path, *, title: str, note: str) -> Path:
    """Draw accuracy by regime, in the order of the file, a panel for each data set.

    Args:
        rows: From `benchmarks.tables.matrix.make_rows`.
        path: Where the PNG goes.
        title: Stands above the picture.
        note: Stands below: seeds, test images, commit.

    Returns:
        `path`.
    """
    groups = by_dataset([row for row in rows if row.group])
    figure, axes = plt.subplots(
        1, len(groups), figsize=(WIDTH_IN * max(len(groups), 1.4), HEIGHT_IN), squeeze=False, layout="constrained"
    )
    for axis, (dataset, own) in zip(axes[0], groups.items(), strict=True):
        for method in LINES:
            _line(axis, own, method)
        axis.set_title(dataset, fontsize=12, loc="left", fontweight="bold")
        titles = [row.title for row in own]
        axis.set_xticks(range(len(own)), titles, rotation=45 if sum(map(len, titles)) > UPRIGHT else 0, fontsize=9)
        axis.set_ylabel("test accuracy, %")
        axis.grid(axis="y", color="#E2E2E2", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        if axis.lines:
            axis.legend(frameon=False, fontsize=10, loc="lower right")
    figure.suptitle(title, fontsize=14, x=0.01, ha="left")
    figure.supxlabel(
        "Test images of all classes after the last experience. Mean over seeds, bands from the smallest to the "
        f"largest.\n{fill(note, int(CHARACTERS_PER_IN * figure.get_figwidth()))}",
        fontsize=8,
        color="#444444",
        x=0.01,
        ha="left",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    return path


def _line(axis: Axes, rows: Sequence[Row], method: str) -> None:
    """Draw the mean over seeds in a band from smallest to largest; regimes without a run are left out."""
    label, colour, marker = LINES[method]
    places = [i for i, row in enumerate(rows) if row.finals.get(method)]
    values = [100 * np.array(list(rows[i].finals[method].values())) for i in places]
    if not places:
        return
    axis.fill_between(
        places, [v.min() for v in values], [v.max() for v in values], color=colour, alpha=0.15, linewidth=0
    )
    axis.plot(places, [v.mean() for v in values], color=colour, marker=marker, linewidth=2, markersize=5.5, label=label)
