"""A mark beside a record: this very file was repeated.

A record is written once and never changed, so that it was repeated is said by a file of its own, `verified-<name>`,
which holds the SHA-256 of the record and what the repeat found. It names no person and no machine.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.errors import RecordError
from benchmarks.files import write_whole
from benchmarks.records.packed import as_written, exists, read_bytes, read_text
from benchmarks.records.record import Record
from benchmarks.verification.findings import Finding
from benchmarks.verification.repeating import Comparison


class Mark(BaseModel):
    """What a repeat found, in a file beside the record: by it a report calls the record verified.

    Attributes:
        record_sha256: Of the record's file; with another one the mark is void.
        largest_difference: Of all entries of the matrices, in percentage points.
        tolerance: What was allowed, in percentage points.
        accuracy: What the repeat measured; see `Record`, as for all that follows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=())

    schema_version: Literal[1] = Field(default=1, alias="schema")
    record_sha256: str
    largest_difference: float
    tolerance: float
    seed: int
    accuracy: list[list[float]]
    accuracy_before_sleep: list[list[float]]
    final_accuracy: float | None
    versions: dict[str, str | None]
    commit: str
    tree_clean: bool | None
    hardware: dict[str, str | int]


def mark_path(path: Path) -> Path:
    """Return where the mark of a record lies; not under `seed*.json`, by which records are found."""
    return path.with_name(f"verified-{path.name}")


def write_mark(path: Path, again: Record, comparison: Comparison) -> Path:
    """Write beside a record that its repeat confirms it; a mark of an earlier repeat is replaced."""
    facts = again.model_dump(include=set(Mark.model_fields) - {"schema_version"})
    mark = Mark(
        record_sha256=sha256_of(path), largest_difference=comparison.largest, tolerance=comparison.tolerance, **facts
    )
    write_whole(mark_path(path), as_written(mark.model_dump(by_alias=True)))
    return mark_path(path)


def is_verified(path: Path) -> bool:
    """Return whether a record has a mark that is of this very file.

    Raises:
        RecordError: There is a mark that cannot be read.
    """
    mark = read_mark(path)
    return mark is not None and mark.record_sha256 == sha256_of(path)


def read_mark(path: Path) -> Mark | None:
    """Return the mark of a record, None without one.

    Raises:
        RecordError: It cannot be read; the message names it.
    """
    beside = mark_path(path)
    if not exists(beside):
        return None
    try:
        return Mark.model_validate_json(read_text(beside))
    except (OSError, ValueError) as error:
        what = str(error).splitlines()[0]
        raise RecordError(f"{beside} is no mark of a repeat: {what}; remove it, `verify --rerun` makes it") from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a record's file, on the disk or in a pack."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def mark_findings(path: Path) -> list[Finding]:
    """Return what is wrong with the mark of a record; nothing where there is none."""
    try:
        mark = read_mark(path)
    except RecordError as error:
        return [Finding(mark_path(path), "file", str(error), "a mark, or none")]
    if mark is not None and mark.record_sha256 != sha256_of(path):
        return [Finding(mark_path(path), "record_sha256", "that of another file", "a mark of this record; remove it")]
    return []
