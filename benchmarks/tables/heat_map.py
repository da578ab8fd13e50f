"""A matrix as one picture: for each data set, accuracy by regime and method, and what auto gains over its rivals.

Every cell shows its number, so colours only guide the eye: viridis for accuracies, and for differences red to blue with
white at zero, both safe for colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import matplotlib
import numpy as np
from numpy.typing import NDArray

from benchmarks.tables.matrix import AUTO, AVERAGE, JOINT, METHODS, NAIVE, RIVAL, Row, by_dataset, methods_of

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

RIVALS = (NAIVE, AVERAGE, RIVAL, JOINT)  # what auto is compared with
CELL_WIDTH_IN, CELL_HEIGHT_IN, DPI = 0.78, 0.3, 150
LABELS_IN, HEADING_IN, FOOT_IN = 4.0, 0.9, 1.6  # room for regimes, for a data set's titles, for legend and provenance
CHARACTERS_PER_IN = 15.0  # of the line below, so that none is cut off
REACH = 30.0  # points at which the colours of differences end; beyond it the small ones would all look white
EMPTY, INK, PALE = "#E6E6E6", "#111111", "#FFFFFF"


def accuracies(rows: Sequence[Row], methods: Sequence[str]) -> NDArray[np.float64]:
    """Return mean accuracies in percent, shape (n_rows, n_methods); NaN where there is no run."""
    means = [[row.mean(method) for method in methods] for row in rows]
    return 100 * np.array(means, dtype=np.float64)


def differences(rows: Sequence[Row], rivals: Sequence[str]) -> NDArray[np.float64]:
    """Return auto minus each rival in points, paired by seed, shape (n_rows, n_rivals); NaN without a pair."""
    gains = [[gain.mean if (gain := row.gain(rival)) else None for rival in rivals] for row in rows]
    return 100 * np.array(gains, dtype=np.float64)


def draw_heat_map(rows: Sequence[Row], path: Path, *, title: str, note: str) -> Path:
    """Draw a matrix.

    Args:
        rows: From `benchmarks.tables.matrix.make_rows`.
        path: Where the PNG goes.
        title: Stands above the picture.
        note: Stands below: seeds, test images, commit.

    Returns:
        `path`.
    """
    groups = by_dataset(rows)
    methods = methods_of(rows)
    rivals = [rival for rival in RIVALS if rival in methods and AUTO in methods]
    width = LABELS_IN + CELL_WIDTH_IN * (len(methods) + len(rivals))
    heights = [HEADING_IN + CELL_HEIGHT_IN * len(own) for own in groups.values()]
    figure, axes = plt.subplots(
        len(groups),
        2 if rivals else 1,
        figsize=(width, sum(heights) + FOOT_IN),
        squeeze=False,
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, hspace=0.02),  # pads in inches
        gridspec_kw={
            "width_ratios": [len(methods), len(rivals)] if rivals else [1],
            "height_ratios": [len(own) for own in groups.values()],
        },
    )
    for pair, (dataset, own) in zip(axes, groups.items(), strict=True):
        shown = _panel(pair[0], accuracies(own, methods), rows=own, columns=methods, limits=(0, 100))
        pair[0].set_title(f"{dataset}: accuracy, %", fontsize=11.5, loc="left", fontweight="bold")
        _label_rows(pair[0], own)
        if rivals:
            gained = _panel(pair[1], differences(own, rivals), rows=own, columns=rivals, limits=(-REACH, REACH))
            pair[1].set_title("auto minus ..., points", fontsize=11.5, loc="left", fontweight="bold")
            pair[1].set_yticks([])
    for image, column in zip([shown, gained] if rivals else [shown], axes.T, strict=True):
        ends = "neither" if image.norm.vmin == 0 else "both"
        bar = figure.colorbar(
            image, ax=list(column), location="bottom", fraction=0.02, pad=0.01, aspect=50, extend=ends
        )
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, length=2)
    figure.suptitle(title, fontsize=15, x=0.01, ha="left")
    figure.supxlabel(
        f"Test images of all classes after the last experience, mean over seeds; differences paired by seed.\n"
        f'Grey: not part of the matrix; "-": no run that is done.\n{fill(note, int(CHARACTERS_PER_IN * width))}',
        fontsize=8.5,
        color="#444444",
        x=0.01,
        ha="left",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    with Image.open(path) as drawn:  # 256 colours are enough for flat cells, and a quarter of the bytes
        few = drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    return path


def _panel(
    axis: Axes, values: NDArray[np.float64], *, rows: Sequence[Row], columns: Sequence[str], limits: tuple[float, float]
) -> AxesImage:
    """Draw values, shape (n_rows, n_columns), each with its number; limits below zero ask for signs and two colours."""
    is_signed = limits[0] < 0
    colours = plt.get_cmap("RdBu" if is_signed else "viridis").with_extremes(bad=EMPTY)
    image = axis.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
    for (i, j), value in np.ndenumerate(values.round(1) + 0.0):  # + 0.0: no "-0.0"
        is_planned = columns[j] in rows[i].finals and (not is_signed or AUTO in rows[i].finals)
        text = ("-" if is_planned else "") if np.isnan(value) else f"{value:+.1f}" if is_signed else f"{value:.1f}"
        ink = INK if np.isnan(value) else _ink(colours, (value - limits[0]) / (limits[1] - limits[0]))
        weight = "normal" if rows[i].group else "bold"
        axis.text(j, i, text, ha="center", va="center", fontsize=9, color=ink, fontweight=weight)
    for i in range(1, len(rows)):
        is_new = rows[i].group != rows[i - 1].group
        axis.axhline(i - 0.5, color="white", linewidth=6.0 if is_new else 0.8)
    for j in range(1, len(columns)):
        axis.axvline(j - 0.5, color="white", linewidth=0.8)
    names = [fill(METHODS.get(column, column), 12, break_long_words=False) for column in columns]
    axis.set_xticks(range(len(columns)), names, fontsize=9)
    axis.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axis.spines[:].set_visible(False)
    return image


def _ink(colours: Colormap, place: float) -> str:
    """Return white for dark colours and black for light ones; `place` between 0 and 1.

    Source:
        WCAG 2.2, relative luminance.
        Differs: black begins at 0.25, not at 0.18, where both have the same ratio; on blue the eye prefers white.
    """
    channels = np.array(colours(float(np.clip(place, 0, 1)))[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)  # (3,)
    return INK if linear @ (0.2126, 0.7152, 0.0722) > 0.25 else PALE


def _label_rows(axis: Axes, rows: Sequence[Row]) -> None:
    """Write the regimes beside their rows, and each group beside its first."""
    titles = [f"{row.title} (harmed)" if row.is_harmed else row.title for row in rows]
    axis.set_yticks(range(len(rows)), titles, fontsize=9.5)
    for label, row in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if row.group else "bold")
    widest = max(label.get_window_extent().width for label in axis.get_yticklabels())  # in pixels
    beside = -widest * 72 / axis.figure.dpi - 16  # in points, left of the longest label
    for group in dict.fromkeys(row.group for row in rows if row.group):
        axis.annotate(
            group,
            (0, next(i for i, row in enumerate(rows) if row.group == group)),
            xycoords=("axes fraction", "data"),
            xytext=(beside, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9.5,
            fontstyle="italic",
            color="#555555",
            annotation_clip=False,
        )
