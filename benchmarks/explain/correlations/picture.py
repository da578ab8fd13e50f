"""Figure 4 of the article, made again, with sparseness."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from benchmarks.explain.column import column, tidy
from benchmarks.explain.controls.table import groups_of_sleeps, sleep_of
from benchmarks.explain.correlations.running import STAGES
from benchmarks.explain.correlations.table import changes, matrix, n_layers
from benchmarks.explain.picture import COLOURS, INK, MARKERS, save
from benchmarks.explain.records import Told

TIMES = {"evening": "before", "morning": "after"}
SHOWN = {"within": "same class", "between": "two classes", "sparse": "sparseness"}


def draw_correlations(records: Sequence[Told], path: Path) -> list[Path]:
    """Draw the matrices of the last night, and what all nights changed.

    Args:
        records: Of `explain_correlations`.
        path: Where the PNG goes; the SVG stands beside it.

    Returns:
        Both paths; none without records.
    """
    groups = dict(sorted(groups_of_sleeps(records).items()))
    if not groups:
        return []
    n = max(n_layers(group) for group in groups.values())
    note = (
        "Matrices: mean correlation of hidden answers to images of two classes, in the order they were learnt; last "
        f"night, mean over seeds. Below: mean over nights with old classes; bars are Student's 95 % intervals over "
        f"seeds of what a night adds. Seeds: {', '.join(str(len(group)) for group in groups.values())}."
    )
    heights = [*[1.22] * len(groups), 0.42, 1.0 + 0.4 * len(groups)]
    figure, parts = column(heights, title="What sleep makes of hidden activity", note=note)
    for part, (label, group) in zip(parts, groups.items(), strict=False):
        shade = _matrices(part, group, label, n)
    bar = parts[-2].add_axes((0.25, 0.62, 0.5, 0.2))
    parts[-2].colorbar(shade, cax=bar, orientation="horizontal").ax.tick_params(labelsize=7, length=2)
    parts[-2].text(0.02, 0.72, "correlation", fontsize=7.5, va="center")
    axes = parts[-1].subplots(1, n, sharex=True, sharey=True, squeeze=False)[0]
    for layer, axis in enumerate(axes):
        _changes(axis, groups, layer)
    handles = [axes[0].plot([], [], MARKERS[k], color=COLOURS[k], markersize=4)[0] for k in range(len(SHOWN))]
    parts[-1].legend(handles, list(SHOWN.values()), frameon=False, fontsize=7, loc="outside lower center", ncols=3)
    return save(figure, path)


def _matrices(part: SubFigure, group: Sequence[Told], label: str, n: int) -> AxesImage:
    part.suptitle(label, fontsize=8, x=0.02, ha="left", fontweight="bold")
    axes = part.subplots(1, 2 * n, squeeze=False)[0]
    for axis in axes:
        axis.axis("off")
    for layer in range(n_layers(group)):
        for k, stage in enumerate(STAGES):
            axis = axes[2 * layer + k]
            shade: AxesImage = axis.imshow(last_night(group, stage, layer), cmap="RdBu_r", vmin=-1, vmax=1)
            axis.set_title(f"layer {layer + 1}, {TIMES[stage]}", fontsize=6.8, pad=2)
    return shade


def last_night(group: Sequence[Told], stage: str, layer: int) -> NDArray[np.float64]:
    """Return the matrix of the last night at a stage, mean over seeds; NaN where no seed has a number."""
    found = np.stack([matrix(record["nights"][-1][stage]["layers"][layer]) for record in group])
    there = ~np.isnan(found)
    mean: NDArray[np.float64] = np.where(there, found, 0.0).sum(0) / np.where(there.any(0), there.sum(0), np.nan)
    return mean


def _changes(axis: Axes, groups: dict[str, list[Told]], layer: int) -> None:
    for i, group in enumerate(groups.values()):
        found = changes(group, layer) if layer < n_layers(group) else {}
        for k, name in enumerate(SHOWN):
            if name not in found:
                continue
            place, change = i + 0.26 * (k - 1), found[name].by
            width = change.half_width or 0.0
            axis.plot([change.mean - width, change.mean + width], [place, place], color=COLOURS[k], linewidth=1)
            axis.plot(change.mean, place, MARKERS[k], color=COLOURS[k], markersize=4)
    axis.axvline(0, color=INK, linewidth=0.8)
    tidy(axis, title=f"Layer {layer + 1}", x="what a night adds")
    axis.locator_params(axis="x", nbins=4)
    names = [sleep_of(group[0]) for group in groups.values()]
    axis.set_yticks(range(len(groups)), names, fontsize=7.5)
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
