"""Rows -> what the charts of a benchmark draw: points, curves and the places of names; accuracies in percent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.records.metrics import overall_accuracy, seen_accuracy
from benchmarks.report.rows import Row
from benchmarks.report.runs import Run, columns_of
from benchmarks.tables.picture import phases, spread_labels

SLEEPS = {"off": "without sleep", "settling": "settling without sleep", "on": "with sleep"}
STORES = {True: "earlier images at hand", False: "no earlier image", None: "unknown"}
LABELLED = 12  # rows up to which every point has its name beside it; above, names would cover each other
LABEL_GAP = 4.2  # in percent: names nearer than that would cover each other
LABEL_REACH = 0.3  # of the width of a chart, about what a name takes


def chart_data(rows: Sequence[Row], ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the data sets of the charts of one benchmark; accuracies in percent.

    Args:
        rows: Of one benchmark; those without a done run are left out.
        ids: What each is called on its page.
    """
    drawn = [(row, name) for row, name in zip(rows, ids, strict=True) if row.mean is not None]
    data: dict[str, list[dict[str, Any]]] = {"rows": [], "seen": [], "phases": []}
    for row, name in drawn:
        data["rows"].append(_point(row, name, has_label=len(drawn) <= LABELLED))
        done = [run for run in row.runs if run.record.status == "done"]
        data["seen"] += _seen_points(row, name, done)
        data["phases"] += phase_points(done, row.way, name)
    for field, scale in (("kept", np.log1p), ("seconds", np.log)):
        _place_names([point for point in data["rows"] if point[field] is not None], field, scale)
    return data


def _place_names(points: Sequence[dict[str, Any]], field: str, scale: Callable[[Any], Any]) -> None:
    """Set where the names of points stand: to the left in the right half, moved up or down beside their neighbours."""
    if not points:
        return
    x = np.asarray(scale(np.maximum([point[field] for point in points], 1e-3 if field == "seconds" else 0.0)))
    x = (x - x.min()) / (np.ptp(x) or 1.0)
    is_left = x > 0.5
    left_end = np.where(is_left, x - LABEL_REACH, x)
    for point, side in zip(points, is_left, strict=True):
        point |= {f"{field}_is_left": bool(side), f"{field}_name_y": point["mean"]}
    remaining = {i for i, point in enumerate(points) if point["label"]}
    while remaining:  # names that reach over each other are spread together
        group = {remaining.pop()}
        while near := {i for i in remaining if any(abs(left_end[i] - left_end[j]) < LABEL_REACH for j in group)}:
            group |= near
            remaining -= near
        own = sorted(group)
        heights = spread_labels([points[i]["mean"] for i in own], gap=LABEL_GAP, floor=0.0)
        for i, height in zip(own, heights, strict=True):
            points[i][f"{field}_name_y"] = round(height, 2)


def _point(row: Row, name: str, *, has_label: bool) -> dict[str, Any]:
    point: dict[str, Any] = {
        "id": name,
        "name": row.title,
        "strategy": row.name,
        "sleeps": SLEEPS[row.sleeps],
        "stores": STORES[row.stores],
        "mean": _rounded(row.mean),
        "low": _rounded(row.interval[0] if row.interval else row.mean),
        "high": _rounded(row.interval[1] if row.interval else row.mean),
        "kept": row.kept_bytes,
        "seconds": row.seconds,
        "n": len(row.finals),
        "label": has_label,
    }
    base = row.against
    if base is not None and base.mean is not None:
        point |= {"base_mean": _rounded(base.mean), "base_kept": base.kept_bytes, "base_seconds": base.seconds}
    return point


def _seen_points(row: Row, name: str, done: Sequence[Run]) -> list[dict[str, Any]]:
    """Return mean and range over seeds after each experience; nothing of joint training, which has but one."""
    curves = [seen_accuracy(_matrix(run, row.way), run.record.n_test) for run in done]
    if not curves or len(curves[0]) < 2 or len({len(curve) for curve in curves}) > 1:
        return []
    if len(curves[0]) != len(done[0].record.n_test):  # some experience brought no class, so no column is "its own"
        return []
    values = np.array(curves)
    return [
        {"id": name, "name": row.title, "experience": i + 1} | _spread(values[:, i]) for i in range(values.shape[1])
    ]


def phase_points(runs: Sequence[Run], way: str, name: str) -> list[dict[str, Any]]:
    """Return mean and range over runs on each experience, and on all (experience 0), after each training and sleep.

    Args:
        runs: Of one strategy, done.
        way: The way of answering; before the sleep only the first was measured, so others have no such phase.
        name: What the strategy is called on its page.
    """
    tables = [_phases_of(run, way) for run in runs]
    if not tables or len({values.shape for _, values in tables}) > 1:
        return []
    names = tables[0][0]
    n_trained = len(runs[0].record.accuracy or [])
    columns = columns_of([run.record for run in runs])
    overall = np.array([overall_accuracy(v, run.record.n_test) for (_, v), run in zip(tables, runs, strict=True)])
    points = []
    for order, phase in enumerate(names):
        start = {"id": name, "phase": phase, "order": order}
        points.append({**start, "experience": 0, "classes": "all classes", **_spread(overall[:, order])})
        trained = order * n_trained // len(names)
        for j, (first, classes) in enumerate(columns):
            if n_trained == 1 or first <= trained:  # an experience is drawn from its own training on
                spread = _spread(np.array([v[order, j] for _, v in tables]))
                points.append({**start, "experience": first + 1, "classes": classes, **spread})
    return points


def _phases_of(run: Run, way: str) -> tuple[list[str], np.ndarray]:
    others = run.record.accuracy_by or {}
    if way in others and way != next(iter(others)):
        after = np.array(others[way])
        return [f"{'S' if run.record.config.get('sleep') else 'T'}{i + 1}" for i in range(len(after))], after
    return phases(run.record)


def _matrix(run: Run, way: str) -> list[list[float]]:
    return (run.record.accuracy_by or {}).get(way) or run.record.accuracy or []


def _spread(values: np.ndarray) -> dict[str, float]:
    return {
        "mean": round(100 * float(values.mean()), 2),
        "low": round(100 * float(values.min()), 2),
        "high": round(100 * float(values.max()), 2),
    }


def _rounded(fraction: float | None) -> float | None:
    return None if fraction is None else round(100 * fraction, 2)
