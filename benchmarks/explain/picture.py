"""Explained nights as one picture: what each stage has beside the simulated sleep, and predicted beside measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import matplotlib
import numpy as np

from benchmarks.explain.controls.rows import SIMULATED, TITLES
from benchmarks.explain.records import Told, groups_of, is_gated
from benchmarks.explain.tables import describe, differences

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
LAYERS = ("first layer", "hidden layers after it", "output layer")
HEIGHT_IN, DPI, CHARACTERS_PER_IN = 5.6, 150, 15.0
GREY, INK = "#E2E2E2", "#444444"


def draw_nights(records: Sequence[Told], path: Path) -> list[Path]:
    """Draw all records, those of the gated rule in a picture of their own.

    Args:
        records: Of `explain`.
        path: Where the PNG of the ungated rule goes; "_gated" is added for the other, and SVGs stand beside them.

    Returns:
        All paths.
    """
    drawn = []
    ungated = groups_of([record for record in records if not is_gated(record)])
    gated = groups_of([record for record in records if is_gated(record)])
    if ungated:
        figure, axes = plt.subplots(1, 2, figsize=(11.6, HEIGHT_IN), layout="constrained", width_ratios=(6.4, 5.2))
        _stages(axes[0], ungated, "Ungated rule: accuracy after the night")
        _fractions(axes[1], ungated)
        drawn += _finish(figure, ungated, path)
    if gated:
        figure, axis = plt.subplots(figsize=(8.4, HEIGHT_IN), layout="constrained")
        _stages(axis, gated, "Published, gated rule: accuracy after the night")
        drawn += _finish(figure, gated, path.with_stem(f"{path.stem}_gated"))
    return drawn


def _finish(figure: Figure, groups: dict[str, list[Told]], path: Path) -> list[Path]:
    note = fill(describe(groups, where="Dots and lines"), int(CHARACTERS_PER_IN * figure.get_figwidth()))
    figure.suptitle("What may stand in the place of a simulated sleep", fontsize=14, x=0.01, ha="left")
    figure.supxlabel(note, fontsize=8, color=INK, x=0.01, ha="left")
    return save(figure, path)


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and as SVG, without dates, and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    drawn = path.with_suffix(".svg")
    with matplotlib.rc_context({"svg.hashsalt": "src"}):
        figure.savefig(drawn, metadata={"Date": None})
    plt.close(figure)
    return [path, drawn]


def _stages(axis: Axes, groups: dict[str, list[Told]], title: str) -> None:
    """Draw the difference of each stage to the simulated sleep, with its interval."""
    found = {name: differences(group) for name, group in groups.items()}
    stages = [stage for stage in TITLES if any(stage in one for one in found.values()) and stage != SIMULATED]
    shift = 0.7 / max(len(groups), 1)
    for k, (name, one) in enumerate(found.items()):
        places = [i for i, stage in enumerate(stages) if stage in one]
        gains = [one[stages[i]][1] for i in places]
        axis.errorbar(
            [100 * gain.mean for gain in gains],
            [i + shift * (k - (len(groups) - 1) / 2) for i in places],
            xerr=[100 * (gain.half_width or 0.0) for gain in gains],
            fmt=MARKERS[k % len(MARKERS)], color=COLOURS[k % len(COLOURS)], markersize=5, elinewidth=1.2, label=name,
        )  # fmt: skip
    for i in range(0, len(stages), 2):
        axis.axhspan(i - 0.5, i + 0.5, color="#F4F4F4", linewidth=0, zorder=0)
    axis.axvline(0.0, color=INK, linewidth=1)
    axis.set_yticks(range(len(stages)), [TITLES[stage] for stage in stages], fontsize=9)
    axis.set_ylim(len(stages) - 0.5, -0.5)
    axis.set_xlabel("minus the simulated sleep, points")
    axis.set_title(title, fontsize=11, loc="left", fontweight="bold")
    axis.grid(axis="x", color=GREY, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.3, -0.12), ncols=2)


def _fractions(axis: Axes, groups: dict[str, list[Told]]) -> None:
    """Draw the fraction that each layer of each night lost, over what the formula says."""
    for k, name in enumerate(LAYERS):
        pairs = [
            (layer["predicted"]["formula"], layer["fraction"])
            for group in groups.values()
            for record in group
            for night in record["nights"]
            for place, layer in enumerate(night["layers"])
            if kind_of(place, len(night["layers"])) == k and layer["fraction"] is not None
        ]
        if pairs:
            predicted, measured = np.array(pairs).T
            axis.scatter(predicted, measured, s=18, color=COLOURS[k], marker=MARKERS[k], alpha=0.6, label=name)
    axis.plot([0, 1], [0, 1], color=INK, linewidth=1)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_aspect("equal")
    axis.set_xlabel("predicted by the formula")
    axis.set_ylabel("measured")
    axis.set_title("Part of the answers that a night removes", fontsize=11, loc="left", fontweight="bold")
    axis.grid(color=GREY, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9, loc="upper left")


def kind_of(place: int, n_layers: int) -> int:
    """Return 0 for a first layer, 2 for an output layer, which one of a single layer is, 1 between."""
    return 2 if place == n_layers - 1 else 0 if place == 0 else 1
