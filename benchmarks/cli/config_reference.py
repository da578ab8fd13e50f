"""Print the page of all keys of a config."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.configs.reference import reference, write_reference


def add(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of the command."""
    parser.add_argument("--write", type=Path, metavar="FILE", help="write it there instead")


def main(options: argparse.Namespace, console: Console) -> int:
    """Print or write the page."""
    if options.write is None:
        print(reference())
        return 0
    write_reference(options.write)
    console.print(f"wrote {options.write}", highlight=False, markup=False)
    return 0
