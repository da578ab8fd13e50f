"""Records -> one picture like Fig. 2 of Tadros et al. 2022: accuracy after every training and every sleep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from benchmarks.data.sets import DATA_SETS, dataset_title
from benchmarks.records.metrics import overall_accuracy
from benchmarks.records.record import Record, reports_by_experience
from benchmarks.tables.results import group_strategies, sleep_label

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

# Okabe & Ito's colours, told apart by colour-blind readers too; yellow is left out, it is pale on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#7F6A00", "#5E4FA2", "#8C564B", "#4D4D4D")
OVERALL, JOINT, NIGHT = "#111111", "#666666", "#E8ECF4"
WIDTH_IN, DPI = 12.0, 150
SOURCE = "Source"
"""Key of a PNG's text that holds the fingerprint of the records it shows."""


def phases(record: Record) -> tuple[list[str], NDArray[np.float64]]:
    """Return the phases of a run and the accuracy after each: T1, S1, T2, ... with sleep, T1, T2, ... without.

    Returns:
        Names, and fractions of shape (n_phases, n_experiences).
    """
    after = np.array(record.accuracy)
    n = len(after)
    if not record.config.get("sleep"):
        return [f"T{i + 1}" for i in range(n)], after
    both = np.stack([np.array(record.accuracy_before_sleep), after], axis=1).reshape(2 * n, -1)
    return [f"{kind}{i + 1}" for i in range(n) for kind in "TS"], both


def slept(group: Sequence[Record]) -> list[int]:
    """Return in how many runs there was a sleep after each experience that was kept: a plugin may stay awake."""
    reports = [reports_by_experience(record) for record in group]
    n = len(group[0].accuracy or [])
    return [sum(report.get(i, {}).get("decision") == "slept" for report in reports) for i in range(n)]


def spread_labels(heights: Sequence[float], *, gap: float, floor: float) -> list[float]:
    """Move heights apart until neighbours are at least `gap` apart, keeping their order and, if they fit, their centre.

    Args:
        heights: Wanted heights.
        gap: Smallest distance, in the same unit.
        floor: Nothing is placed below it.
    """
    order = np.argsort(heights, kind="stable")
    groups: list[list[int]] = []
    centres: list[float] = []
    for index in order:
        groups.append([int(index)])
        centres.append(float(heights[index]))
        while len(groups) > 1 and _bottom(centres[-1], groups[-1], gap) - _top(centres[-2], groups[-2], gap) < gap:
            merged = groups[-2] + groups[-1]
            groups[-2:] = [merged]
            centres[-2:] = [float(np.mean([heights[i] for i in merged]))]
    placed = [0.0] * len(heights)
    for group, centre in zip(groups, centres, strict=True):
        for rank, index in enumerate(group):
            placed[index] = centre + gap * (rank - (len(group) - 1) / 2)
    for index in order:  # what the floor pushes up pushes up what is above it
        placed[index] = max(placed[index], floor)
        floor = placed[index] + gap
    return placed


def _bottom(centre: float, group: list[int], gap: float) -> float:
    return centre - gap * (len(group) - 1) / 2


def _top(centre: float, group: list[int], gap: float) -> float:
    return centre + gap * (len(group) - 1) / 2


def fingerprint(records: Sequence[Record]) -> str:
    """Return a hash of what a picture of these records shows; a picture carries it, so that a stale one is noticed."""
    shown = [[r.strategy, r.seed, r.accuracy_before_sleep, r.accuracy] for r in records if r.status == "done"]
    return hashlib.sha256(json.dumps(sorted(shown, key=lambda one: one[:2])).encode()).hexdigest()[:16]


def draw(records: Sequence[Record], path: Path) -> Path | None:
    """Draw the accuracies of one setting; joint training is a dashed line at its overall accuracy.

    Args:
        records: Of one setting; runs that are not done are left out.
        path: Where the PNG goes.

    Returns:
        `path`, or None when there is nothing to draw.
    """
    groups = group_strategies([r for r in records if r.status == "done"])
    panels = {name: group for name, group in groups.items() if len(group[0].accuracy or []) == len(group[0].n_test)}
    joint = [r.final_accuracy for r in groups.get("joint", []) if r.final_accuracy is not None]
    panels.pop("joint", None)
    if not panels:
        return None
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH_IN, 1.4 + 4.2 * rows), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (name, group) in zip(axes.flat, panels.items(), strict=False):
        _panel(axis, name, group, joint=float(np.mean(joint)) if joint else None)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("test accuracy, %")
    _title(figure, next(iter(panels.values())), panels, n_joint=len(joint))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={SOURCE: fingerprint(records)})
    plt.close(figure)
    return path


