"""Bring records into the form that a pull request needs."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.console import say


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", help="folders of records, e.g. runs")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--note", default="", help="a sentence on what this is")
    parser.add_argument("--allow-dirty", action="store_true", help="also records of code that no commit has")
    parser.add_argument("--allow-failed", action="store_true", help="also records of runs that failed")


def main(options: argparse.Namespace, console: Console) -> int:
    """Check and copy the records, and print where they are."""
    from benchmarks.verification.submitting import submit

    folder = submit(
        options.folders,
        out=options.out,
        console=console,
        note=options.note,
        allow_dirty=options.allow_dirty,
        allow_failed=options.allow_failed,
    )
    say(console, folder)
    return 0
