"""Records of explained nights -> tables in Markdown: what may stand in the place of a sleep, and what it did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.explain.controls.rows import SIMULATED, TITLES
from benchmarks.explain.predicting import FORMULAS
from benchmarks.explain.records import Told, groups_of, is_gated
from benchmarks.markdown import table
from benchmarks.records.metrics import Difference, paired_difference

COLUMNS = ("correlation", "lowest", "among excited", "rest", "measured f")
"""What is said of a layer; of the ungated rule also what each formula predicts."""


def later_nights(record: Told) -> list[dict[str, Any]]:
    """Return the nights in which there were old classes."""
    return [night for night in record["nights"] if night["old_classes"]]


def stage_means(record: Told) -> dict[str, float]:
    """Return accuracy over seen classes right after a night, mean over the nights with old classes; fractions."""
    nights = [night["accuracy"] for night in later_nights(record)]
    shared = [name for name in TITLES if nights and all(name in night for night in nights)]
    return {name: float(np.mean([night[name] for night in nights])) for name in shared}


def differences(records: Sequence[Told]) -> dict[str, tuple[float, Difference]]:
    """Return for every stage its mean over seeds, and what it has more than the simulated sleep, paired by seed."""
    means = {record["seed"]: stage_means(record) for record in records}
    found = {}
    for name in TITLES:
        ours = {seed: mean[name] for seed, mean in means.items() if name in mean}
        theirs = {seed: mean[SIMULATED] for seed, mean in means.items() if name in mean}
        gain = paired_difference(ours, theirs)
        if gain is not None:
            found[name] = (float(np.mean(list(ours.values()))), gain)
    return found


def markdown(records: Sequence[Told]) -> str:
    """Return all tables: of the ungated rule first, then of the gated one."""
    parts = []
    for gated in (False, True):
        own = groups_of([record for record in records if is_gated(record) == gated])
        if not own:
            continue
        parts += [f"### {'The published, gated rule' if gated else 'The ungated rule'}", "", _stages(own), ""]
        parts += [describe(own), "", _layers(own, predicted=not gated), ""]
    return "\n".join(parts).strip()


def _stages(groups: dict[str, list[Told]]) -> str:
    found = {name: differences(group) for name, group in groups.items()}
    rows = [[title, *(_cell(stage, one.get(stage)) for one in found.values())] for stage, title in TITLES.items()]
    return table(["in the place of the sleep", *groups], [row for row in rows if any(row[1:])], align="lr")


def _cell(stage: str, found: tuple[float, Difference] | None) -> str:
    if found is None:
        return ""
    mean, gain = found
    if stage == SIMULATED:
        return f"**{100 * mean:.1f}**"
    width = "" if gain.half_width is None else f" ± {100 * gain.half_width:.1f}"
    return f"{100 * mean:.1f} ({100 * gain.mean:+.1f}{width})"


def describe(groups: dict[str, list[Told]], *, where: str = "In brackets") -> str:
    """Return what a table or picture shows: measured on what, how many seeds and nights, of which commit.

    Args:
        groups: Records by what people read.
        where: Where the differences stand.
    """
    every = [record for group in groups.values() for record in group]
    nights = [night for record in every for night in later_nights(record)]
    awake = sum(not night["layers"] for night in nights)
    seeds = sorted({len({record["seed"] for record in group}) for group in groups.values()})
    commits = sorted({record["commit"][:7] for record in every})
    defaults = {_default_of(night) for night in nights if "removal" in night}
    default = f" The default of the closed form was {', or '.join(sorted(defaults))}." if defaults else ""
    kept = f" In {awake} of {len(nights)} nights a gate left the sleep out." if awake else ""
    return (
        "Percent right of held-out training images of all seen classes, right after a night; mean over the nights with "
        f"old classes, then over seeds. {where}: difference to the simulated sleep, paired by seed, with Student's "
        f"95 % interval. Seeds: {' or '.join(map(str, seeds))}. Commit {', '.join(commits)}.{default}{kept}"
    )


def _default_of(night: Told) -> str:
    """Return the numbers of the closed form as it was the default when a night was recorded."""
    removal = night["removal"].get("default")
    name, numbers = ("a removal of", removal) if removal else ("fractions of", night["fractions"])
    return f"{name} {' and '.join(f'{x:g}' for x in numbers)}"


def _layers(groups: dict[str, list[Told]], *, predicted: bool) -> str:
    rows = []
    for name, group in groups.items():
        nights = [night["layers"] for record in group for night in record["nights"] if night["layers"]]
        for layer, own in enumerate(zip(*nights, strict=True)):
            rows.append([name, str(layer + 1), *layer_cells(own, predicted=predicted)])
    more = (*FORMULAS.values(), "formula off by") if predicted else ()
    return table(["data, optimizer", "layer", *COLUMNS, *more], rows, align="llr")


def mean_text(values: Sequence[float | None]) -> str:
    """Return the mean of what is known, "" if nothing is."""
    there = [value for value in values if value is not None]
    return f"{np.mean(there):.3f}" if there else ""


def layer_cells(nights: Sequence[dict[str, Any]], *, predicted: bool) -> list[str]:
    """Return the cells of one layer: means over nights, but for the lowest correlation."""
    correlations = [night["correlation"] for night in nights if night["correlation"] is not None]
    cells = [
        mean_text(correlations),
        f"{min(correlations):.3f}" if correlations else "",
        mean_text([night["correlation_excited"] for night in nights]),
        mean_text([night["rest"] for night in nights]),
        mean_text([night["fraction"] for night in nights]),
    ]
    if predicted:
        cells += [mean_text([night["predicted"][formula] for night in nights]) for formula in FORMULAS]
        pairs = [(night["fraction"], night["predicted"]["formula"]) for night in nights]
        cells.append(mean_text([abs(a - b) for a, b in pairs if a is not None and b is not None]))
    return cells
