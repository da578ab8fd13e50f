"""Records of hidden activity -> what each sleep changed, beside what the article says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.explain.claims import Claim, claim_table
from benchmarks.explain.controls.table import groups_of_sleeps
from benchmarks.explain.correlations.running import STAGES
from benchmarks.explain.records import Told
from benchmarks.markdown import table
from benchmarks.records.metrics import Difference, paired_difference

MEASURES = {
    "within": "images of one class",
    "between": "images of two classes",
    "old_new": "an old and a new class",
    "sparse": "sparseness",
    "silent": "silent units",
    "old": "activity, old classes",
    "new": "activity, new classes",
}
"""What is told of a layer -> what people read."""


@dataclass(frozen=True)
class Change:
    """What sleeps made of a number.

    Attributes:
        before: Mean over nights with old classes, then over seeds.
        by: What they added to it, paired by seed.
    """

    before: float
    by: Difference

    @property
    def is_sure(self) -> bool:
        """Whether its interval is on one side of 0."""
        return self.by.half_width is not None and abs(self.by.mean) > self.by.half_width


def matrix(layer: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return mean correlations between classes, shape (n, n)."""
    n = len(layer["alike"])
    found = np.full((n, n), np.nan)
    for k, row in enumerate(layer["alike"]):
        for j, value in enumerate(row):
            found[k, j] = found[j, k] = np.nan if value is None else value
    return found


def measures(layer: Mapping[str, Any], n_old: int) -> dict[str, float]:
    """Return what is told of a layer at one stage of a night, names as in `MEASURES`."""
    alike = matrix(layer)
    apart = ~np.eye(len(alike), dtype=bool)
    by_class = {name: np.array(layer[name], dtype=np.float64) for name in ("sparseness", "silent", "activity")}
    return {
        "within": _mean(np.diag(alike)),
        "between": _mean(alike[apart]),
        "old_new": _mean(alike[:n_old, n_old:]),
        "sparse": _mean(by_class["sparseness"]),
        "silent": _mean(by_class["silent"]),
        "old": _mean(by_class["activity"][:n_old]),
        "new": _mean(by_class["activity"][n_old:]),
    }


def _mean(values: NDArray[np.float64]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def changes(records: Sequence[Told], layer: int) -> dict[str, Change]:
    """Return what sleeps changed in a hidden layer, of records of one config; without what no seed has."""
    values: dict[str, dict[str, dict[int, float]]] = {name: {stage: {} for stage in STAGES} for name in MEASURES}
    for record in records:
        nights = [night for night in record["nights"] if night["n_old"]]
        for stage in STAGES:
            told = [measures(night[stage]["layers"][layer], night["n_old"]) for night in nights]
            for name in MEASURES:
                mean = _mean(np.array([one[name] for one in told]))
                if mean == mean:
                    values[name][stage][record["seed"]] = mean
    found = {}
    for name, by_stage in values.items():
        by = paired_difference(by_stage["morning"], by_stage["evening"])
        if by is not None:
            found[name] = Change(float(np.mean(list(by_stage["evening"].values()))), by)
    return found


def claims(records: Sequence[Told], layer: int) -> list[Claim]:
    """Return what the article's abstract and Fig. 4 say, beside one hidden layer."""
    found = changes(records, layer)

    def one(words: str, name: str, sign: int) -> Claim:
        change = found.get(name)
        if change is None:
            return Claim(words, "", "no number", None)
        holds = change.by.mean * sign > 0 if change.is_sure else None
        return Claim(words, "", change_text(change), holds)

    where = f"layer {layer + 1}: "
    return [
        one(f"{where}each class gets its own representation: images of two classes correlate less", "between", -1),
        one(f"{where}sparseness rises", "sparse", 1),
        one(f"{where}activity for old classes rises", "old", 1),
        one(f"{where}activity for new classes falls", "new", -1),
    ]


def change_text(change: Change) -> str:
    """Return a number before sleep, and what sleep added with its interval."""
    width = "" if change.by.half_width is None else f" ± {change.by.half_width:.3f}"
    return f"{change.before:.3f} ({change.by.mean:+.3f}{width})"


def markdown(records: Sequence[Told]) -> str:
    """Return a table of all changes, and the claims of each sleep."""
    groups = dict(sorted(groups_of_sleeps(records).items()))
    if not groups:
        return ""
    rows = []
    for label, group in groups.items():
        for layer in range(n_layers(group)):
            found = changes(group, layer)
            cells = [change_text(found[name]) if name in found else "" for name in MEASURES]
            rows.append([label, str(layer + 1), *cells])
    parts = [table(["data, optimizer, sleep", "layer", *MEASURES.values()], rows, align="llr"), describe(groups)]
    for label, group in groups.items():
        told = [claim for layer in range(n_layers(group)) for claim in claims(group, layer)]
        parts += [f"### {label}", claim_table(told)]
    return "\n\n".join(parts)


def n_layers(records: Sequence[Told]) -> int:
    """Return how many hidden layers records of one config have."""
    return len(records[0]["nights"][0]["evening"]["layers"]) if records[0]["nights"] else 0


def accuracies(records: Sequence[Told]) -> list[float]:
    """Return accuracy over seen classes before and after nights with old classes, mean over nights and seeds."""
    nights = [night for record in records for night in record["nights"] if night["n_old"]]
    return [float(np.mean([night[stage]["accuracy"] for night in nights])) for stage in STAGES]


def describe(groups: Mapping[str, Sequence[Told]]) -> str:
    """Return what table and picture show: of what, how many seeds, of which commit."""
    seeds = ", ".join(f"{len(group)} ({label})" for label, group in groups.items())
    right = "; ".join(
        f"{label} {' to '.join(f'{100 * x:.1f}' for x in accuracies(group))} %" for label, group in groups.items()
    )
    every = [record for group in groups.values() for record in group]
    commits = ", ".join(sorted({record["commit"][:7] for record in every}))
    return (
        "Before a sleep, and in brackets what the night adds with Student's 95 % interval over seeds: mean over nights "
        f"with old classes. {every[0]['images']} held-out training images of each seen class. Correlation: Pearson's, "
        "over units, between two images, mean over pairs. Sparseness: of Vinje and Gallant, 1 if one unit answers "
        f"alone. Right of all seen classes, before and after: {right}. Seeds: {seeds}. Commit {commits}."
    )
