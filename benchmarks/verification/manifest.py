"""The manifest of a submission: which records it holds, byte by byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.errors import RecordError
from benchmarks.records.packed import find_files
from benchmarks.records.record import RECORD_FILES
from benchmarks.verification.findings import Finding
from benchmarks.verification.marks import sha256_of

MANIFEST = "manifest.json"


class Entry(BaseModel):
    """One record of a submission: its place in the folder, the SHA-256 of its file, and how the run ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str
    sha256: str
    status: str


class Manifest(BaseModel):
    """What a submission holds, and what it does not.

    Attributes:
        records: In the order of their paths.
        counts: Records by status, and how many configs and strategies.
        seeds: All that occur.
        versions: Each set of versions that occurs.
        hardware: Each that occurs.
        commits: Each that occurs, and whether its tree was clean.
        left_out: What lay beside the records and is not here, by kind.
        checked_by: Commit of the code that checked them, and whether its tree was clean.
        note: The submitter's words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=())

    schema_version: Literal[1] = Field(default=1, alias="schema")
    records: list[Entry]
    counts: dict[str, int]
    seeds: list[int]
    versions: list[dict[str, str | None]]
    hardware: list[dict[str, str | int]]
    commits: list[tuple[str, bool | None]]
    left_out: dict[str, int]
    checked_by: tuple[str, bool | None]
    note: str


def check_manifest(path: Path) -> list[Finding]:
    """Check that a submission holds the records that its manifest names, byte by byte, and no others.

    Args:
        path: The manifest.

    Returns:
        What is wrong; nothing for a file of the same name that is another's.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, Mapping) or "checked_by" not in raw:
            return []
        manifest = Manifest.model_validate(raw)
    except (OSError, ValueError) as error:
        return [
            Finding(path, "file", f"not readable ({str(error).splitlines()[0]})", "a manifest as `submit` writes it")
        ]
    listed = {entry.path: entry.sha256 for entry in manifest.records}
    there = {file.relative_to(path.parent).as_posix(): file for file in find_files(path.parent, RECORD_FILES)}
    findings = []
    for place in sorted({*listed, *there}):
        if place not in there:
            findings.append(Finding(path, place, "not there", "the record that was submitted"))
        elif place not in listed:
            findings.append(Finding(there[place], "file", "not in the manifest", "a record that was submitted"))
        elif not _is_as_listed(there[place], listed[place]):
            findings.append(Finding(there[place], "SHA-256", "not that of the manifest", "the record as submitted"))
    return findings


def _is_as_listed(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except RecordError:  # its pack says that it was changed
        return False
