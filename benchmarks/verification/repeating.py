"""From a record back to what was run, and the run again.

record -> config_of() -> run() on this machine -> largest difference of the matrices
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.data.dataset import Dataset
from benchmarks.records.record import Record, leaves
from benchmarks.verification.findings import Problem, short
from benchmarks.verification.restoring import config_of

TOLERANCE = 2.5
"""Percentage points by which an entry of a matrix may differ where versions or hardware do.

Other instruction sets and numbers of threads add floats in another order, and training carries the last bit on. Of 53
records on digits, MNIST and Fashion-MNIST that were repeated under such, 38 were the same to the bit, 14 differed by at
most 2.3 points in some entry (two test images of 88), and one, with momentum at a high rate, went another way, 33
points off. Two seeds of the same setting differ by 9 points in some entry (median), and by up to 2.5 in one case of
four. So what is within the tolerance is most likely the same run, and what is not should be repeated on a machine like
the first before it is doubted.
"""


def repeat(record: Record, *, data: Dataset, device: str = "cpu", threads: int | None = None) -> Record:
    """Run a record's config again under its own seed.

    Args:
        record: What was found.
        data: The images.
        device: Where it is trained.
        threads: Threads of torch; None takes as many as the record had. Afterwards there are as many as before.

    Raises:
        ConfigError: See `config_of` and `benchmarks.runs.runner.run`.
    """
    import torch

    from benchmarks.runs.runner import run  # here, because most of Avalanche loads with it

    config, before = config_of(record), torch.get_num_threads()
    wanted = threads or int(record.hardware.get("threads", before))
    try:
        return run(config, strategy=record.strategy, seed=record.seed, data=data, device=device, threads=wanted)
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Comparison:
    """A run and its repeat.

    Attributes:
        problems: What they do not share and should; without any, `largest` is what decides.
        largest: Largest difference of an entry of the matrices, in percentage points.
        where: That entry; "" if all are equal.
        tolerance: What it may be, in percentage points; 0 where versions and hardware are the same.
    """

    problems: tuple[Problem, ...]
    largest: float = 0.0
    where: str = ""
    tolerance: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the repeat confirms the run."""
        return not self.problems


def compare(record: Record, again: Record) -> Comparison:
    """Compare what a run found with what its repeat did.

    On the same versions and hardware all accuracies must be equal to the bit. Else they may differ by TOLERANCE; so may
    they on a GPU, whose sums have no fixed order.
    """
    problems: list[Problem] = []
    for field in ("status", "class_order", "experiences", "n_test", "kept_bytes"):
        found, expected = getattr(record, field), getattr(again, field)
        if found != expected:
            problems.append((field, found, f"{short(expected)}, as in the repeat"))
    there, here = leaves(record.features or {}), leaves(again.features or {})
    for key in sorted({*there, *here}):
        if key != "key" and "version" not in key and there.get(key) != here.get(key):
            problems.append((f"features.{key}", there.get(key), f"{short(here.get(key))}, as in the repeat"))
    ours, theirs = _entries(record), _entries(again)
    if ours.keys() != theirs.keys():
        problems.append(("accuracy", f"of {len(record.accuracy or ())} rows", f"{len(again.accuracy or ())} rows"))
    tolerance = 0.0 if _is_same_place(record, again) else TOLERANCE
    gaps = {where: 100 * abs(ours[where] - theirs[where]) for where in ours if where in theirs}
    where = max(gaps, key=lambda entry: gaps[entry], default="")
    if not where or gaps[where] == 0.0:
        return Comparison(tuple(problems), tolerance=tolerance)
    if gaps[where] > tolerance:
        within = f"within {tolerance} points" if tolerance else "equal to the bit, on the same versions and hardware"
        n = sum(gap > tolerance for gap in gaps.values())
        same = f"were code and images the same? the record is of commit {record.commit}"
        cure = f"({n} of {len(gaps)} entries are not; {same})"
        problems.append((where, f"{gaps[where]:.2f} points from the repeat's {theirs[where]:.4f}", f"{within} {cure}"))
    return Comparison(tuple(problems), gaps[where], where, tolerance)


def _entries(record: Record) -> dict[str, float]:
    ways = {f"accuracy_by.{name}": matrix for name, matrix in (record.accuracy_by or {}).items()}
    named = {"accuracy": record.accuracy, "accuracy_before_sleep": record.accuracy_before_sleep, **ways}
    return {
        f"{name}[{i}][{j}]": value
        for name, matrix in named.items()
        for i, row in enumerate(matrix or ())
        for j, value in enumerate(row)
    }


def _is_same_place(record: Record, again: Record) -> bool:
    hardware = [{key: r.hardware.get(key) for key in ("cpu", "threads", "device")} for r in (record, again)]
    return record.versions == again.versions and hardware[0] == hardware[1] and hardware[1]["device"] == "cpu"
