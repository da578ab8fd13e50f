"""For the tests of the laboratory: a config that trains in a second, and records made by hand."""

from __future__ import annotations

from typing import Any

from benchmarks.records.record import Record

TINY: dict[str, Any] = {
    "name": "tiny",
    "stream": {"dataset": "digits", "classes_per_experience": [2, 2, 6], "samples_per_experience": 150},
    "model": {"hidden": [30, 20]},
    "training": {"lr": 0.1, "batch_size": 10, "epochs": 6},
    "strategies": ["naive", "joint"],
}

TASKS = {"dataset": "digits", "n_experiences": 5, "task_labels": True}
PERMUTED = {"dataset": "digits", "permutations": 2}
RETURNING = {"dataset": "digits", "experiences": [[0, 1], [2, 3, 0], [4, 5, 6, 7, 8, 9], [1, 0]]}

CONFIG: dict[str, Any] = {
    "stream": {"dataset": "digits"},
    "model": {},
    "training": {"lr": 0.1},
    "sleep": None,
    "strategy": "naive",
}
RAW: dict[str, Any] = {
    "schema": 1,
    "status": "done",
    "config_name": "tiny",
    "config": CONFIG,
    "strategy": "naive",
    "seed": 3,
    "class_order": [0, 1],
    "experiences": [["0"], ["1"]],
    "n_test": [30, 10],
    "accuracy": [[1.0, 0.0], [1 / 3, 0.8]],
    "accuracy_before_sleep": [[1.0, 0.0], [0.1, 0.9]],
    "final_accuracy": 0.45,  # (30 / 3 + 8) / 40
    "kept_bytes": 0,
    "seconds": {"train": 1.0, "sleep": 0.0, "total": 1.5},
    "versions": {"torch": "2.8"},
    "commit": "unknown",
    "tree_clean": None,
    "hardware": {"cores": 2},
}
NOTHING_MEASURED: dict[str, Any] = {"accuracy": None, "accuracy_before_sleep": None, "final_accuracy": None}
FAILED: dict[str, Any] = {**NOTHING_MEASURED, "status": "failed", "error": "no"}


def make_record(**changes: Any) -> Record:
    """Return RAW as a record, with changes."""
    return Record.model_validate({**RAW, **changes})


def finished(strategy: str, seed: int, final: float, **changes: Any) -> Record:
    """Return a run on two experiences of equal size whose last row averages to `final`."""
    matrix = [[1.0, 0.0], [final, final]]
    sleep = {"preset": "auto", "changed": []} if strategy.endswith("+src") else None
    settings = {
        "strategy": strategy,
        "seed": seed,
        "config": {**CONFIG, "strategy": strategy, "sleep": sleep},
        "n_test": [10, 10],
        "accuracy": matrix,
        "accuracy_before_sleep": matrix,
        "final_accuracy": final,
    }
    return make_record(**{**settings, **changes})
