"""How much of the gain by sleep each control keeps, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from benchmarks.explain.column import column, tidy
from benchmarks.explain.controls.rows import NONE, SIMULATED
from benchmarks.explain.controls.streams import NAIVE, NAMES
from benchmarks.explain.controls.table import WORDS, groups_of_sleeps, kept
from benchmarks.explain.picture import COLOURS, INK, MARKERS, save
from benchmarks.explain.records import Told

LEFT, RIGHT = -0.5, 1.7
"""Shares beyond these are drawn at the edge."""


def draw_controls(records: Sequence[Told], path: Path) -> list[Path]:
    """Draw a dot with its interval for each control, data set and sleep.

    Args:
        records: Of `explain_controls`.
        path: Where the PNG goes; the SVG stands beside it.

    Returns:
        Both paths; none where sleep gains nothing.
    """
    found = {label: kept(group) for label, group in sorted(groups_of_sleeps(records).items())}
    found = {label: one for label, one in found.items() if SIMULATED in one and one[SIMULATED].share is not None}
    if not found:
        return []
    shown = [
        name for name in NAMES if name not in (NAIVE, NONE, SIMULATED) and any(name in one for one in found.values())
    ]
    note = (
        "0: no sleep, though settling and levelling where the sleep has them; 1: the whole sleep. Bars: Student's 95 % "
        "interval of the difference to the whole sleep, paired by seed, over the mean gain. Cut at the edges."
    )
    figure, parts = column([0.33 * len(shown) + 0.55 + 0.17 * len(found)], title="What each control keeps", note=note)
    axis = parts[0].subplots()
    step = 0.7 / max(len(found), 1)
    for k, (label, one) in enumerate(found.items()):
        gain = one[SIMULATED].mean - one[NONE].mean
        for i, name in enumerate(shown):
            share = one[name].share if name in one else None
            if share is None:
                continue
            width = (one[name].less.half_width or 0.0) / gain
            place = i + step * (k - (len(found) - 1) / 2)
            bar = [min(max(x, LEFT), RIGHT) for x in (share - width, share + width)]
            axis.plot(bar, [place, place], color=COLOURS[k % len(COLOURS)], linewidth=1)
            dot = min(max(share, LEFT), RIGHT)
            axis.plot(dot, place, MARKERS[k % len(MARKERS)], color=COLOURS[k % len(COLOURS)], markersize=3.5)
        axis.plot([], [], MARKERS[k % len(MARKERS)], color=COLOURS[k % len(COLOURS)], markersize=4, label=label)
    for i in range(0, len(shown), 2):
        axis.axhspan(i - 0.5, i + 0.5, color="#F4F4F4", linewidth=0, zorder=0)
    for x in (0.0, 1.0):
        axis.axvline(x, color=INK, linewidth=0.8, zorder=1)
    tidy(axis, x="share of the gain by sleep")
    axis.set_yticks(range(len(shown)), [fill(WORDS[name], 27) for name in shown], fontsize=6.8)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.set_xlim(LEFT - 0.05, RIGHT + 0.05)
    axis.grid(visible=False, axis="y")
    parts[0].legend(*axis.get_legend_handles_labels(), frameon=False, fontsize=6.8, loc="outside lower center")
    return save(figure, path)
