"""What in a record looks private and should stay at home: paths, addresses, keys, names."""

from __future__ import annotations

import contextlib
import getpass
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.console import say
from benchmarks.records.record import Record
from benchmarks.verification.findings import short

COMMON_NAMES = frozenset({"root", "user", "users", "admin", "home", "localhost", "ubuntu", "runner"})

PRIVATE: dict[str, str] = {
    "an absolute path": r"(?:^|[\s'\"=(\[,;:])(?:/[\w.~-]+|~[\w.-]*/|[A-Za-z]:\\|\\\\[\w.-]+|file://)[^\s'\",;)\]]*",
    "an address with @": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*",
    "a network address": r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])",
    "what looks like a key": (
        r"(?i:api[_-]?key|token|secret|passw(?:or)?d|bearer|authorization)(?:\s*[=:]\s*|\s+)[\w./+-]{8,}"
        r"|\b(?:sk|hf|gh[pousr]|github_pat|glpat|xox[abp]|AKIA)[-_]?[A-Za-z0-9_-]{16,}"
    ),
}
"""What -> pattern. Searched for in all texts of a record but versions, whose numbers look like addresses."""

HEXADECIMAL = r"\b[0-9a-f]{32,}\b"  # may be a key in a message of an error; elsewhere it is a commit or a hash


def private_things(tree: Any, *, names: Mapping[str, str] | None = None) -> list[tuple[str, str, str]]:
    """Return what in the texts of a record looks private: the field, what it is, and the text itself.

    Args:
        tree: A record as JSON has it, or a part of one; keys are looked at like values.
        names: What -> name, searched for as a whole word; None is user and host of this machine.

    Returns:
        Paths, addresses, keys and names. It is a search by patterns: what it does not find can be private all the same,
        e.g. the names of classes in a folder of one's own.
    """
    wanted = {
        what: f"(?i)(?<!\\w){re.escape(name)}(?!\\w)"
        for what, name in (own_names() if names is None else names).items()
    }
    found = []
    for field, text in _texts(tree, ""):
        patterns = PRIVATE | wanted | ({"a long number, perhaps a key": HEXADECIMAL} if field == "error" else {})
        for what, pattern in patterns.items():
            match = re.search(pattern, text)
            if match and not field.startswith(("versions.", "commit")):
                found.append((field, what, match.group().strip(" '\"=([,;")))
    return found


def warn_of_private(records: Mapping[Path, Record], note: str, console: Console) -> None:
    """Say what looks private, each thing once with how many records have it."""
    found: dict[tuple[str, str, str], list[Path | str]] = {}
    names = own_names()
    for path, record in records.items():
        for thing in private_things(record.model_dump(by_alias=True), names=names):
            found.setdefault(thing, []).append(path)
    for thing in private_things({"note": note}, names=names):
        found.setdefault(thing, []).append("--note")
    for (field, what, text), where in found.items():
        more = f" (and in {len(where) - 1:,} more records)" if len(where) > 1 else ""
        shown = f"{text[:6]}..." if "key" in what else short(text)  # keys are not for logs either
        message = f"warning: {where[0]}: {field} holds {what}, which would be public: {shown}{more}"
        say(console, message, style="yellow")


def own_names() -> dict[str, str]:
    """Return the names of user and host, but for those that everybody has."""
    names = {"the name of a user": Path.home().name, "the name of this user": "", "the name of this host": ""}
    with contextlib.suppress(OSError, KeyError, ImportError):  # a container may know no name
        names["the name of this user"] = getpass.getuser()
    with contextlib.suppress(OSError):
        names["the name of this host"] = socket.gethostname().partition(".")[0]
    return {what: name for what, name in names.items() if len(name) > 2 and name.lower() not in COMMON_NAMES}


def _texts(tree: Any, field: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, str):
        yield field, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            inner = f"{field}.{key}" if field else str(key)
            yield f"{inner} (the key)", str(key)
            yield from _texts(value, inner)
    elif isinstance(tree, Sequence):
        for i, value in enumerate(tree):
            yield from _texts(value, f"{field}[{i}]")
