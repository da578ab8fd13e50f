"""Predicted beside simulated sleeps as one picture: a grid of settings, and where the sign of the sleep turns."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from benchmarks.explain.picture import (
    CHARACTERS_PER_IN,
    COLOURS,
    GREY,
    INK,
    LAYERS,
    MARKERS,
    kind_of,
    save,
)
from benchmarks.explain.predicting import exponent_of
from benchmarks.explain.prediction import LEAKS, POTENTIATION
from benchmarks.explain.records import Told, label_of

Axes = Any
WIDTH_IN, HEIGHT_IN = 14.5, 5.2


def draw_grid(record: Told, path: Path) -> list[Path]:
    """Draw what a grid of settings did to one head.

    Args:
        record: Of `predict_grid`.
        path: Where the PNG goes; an SVG stands beside it.

    Returns:
        Both paths.
    """
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    every = [setting for setting in record["settings"] if setting["part"] == "grid"]
    _scatter(axes[0], every, "formula")
    _scatter(axes[1], every, "mean_field")
    _turn(axes[2], [setting for setting in record["settings"] if setting["part"] == "spikes"])
    axes[0].set_title("Formula: no threshold, no leak", fontsize=11, loc="left", fontweight="bold")
    axes[1].set_title("Mean field: with threshold and leak", fontsize=11, loc="left", fontweight="bold")
    axes[2].set_title("First layer: where the sign turns", fontsize=11, loc="left", fontweight="bold")
    fractions = [layer["fraction"] for setting in every for layer in setting["layers"]]
    gone = sum(f is not None and f >= 1 for f in fractions)
    sizes = "-".join(map(str, record["config"]["model"]["hidden"]))
    note = (
        f"{label_of(record)}, hidden layers {sizes}, the head of the last evening, seed {record['seed']}. Left and "
        f"middle: {len(every)} sleeps; expected input spikes 2 to 128, depths 0.05 to 1.6, and leaks as colours. "
        "-ln(1 - f) of the fraction f of its answers that a layer loses, over what is predicted. Right: depth 0.2, "
        "leak 0.999; dots are simulated, lines the formula; below 0 answers rise. Layers "
        f"that lose all or more ({gone} of {len(fractions)}) are not on the axes left and in the middle. "
        f"Commit {record['commit'][:7]}."
    )
    figure.suptitle("What a simulated sleep does, and what is predicted", fontsize=14, x=0.01, ha="left")
    figure.supxlabel(fill(note, int(CHARACTERS_PER_IN * WIDTH_IN)), fontsize=8, color=INK, x=0.01, ha="left")
    return save(figure, path)


def _scatter(axis: Axes, settings: list[dict[str, Any]], formula: str) -> None:
    """Draw measured over predicted exponents, a marker for each kind of layer, a colour for each leak."""
    for (c, leak), kind in ((pair, k) for pair in enumerate(LEAKS) for k in range(3)):
        points = [
            exponent_of([layer["predicted"][formula], layer["fraction"]])
            for setting in settings
            if setting["decay"] == leak
            for place, layer in enumerate(setting["layers"])
            if kind_of(place, len(setting["layers"])) == kind
        ]
        if points:
            x, y = np.array(points).T
            label = f"leak {leak:g}" if kind == 0 else None
            axis.scatter(x, y, s=16, color=COLOURS[c], marker=MARKERS[kind], alpha=0.65, linewidth=0, label=label)
    for kind, name in enumerate(LAYERS):
        axis.scatter([], [], s=16, color=INK, marker=MARKERS[kind], label=name)
    ends = [1e-3, 10.0]
    axis.plot(ends, ends, color=INK, linewidth=1, zorder=0)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(*ends)
    axis.set_ylim(*ends)
    axis.set_aspect("equal")
    axis.set_xlabel("predicted  -ln(1 - f)")
    axis.set_ylabel("simulated  -ln(1 - f)")
    axis.grid(color=GREY, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def _turn(axis: Axes, settings: list[dict[str, Any]]) -> None:
    """Draw what the first layer loses over the expected input spikes."""
    for k, name in enumerate(POTENTIATION):
        own = [setting for setting in settings if setting["potentiation"] == name]
        spikes = [setting["spikes"] for setting in own]
        first = [setting["layers"][0] for setting in own]
        predicted = exponent_of([layer["predicted"]["formula"] for layer in first])
        axis.plot(spikes, predicted, color=COLOURS[k], linewidth=1.6)
        measured = exponent_of([layer["fraction"] for layer in first])
        axis.scatter(spikes, measured, s=28, color=COLOURS[k], marker=MARKERS[k], label=f"potentiation {name}")
    axis.axhline(0.0, color=INK, linewidth=1)
    axis.set_xscale("log")
    axis.set_xlabel("expected input spikes in a step")
    axis.set_ylabel("-ln(1 - f)")
    axis.grid(color=GREY, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8.5, loc="lower left")
