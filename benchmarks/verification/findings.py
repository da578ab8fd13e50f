"""What is found in a record, and where records are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import RecordError
from benchmarks.records.packed import exists, find_files, is_folder
from benchmarks.records.record import RECORD_FILES

Problem = tuple[str, Any, str]
"""A field, what was found in it, and what was expected."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        path: The file.
        field: Where in it.
        found: What is there.
        expected: What should be, and the cure if it is known.
        is_warning: Whether a reader should know of it although the record can stand.
    """

    path: Path
    field: str
    found: str
    expected: str
    is_warning: bool = False

    def __str__(self) -> str:
        """Return all of it on one line."""
        return f"{self.path}: {self.field} is {self.found}; expected {self.expected}"


def records_under(paths: Sequence[Path]) -> list[Path]:
    """Return the files of records, each once, in the order of the paths.

    Args:
        paths: Files of records, packs, and folders with some at any depth.

    Raises:
        RecordError: There is no such file or folder, or no record in any.
    """
    files: dict[Path, None] = {}
    for path in paths:
        if is_folder(path):
            files |= dict.fromkeys(find_files(path, RECORD_FILES))
        elif exists(path):
            files[path] = None
        else:
            raise RecordError(f"there is no {path}; give records, or folders of records such as runs")
    if not files:
        where = ", ".join(map(str, paths))
        raise RecordError(f"there are no records in {where}; `python -m benchmarks run <config>` makes them")
    return list(files)


def short(value: Any) -> str:
    """Return a value as people read it, cut where it is long; texts as they are."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 160 else f"{text[:120]} ... ({len(text)} signs)"
