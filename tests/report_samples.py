"""For the tests of the report: records made by hand, and a small leaderboard of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.records.record import Record, record_path, write_record
from lab_samples import CONFIG, finished

REPORT = {
    "decision": "slept",
    "reason": "the classes of this experience crowd out others",
    "rates": [0.04, 0.012, 0.0025],
    "weight_change": [1.0, 0.5],
    "weight_norm": [20.0, 2.0],
    "share_trained": 1.0,
    "share_slept": 0.9,
    "share_settled": 0.5,
    "share_levelled": 0.4,
    "expected_share": 0.5,
    "settled_at": 0.61,
    "skipped": {"level": "switched off"},
    "steps": 800,
    "seconds": 0.25,
}
WAYS = {"nearest_mean": [[1.0, 0.0], [0.5, 0.5]], "outputs": [[1.0, 0.0], [0.2, 0.4]]}


def runs_of(strategy: str, finals: Iterable[float], **changes: Any) -> list[Record]:
    """Return a run for each final accuracy, seeds 0, 1, ...; those that sleep have a matrix before it and a report."""
    slept: dict[str, Any] = {}
    if strategy.endswith("+src"):
        before = [[1.0, 0.0], [0.0, 0.75]]
        slept = {"accuracy_before_sleep": before, "sleep_reports": [REPORT, REPORT], "kept_bytes": 600}
    return [finished(strategy, seed, final, **{**slept, **changes}) for seed, final in enumerate(finals)]


def with_settings(strategy: str, finals: Iterable[float], *, sleep: Any = None, **settings: float) -> list[Record]:
    """Return runs whose config has settings of the method."""
    return runs_of(strategy, finals, config={**CONFIG, "strategy": strategy, "sleep": sleep, "settings": settings})


def diverged(strategy: str, seed: int, **changes: Any) -> Record:
    """Return a run that diverged in its second experience."""
    lost = {"status": "diverged", "error": "loss is <nan>", "final_accuracy": None}
    return finished(strategy, seed, 0.0, **lost, accuracy=[[1.0, 0.0]], accuracy_before_sleep=[[1.0, 0.0]], **changes)


LEADERBOARD: dict[str, list[Record]] = {
    "suites": [
        *runs_of("naive", (0.20, 0.22, 0.18, 0.21, 0.19, 0.20)),
        *runs_of("naive+src", (0.60, 0.63, 0.57, 0.61, 0.59, 0.60)),
        *runs_of("replay", (0.50, 0.55, 0.60), kept_bytes=1_414_800),
        *runs_of("replay+src", (0.70, 0.70, 0.70), kept_bytes=1_415_400),
        *runs_of("joint", (0.90,), kept_bytes=None),
        diverged("ewc", 0),
    ],
    "regimes": [
        *runs_of("icarl", (0.5, 0.5), config_name="ways", accuracy_by=WAYS),
        *runs_of("naive", (0.3, 0.3), config_name="ways"),
    ],
    "paper": runs_of("naive", (0.19, 0.20, 0.21), config_name="table1_mnist_paper"),
}
"""Family -> runs. Published of `table1_mnist_paper` are also strategies that have no run here."""


def write_runs(folder: Path, families: Mapping[str, Iterable[Record]]) -> None:
    """Write records as `run` does, each family into a folder of its own; "" into `folder` itself."""
    for family, records in families.items():
        for r in records:
            path = record_path(
                folder / family, config_name=r.config_name, strategy=r.strategy, seed=r.seed, hash8=r.hash
            )
            write_record(r, path)
