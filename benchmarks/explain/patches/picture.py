"""Figure 1 of the article, made again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Patch

from benchmarks.explain.column import column, tidy
from benchmarks.explain.patches.images import N_IMAGES, draw_patches
from benchmarks.explain.patches.table import curve, describe
from benchmarks.explain.patches.trials import KINDS, PUBLISHED, SETTINGS
from benchmarks.explain.picture import COLOURS, INK, save

HEIGHTS = (0.95, 1.55, 2.05, 1.65, 2.5)
SHOWN = "weights"
"""The setting whose images, inputs and weights are drawn."""
CURVES = (
    ("task 1, no sleep", PUBLISHED, 1, 0, COLOURS[4], "-", 2.2),
    ("task 2, no sleep", PUBLISHED, 1, 1, COLOURS[3], "-", 2.2),
    ("both, published sleep", PUBLISHED, 2, None, COLOURS[0], "-", 1.5),
    ("both, auto", "auto", 2, None, COLOURS[2], ":", 1.8),
)
STAGES = ("before sleep", "after sleep")


def draw_patches_figure(record: Mapping[str, Any], path: Path) -> list[Path]:
    """Draw images, accuracy over overlap by both scripts, inputs of output units, and weights.

    Args:
        record: Of `explain_patches`.
        path: Where the PNG goes; the SVG stands beside it.

    Returns:
        Both paths.
    """
    note = (
        f"Images, C and D: script of the weights, {record['looked_at']} shared pixels, three trials. {describe(record)}"
    )
    figure, parts = column(HEIGHTS, title="Patches: what a sleep brings back", note=note)
    _images(parts[0], record)
    _accuracy(parts[1].subplots(), record, "overlaps", "A  Script of the overlaps: task 2 not learnt")
    _accuracy(parts[2].subplots(), record, "weights", "B  Script of the weights: task 1 forgotten", legend=True)
    _inputs(parts[3], record)
    _weights(parts[4], record)
    return save(figure, path)


def _images(part: SubFigure, record: Mapping[str, Any]) -> None:
    overlap = record["looked_at"]
    setting = SETTINGS[SHOWN]
    generator = np.random.default_rng(0)
    patches = draw_patches(overlap, pixels=setting.pixels, side=setting.side, generator=generator)
    for label, axis in enumerate(part.subplots(1, N_IMAGES)):
        shade = patches.images[label] + patches.is_shared  # 2 shared, 1 its own
        axis.imshow(shade.reshape(setting.side, setting.side), cmap="Blues", vmin=0, vmax=2)
        axis.set_title(f"task {1 + label // 2}", fontsize=7.5, pad=2)
        axis.set_xticks([])
        axis.set_yticks([])


def _accuracy(axis: Axes, record: Mapping[str, Any], setting: str, title: str, *, legend: bool = False) -> None:
    axis.axvspan(12, 16, color="#F4F4F4", linewidth=0, zorder=0)
    for name, sleep, stage, task, colour, line, width in CURVES:
        means = curve(record, setting, sleep, stage, task=task)
        axis.plot(list(means), [100 * x for x in means.values()], line, color=colour, linewidth=width, label=name)
    axis.set_ylim(-5, 105)
    axis.set_yticks([0, 25, 50, 75, 100])
    axis.set_xticks(range(min(record["overlaps"]), max(record["overlaps"]) + 1, 4))
    tidy(axis, title=title, x="shared pixels (grey: the article's 12 to 16)" if legend else "", y="% right")
    if legend:
        axis.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.32), ncols=2)


def _inputs(part: SubFigure, record: Mapping[str, Any]) -> None:
    """Draw what images of either task give their own output and the strongest output of the other task."""
    axis = part.subplots()
    given = np.array([trial["inputs"] for trial in record["shown"][SHOWN]])  # (trials, 2, images, units)
    for task in (0, 1):
        own = np.stack([given[:, :, k, k] for k in (2 * task, 2 * task + 1)], axis=-1)
        rival = given[:, :, 2 * task : 2 * task + 2, 2 - 2 * task : 4 - 2 * task].max(-1)
        for night in (0, 1):
            place = 3 * task + night
            axis.bar(place - 0.18, own[:, night].mean(), 0.34, color=COLOURS[0])
            axis.bar(place + 0.18, rival[:, night].mean(), 0.34, color=COLOURS[4])
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.set_xticks([0, 1, 3, 4], ["task 1\nbefore", "task 1\nafter", "task 2\nbefore", "task 2\nafter"])
    tidy(axis, title="C  Input of output units, by image", y="input")
    handles = [Patch(color=COLOURS[0]), Patch(color=COLOURS[4])]
    axis.legend(handles, ["its own output", "best of other task"], frameon=False, fontsize=7, loc="best")


def _weights(part: SubFigure, record: Mapping[str, Any]) -> None:
    axes = part.subplots(2, 2, sharex=True, sharey=True)
    shown = record["shown"][SHOWN]
    every = np.concatenate(
        [w for trial in shown for night in trial["weights"] for pair in night.values() for w in pair]
    )
    edges = np.linspace(every.min(), every.max(), 25)
    for task in (0, 1):
        for night in (0, 1):
            axis = axes[task, night]
            for kind, colour in zip(KINDS, (COLOURS[0], COLOURS[1], COLOURS[4], "#999999"), strict=True):
                weights = np.concatenate([trial["weights"][night][kind][task] for trial in shown])
                counts, _ = np.histogram(weights, edges)
                axis.stairs(counts / len(weights), edges, color=colour, linewidth=1.3, label=KINDS[kind])
            axis.axvline(0, color=INK, linewidth=0.6)
            title = f"D  {STAGES[night]}" if task == 0 and night == 0 else STAGES[night] if task == 0 else ""
            tidy(axis, title=title, x="weight" if task else "", y=f"to task {task + 1}" if night == 0 else "")
            axis.set_yticks([])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    part.legend(handles, labels, frameon=False, fontsize=6.8, loc="outside lower center", ncols=2, handlelength=1.2)
