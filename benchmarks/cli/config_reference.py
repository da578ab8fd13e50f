"""Print the page of all keys of a config."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.configs.reference import reference, write_reference
from benchmarks.console import say


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--write", type=Path, metavar="FILE", help="write it there instead")


def main(options: argparse.Namespace, console: Console) -> int:
    """Print or write the page."""
    if options.write is None:
        print(reference())
        return 0
    write_reference(options.write)
    say(console, f"wrote {options.write}")
    return 0
