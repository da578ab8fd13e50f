"""Folders of records -> runs: each record with the file it was read from and the places it has in a report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console

from benchmarks.console import say
from benchmarks.records.packed import find_files
from benchmarks.records.record import RECORD_FILES, Record, read_record
from benchmarks.verification.marks import is_verified
from src_plugin.errors import SRCError

SELF_REPORTED, VERIFIED, PUBLISHED = "self-reported", "verified", "published"
"""Where a number is from: a run that its author made, one that somebody else repeated, or an article."""


@dataclass(frozen=True)
class Run:
    """One record and where it stands.

    Attributes:
        record: What was read.
        path: The file it was read from.
        family: First folder below the given one if it is not that of the config, e.g. "regimes"; "" without.
    """

    record: Record
    path: Path
    family: str

    @cached_property
    def provenance(self) -> str:
        """Return whether a mark beside the record says that it was repeated; else it was reported by its author."""
        return VERIFIED if is_verified(self.path) else SELF_REPORTED

    @cached_property
    def place(self) -> str:
        """Return its place below `runs/` and `records/`, without an ending: config, strategy, seed and hash."""
        record = self.record
        return "/".join((slug(record.config_name), slug(record.strategy), f"seed{record.seed}-{record.hash}"))

    @property
    def page(self) -> str:
        """Return where its page stands in a report."""
        return f"runs/{self.place}.html"

    @property
    def copy(self) -> str:
        """Return where a copy of its record stands in a report."""
        return f"records/{self.place}.json"


def slug(name: str) -> str:
    """Return a name as a part of a path, whatever it holds: signs other than letters, digits, ".", "_", "+", "-" go."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip(".") or "_"


def unique(names: Sequence[str]) -> list[str]:
    """Return names of which no two are the same: those that occur again have their number behind them."""
    taken: set[str] = set()
    result = []
    for name in names:
        own, number = name, 1
        while own in taken:
            number += 1
            own = f"{name}-{number}"
        taken.add(own)
        result.append(own)
    return result


def columns_of(records: Sequence[Record]) -> list[tuple[int, str]]:
    """Return what the columns of the accuracy matrices are: the experience that brings each, from 0, and its classes.

    Where classes come back, a column has those that its experience was the first to bring. Where runs differ in their
    order, or the same classes come again as other images, it has the number of its experience.

    Args:
        records: Of one strategy.
    """
    first = records[0]
    seen: set[str] = set()
    columns = []
    for i, classes in enumerate(first.experiences):
        new = [name for name in classes if name not in seen]
        seen.update(new)
        if new:
            columns.append((i, ", ".join(new) if len(new) <= 3 else f"{new[0]} to {new[-1]}"))
    if len(columns) != len(first.n_test):  # the same classes as other images: every experience has its column
        return [(i, f"experience {i + 1}") for i in range(len(first.n_test))]
    if any(record.experiences != first.experiences for record in records):
        return [(i, f"experience {i + 1}") for i, _ in columns]
    return columns


def read_runs(folders: Sequence[Path], *, console: Console) -> list[Run]:
    """Read every record under some folders, in the order of folders and paths.

    Of records of the same run (config, strategy, seed) the first counts; the console says how many others there were.

    Args:
        folders: Where records lie, at any depth.
        console: Where that is said.

    Raises:
        RecordError: There is no such folder, or a file is not a valid record.
        SRCError: There is no record in any of them.
    """
    found: dict[str, Run] = {}
    others: list[Path] = []
    for folder in folders:
        for path in find_files(folder, RECORD_FILES):
            parts = path.relative_to(folder).parts
            run = Run(read_record(path), path, parts[0] if len(parts) > 3 else "")
            if run.place in found:
                others.append(path)
            found.setdefault(run.place, run)
    if not found:
        places = ", ".join(map(str, folders))
        raise SRCError(f"there are no records in {places}; `python -m benchmarks run <config>` makes them")
    if others:
        what = "1 record is of a run" if len(others) == 1 else f"{len(others)} records are of runs"
        was = "was" if len(others) == 1 else "were"
        say(console, f"{what} that {was} read before and left out, e.g. {others[0]}")
    return list(found.values())