def _panel(axis: Axes, name: str, group: list[Record], *, joint: float | None) -> None:
    names, _ = phases(group[0])
    values = 100 * np.stack([phases(r)[1] for r in group])  # (n_seeds, n_phases, n_experiences)
    overall = 100 * np.stack([overall_accuracy(phases(r)[1], r.n_test) for r in group])  # (n_seeds, n_phases)
    has_sleep = bool(group[0].config.get("sleep"))
    n_experiences = values.shape[2]
    x = np.arange(len(names), dtype=np.float64) * (
        1.0 if has_sleep else 2.0
    )  # trainings stand at the same place in every panel
    if has_sleep:
        for k, (night, asleep) in enumerate(zip(x[1::2], slept(group), strict=True)):
            axis.axvspan(night - 0.5, night + 0.5, color=NIGHT, alpha=asleep / len(group), linewidth=0, zorder=0)
            if asleep < len(group):
                names[2 * k + 1] += f"\n{asleep}/{len(group)}"
    ends: list[tuple[float, str, str, bool]] = []
    for j in range(n_experiences):
        first = j * (2 if has_sleep else 1)  # an experience is drawn from its own training on
        colour = COLOURS[j % len(COLOURS)]
        _line(axis, x[first:], values[:, first:, j], colour=colour, width=1.8)
        ends.append((float(values[:, -1, j].mean()), _classes(group, j), colour, False))
    _line(axis, x, overall, colour=OVERALL, width=3.2)
    ends.append((float(overall[:, -1].mean()), f"all classes {overall[:, -1].mean():.0f}", OVERALL, True))
    if joint is not None:
        left_to_last = (-0.6, float(x[-1]))  # not to the frame: its label stands there
        axis.plot(left_to_last, [100 * joint] * 2, color=JOINT, linewidth=1.4, linestyle=(0, (5, 3)), zorder=1)
        ends.append((100 * joint, f"joint training {100 * joint:.0f}", JOINT, False))
    heights = spread_labels([end[0] for end in ends], gap=5.2, floor=0.0)
    for (_, text, colour, is_bold), height in zip(ends, heights, strict=True):
        axis.annotate(
            text,
            (x[-1], height),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=11,
            fontweight="bold" if is_bold else "normal",
            annotation_clip=False,
        )
    axis.set_xticks(x, names)
    axis.set_xlim(-0.6, 2 * len(group[0].n_test) - (0.4 if has_sleep else 1.4))
    axis.set_ylim(-4, 104)
    axis.set_yticks(range(0, 101, 20))
    axis.grid(axis="y", color="#E2E2E2", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=11, length=3)
    sleep = group[0].config.get("sleep") or {}
    axis.set_title(f"{name}  ({sleep_label(sleep)})" if sleep else name, fontsize=12, loc="left")


def _line(axis: Axes, x: NDArray[np.float64], values: NDArray[np.float64], *, colour: str, width: float) -> None:
    """Draw the mean over seeds, values of shape (n_seeds, n_points), in a band from smallest to largest."""
    if len(values) > 1:
        axis.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axis.plot(x, values.mean(axis=0), color=colour, linewidth=width, marker="o", markersize=width + 2.5, clip_on=False)


def _classes(records: Sequence[Record], j: int) -> str:
    """Name the classes of an experience, or the experience where they differ between seeds."""
    names = records[0].experiences[j]
    if any(record.experiences[j] != names for record in records):
        return f"experience {j + 1}"
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} to {names[-1]}"


def _title(figure: Any, group: list[Record], panels: dict[str, list[Record]], *, n_joint: int) -> None:
    record = group[0]
    counts = sorted({len(g) for g in panels.values()} | ({n_joint} if n_joint else set()))
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    stream = record.config["stream"]
    title = dataset_title(stream["dataset"], stream.get("folder"), stream.get("then"))
    title = f"Split-{DATA_SETS[title].title}" if title in DATA_SETS else title
    figure.suptitle(
        f"{title}: {len(record.class_order)} classes in {len(record.n_test)} experiences, "
        f"{seeds} seed{'' if counts == [1] else 's'}",
        fontsize=15,
        x=0.01,
        ha="left",
    )
    band = "Mean over seeds, bands from the smallest to the largest. " if counts[-1] > 1 else ""
    has_sleep = any(g[0].config.get("sleep") for g in panels.values())
    sleep = "; S1: after the sleep that follows (shaded)" if has_sleep else ""
    awake = any(min(slept(g)) < len(g) for g in panels.values() if g[0].config.get("sleep"))
    n = counts[-1]
    number = f"\n0/{n} below S1: it slept in none of {n} run{'s' if n > 1 else ''}, and stayed awake." if awake else ""
    ticks = f"T1: after training on experience 1{sleep}. "
    figure.supxlabel(
        f"{ticks}{band}\n"
        "Colours: test images of one experience. Black: all test images, classes still to come included."
        f"{number}",
        fontsize=10.5,
        color="#444444",
        x=0.01,
        ha="left",
    )
