"""One night as a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from benchmarks.explain.column import column, tidy
from benchmarks.explain.one_night.table import describe, title
from benchmarks.explain.picture import COLOURS, INK, save

HEIGHTS = (2.9, 1.5, 1.5, 2.05, 2.05)


def draw_night(record: Mapping[str, Any], path: Path) -> list[Path]:
    """Draw raster, rates, change of weights, fractions and accuracy.

    Args:
        record: Of `explain_one_night`.
        path: Where the PNG goes; the SVG stands beside it.

    Returns:
        Both paths.
    """
    figure, parts = column(HEIGHTS, title=title(record), note=describe(record))
    _rasters(parts[0], record)
    steps = [part["step"] for part in record["parts"]]
    names = [f"layer {k}, threshold {threshold:.3g}" for k, threshold in enumerate(record["thresholds"], 1)]
    _lines(parts[1].subplots(), steps, record, "rates", ["inputs", *names], "Rates, spikes per unit and step")
    _lines(parts[2].subplots(), steps, record, "change", names, "Change of weights, share of their norm")
    _fractions(parts[3].subplots(), steps, record, names)
    _accuracy(parts[4].subplots(), steps, record)
    return save(figure, path)


def _rasters(part: SubFigure, record: Mapping[str, Any]) -> None:
    axes = part.subplots(1, max(1, len(record["rasters"])), sharey=True, squeeze=False)[0]
    for axis, raster, words in zip(axes, record["rasters"], ("first steps", "last steps"), strict=False):
        place, middles = 0, []
        for k, layer in enumerate(raster["layers"]):
            colour = "#777777" if k == 0 else COLOURS[k - 1]
            axis.eventplot(
                layer, lineoffsets=range(place, place + len(layer)), linelengths=0.8, colors=colour, linewidths=0.7
            )
            middles.append((place + len(layer) / 2, "inputs" if k == 0 else f"layer {k}"))
            place += len(layer) + 3
        tidy(axis, title=f"Spikes, {words}", x="step")
        axis.set_xlim(raster["first"] - 1, raster["last"] + 1)
        axis.set_ylim(place, -2)
        axis.grid(visible=False)
        axis.set_yticks([middle for middle, _ in middles], [name for _, name in middles], rotation=90, va="center")
        axis.tick_params(axis="y", length=0)


def _lines(
    axis: Axes,
    steps: list[int],
    record: Mapping[str, Any],
    key: str,
    names: list[str],
    words: str,
    *,
    log: bool = False,
) -> None:
    for k, name in enumerate(names):
        colour = "#777777" if name == "inputs" else COLOURS[k - (names[0] == "inputs")]
        axis.plot(steps, [part[key][k] for part in record["parts"]], color=colour, linewidth=1.5, label=name)
    if key == "rates":
        axis.set_yscale("log")
        axis.set_yticks([0.001, 0.01, 0.1, 1.0], ["0.001", "0.01", "0.1", "1"])
        axis.minorticks_off()
        rates = [rate for part in record["parts"] for rate in part[key] if rate > 0]
        axis.set_ylim(min([0.001, *rates]) / 1.3, max([0.1, *rates]) * 1.3)
    tidy(axis, title=words)
    axis.set_xlim(0, steps[-1])


def _fractions(axis: Axes, steps: list[int], record: Mapping[str, Any], names: list[str]) -> None:
    for k, name in enumerate(names):
        for key, line in (("fractions", "-"), ("closed_fractions", ":")):
            values = [0.0, *(part[key][k] for part in record["parts"])]
            axis.plot([0, *steps], values, line, color=COLOURS[k], linewidth=1.5, label=name if line == "-" else None)
    axis.plot([], [], ":", color=INK, label="closed form")
    tidy(axis, title="Answer to the mean input: part that is gone")
    axis.set_xlim(0, steps[-1])
    axis.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.45, -0.15), ncols=2, handlelength=1.3)


def _accuracy(axis: Axes, steps: list[int], record: Mapping[str, Any]) -> None:
    shown = (("slept", COLOURS[4], "sleep alone"), ("morning", COLOURS[0], "settled and levelled"))
    for stage, colour, words in shown:
        for key, line in (("simulated", "-"), ("closed", ":")):
            values = [record["evening"][stage], *(part[key][stage] for part in record["parts"])]
            label = words if line == "-" else None
            axis.plot([0, *steps], [100 * x for x in values], line, color=colour, linewidth=1.5, label=label)
    axis.plot([], [], ":", color=INK, label="closed form")
    tidy(axis, title="% right of all seen classes", x="step")
    axis.set_xlim(0, steps[-1])
    axis.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=3, handlelength=1.3)
