"""For the tests of verification: a sound record by hand, and its changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.configs.run import RunConfig, resolve
from benchmarks.records.record import Record, config_hash, record_path
from benchmarks.verification.checks import check_record
from benchmarks.verification.findings import Finding
from lab_samples import TINY

N_TEST = [91, 90, 269]
AFTER = [[90 / 91, 0.0, 0.0], [45 / 91, 72 / 90, 0.0], [13 / 91, 18 / 90, 250 / 269]]
BEFORE = [AFTER[0], [0.0, 81 / 90, 0.0], [0.0, 0.0, 260 / 269]]
ORIGIN: dict[str, Any] = {
    "versions": {
        **{"python": "3.11.7", "torch": "2.8.0", "torchvision": None, "avalanche-lib": "0.6.0"},
        **{"numpy": "2.4.6", "numba": "0.68.1", "scikit-learn": "1.9.1", "src-plugin": "0.1.0"},
    },
    "commit": "0123456789" * 4,
    "tree_clean": True,
    "hardware": {"cpu": "a processor", "cores": 2, "threads": 1, "device": "cpu"},
}
REPORT = {"decision": "slept", "reason": "new classes crowd out others", "seconds": 0.1}


def raw_record(strategy: str = "naive", **parts: Any) -> dict[str, Any]:
    """Return a record of TINY by hand, as JSON has it; `parts` are those of the config that differ."""
    config = resolve(RunConfig.model_validate({**TINY, **parts}), strategy)
    sleeps = "+" in strategy
    return {
        "schema": 1,
        "status": "done",
        "error": None,
        "config_name": "tiny",
        "config": json.loads(json.dumps(config)),
        "strategy": strategy,
        "seed": 3,
        "class_order": list(range(10)),
        "experiences": [["0", "1"], ["2", "3"], ["4", "5", "6", "7", "8", "9"]],
        "n_test": N_TEST,
        "accuracy": AFTER,
        "accuracy_before_sleep": BEFORE if sleeps else AFTER,
        "accuracy_by": None,
        "final_accuracy": (13 + 18 + 250) / 450,
        "sleep_reports": [REPORT] * 3 if sleeps else [],
        "features": None,
        "kept_bytes": 600 if sleeps else 0,
        "seconds": {"train": 1.0, "sleep": 0.5 if sleeps else 0.0, "total": 2.0},
        **ORIGIN,
    }


def write(raw: dict[str, Any], folder: Path, *, name: str | None = None) -> Path:
    """Write a record where it belongs, by what it says itself, or under another name."""
    where = {key: raw[key] for key in ("config_name", "strategy")}
    own = record_path(folder, seed=raw.get("seed", 3), hash8=config_hash(raw["config"]), **where)
    path = own if name is None else folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path


def findings_of(raw: dict[str, Any], folder: Path) -> list[Finding]:
    return check_record(write(raw, folder))[1]


def changed(record: Record, *, right: int = 0, **changes: Any) -> Record:
    """Return a record with so many right answers less in the last entry of its matrix, consistent in itself."""
    raw = record.model_dump(by_alias=True)
    last, n = raw["accuracy"][-1], raw["n_test"]
    last[-1] = (round(last[-1] * n[-1]) - right) / n[-1]
    raw["final_accuracy"] = sum(round(value * k) for value, k in zip(last, n, strict=True)) / sum(n)
    return Record.model_validate({**raw, **changes})


BY_HAND = Record.model_validate(raw_record("naive+src"))
ELSEWHERE = {"hardware": {**ORIGIN["hardware"], "cpu": "another processor"}}
