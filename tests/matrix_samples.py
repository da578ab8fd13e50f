"""For the tests of the matrix: a small one as YAML, and records for its cells made by hand."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.configs.matrix import Matrix
from benchmarks.configs.run import resolve
from benchmarks.records.record import Record
from lab_samples import TINY, finished

SMALL: dict[str, Any] = {
    "name": "Small",
    "base": {
        "stream": {key: value for key, value in TINY["stream"].items() if key != "dataset"},
        "model": TINY["model"],
        "training": TINY["training"],
    },
    "datasets": {"digits": {}},
    "methods": ["naive", "naive+settle", "naive+src", "joint"],
    "regimes": [
        {"name": "sgd", "title": "plain", "group": "training"},
        {"name": "slow", "title": "lower rate", "group": "training", "set": {"training": {"lr": 0.05}}},
        {
            "name": "replay_5",
            "title": "replay",
            "group": "underneath",
            "strategy": "replay",
            "set": {"settings": {"memory_fraction": 0.05}},
            "methods": ["naive", "naive+src"],
            "no_harm": True,
        },
    ],
}


def small(**changes: Any) -> dict[str, Any]:
    """Return a copy of SMALL, with changes."""
    return copy.deepcopy({**SMALL, **changes})


def small_with(**changes: Any) -> dict[str, Any]:
    """Return a copy of SMALL whose second regime is changed."""
    raw = small()
    raw["regimes"][1] |= changes
    return raw


def write_matrix_file(folder: Path, raw: Mapping[str, Any] = SMALL) -> Path:
    """Write a matrix as `small.yaml`."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(copy.deepcopy(dict(raw)), sort_keys=False), encoding="utf-8")
    return path


def cell_records(matrix: Matrix, regime: str, finals: Mapping[str, Sequence[float]], **changes: Any) -> list[Record]:
    """Return a run for each final accuracy: method -> those of seeds 0, 1, ..."""
    cell = next(cell for cell in matrix.cells if cell.regime.name == regime)
    return [
        finished(strategy, seed, final, config_name=cell.config.name, config=resolve(cell.config, strategy), **changes)
        for method, values in finals.items()
        for strategy in [cell.strategies[method]]
        for seed, final in enumerate(values)
    ]
