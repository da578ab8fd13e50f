"""Figures 5 and 6 of the article, made again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from benchmarks.explain.column import column, tidy
from benchmarks.explain.controls.table import groups_of_sleeps
from benchmarks.explain.neurons.table import KINDS, excess, inputs, values
from benchmarks.explain.picture import COLOURS, INK, save
from benchmarks.explain.records import Told


def draw_neurons(records: Sequence[Told], path: Path) -> list[Path]:
    """Draw the input of each class's neurons before and after the sleep, and how much more they fire in noise.

    Args:
        records: Of `explain_neurons`.
        path: Where the PNG goes; the SVG stands beside it.

    Returns:
        Both paths; none without records.
    """
    groups = dict(sorted(groups_of_sleeps(records).items()))
    if not groups:
        return []
    note = (
        "Left: mean input of the neurons of a class by its own images, pale before the last night's sleep, full after "
        "it. Right: spikes of these neurons in a sleep driven by uniform noise, over the mean of their layer (1: as "
        f"many as any); dots are classes. {', '.join(str(len(group)) for group in groups.values())} seeds."
    )
    heights = [1.75] * len(groups)
    figure, parts = column([*heights, 0.3], title="Neurons of a class, and noise", note=note)
    for part, (label, group) in zip(parts, groups.items(), strict=False):
        part.suptitle(label, fontsize=8, x=0.02, ha="left", fontweight="bold")
        left, right = part.subplots(1, 2)
        _inputs(left, group)
        _excess(right, group)
    handles = [Patch(color=COLOURS[k]) for k in range(len(KINDS))]
    parts[-1].legend(handles, list(KINDS.values()), frameon=False, fontsize=7, loc="center", ncols=3, handlelength=1)
    return save(figure, path)


def _places(axis: Axes, group: Sequence[Told]) -> list[tuple[int, int, str, float]]:
    layers = range(len(group[0]["layers"]))
    axis.set_xticks(list(layers), [f"layer {layer + 1}" for layer in layers])
    return [(layer, k, kind, layer + 0.28 * (k - 1)) for layer in layers for k, kind in enumerate(KINDS)]


def _inputs(axis: Axes, group: Sequence[Told]) -> None:
    tidy(axis, title="Mean input")
    for layer, k, kind, place in _places(axis, group):
        for shift, alpha, value in zip((-0.06, 0.06), (0.4, 1.0), inputs(group, layer, kind), strict=True):
            if value is not None:
                axis.bar(place + shift, value, 0.12, color=COLOURS[k], alpha=alpha)
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.grid(visible=False, axis="x")


def _excess(axis: Axes, group: Sequence[Told]) -> None:
    tidy(axis, title="Spikes in noise")
    for layer, k, kind, place in _places(axis, group):
        value = excess(group, layer, kind)
        if value is None:
            continue
        axis.bar(place, value, 0.24, color=COLOURS[k], alpha=0.5)
        every = float(np.mean([record["layers"][layer]["spikes"] for record in group]))
        dots = [spikes / every for spikes in values(group, layer, kind, lambda told: told["spikes"])]
        axis.plot(np.linspace(place - 0.08, place + 0.08, len(dots)), dots, ".", color=COLOURS[k], markersize=3)
    axis.axhline(1, color=INK, linewidth=0.8)
    axis.grid(visible=False, axis="x")
