"""A record of predicted sleeps -> a table in Markdown: where formulas hold, and where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks import markdown
from benchmarks.explain.prediction import LEAKS, SPIKES, USUAL_LEAK
from benchmarks.explain.records import Told, label_of
from benchmarks.explain.tables import mean_text

COLUMNS = (
    "sleeps",
    "layer",
    "f",
    "formula off by",
    "mean field off by",
    "lowest correlation",
    "rest",
    "its correlation",
)


def prediction_table(record: Told) -> str:
    """Return how far formulas are off, over the grid of a record: by leak, and by input spikes at the usual leak."""
    grid = [setting for setting in record["settings"] if setting["part"] == "grid"]
    groups = {f"leak {leak:g}": [s for s in grid if s["decay"] == leak] for leak in LEAKS}
    usual = groups[f"leak {USUAL_LEAK:g}"]
    groups |= {f"{n:g} spikes, leak {USUAL_LEAK:g}": [s for s in usual if s["spikes"] == n] for n in SPIKES}
    rows = []
    for name, settings in groups.items():
        for place, layers in enumerate(zip(*(setting["layers"] for setting in settings), strict=True)):
            rows.append([name, str(place + 1), *_cells(layers)])
    note = (
        f"Means over the sleeps of a row: {len(grid)} in all, one head, seed {record['seed']}, commit "
        f"{record['commit'][:7]}. f: measured. Off by: mean distance to it. Rest: share of the update's "
        "norm without each unit's mean change; its correlation: with that of the mean field."
    )
    heading = f"### Predicted sleeps: {label_of(record)}"
    return "\n".join([heading, "", markdown.table(COLUMNS, rows, align="lr"), "", note])


def _cells(layers: Sequence[dict[str, Any]]) -> list[str]:
    def off(formula: str) -> str:
        pairs = [(layer["fraction"], layer["predicted"][formula]) for layer in layers]
        return mean_text([abs(a - b) for a, b in pairs if a is not None and b is not None])

    correlations = [layer["correlation"] for layer in layers if layer["correlation"] is not None]
    return [
        mean_text([layer["fraction"] for layer in layers]),
        off("formula"),
        off("mean_field"),
        f"{min(correlations):.3f}" if correlations else "",
        mean_text([layer["rest"] for layer in layers]),
        mean_text([layer["rest_alike"]["own"] for layer in layers]),
    ]
