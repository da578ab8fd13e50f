"""A record of one night -> a table by quarters of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.explain.records import label_of
from benchmarks.markdown import table

SHOWN = ("rates", "change", "fractions", "closed_fractions")


def markdown(record: Mapping[str, Any]) -> str:
    """Return the table of a night."""
    rows = [["evening", *[""] * 4, *_accuracies(record["evening"]), *_accuracies(record["evening"])]]
    parts = record["parts"]
    for k in range(1, 5):
        part = parts[round(k * len(parts) / 4) - 1]
        cells = [
            " / ".join(_text(x) for x in part[key]) for key in ("rates", "change", "fractions", "closed_fractions")
        ]
        rows.append([f"step {part['step']:,}", *cells, *_accuracies(part["simulated"]), *_accuracies(part["closed"])])
    heads = [
        *("", "rates, inputs first", "change of weights", "f, simulated", "f, closed form"),
        *("% right, slept", "morning", "closed form: slept", "morning"),
    ]
    return "\n\n".join([f"### {title(record)}", table(heads, rows, align="lr"), describe(record)])


def title(record: Mapping[str, Any]) -> str:
    """Return what the night is of."""
    return f"Night {record['night']} of {label_of(dict(record))}"


def describe(record: Mapping[str, Any]) -> str:
    """Return what table and picture show."""
    thresholds = ", ".join(f"{t:.3g}" for t in record["thresholds"])
    return (
        f"Head {'-'.join(map(str, record['sizes']))}, {record['steps']:,} steps, depth {record['strength']:.2g}, "
        f"thresholds {thresholds} layer by layer. Rates: spikes per unit and step. Change: norm of the change over "
        "that of the weights. f: part of the answer to the mean input that is gone. Slept: right after the sleep. "
        "Morning: after settling and levelling, if any. Accuracy: of held-out training images of all seen classes. "
        f"Seed {record['seed']}, commit {record['commit'][:7]}."
    )


def _accuracies(told: Mapping[str, float]) -> list[str]:
    return [f"{100 * told[key]:.1f}" for key in ("slept", "morning")]


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"
