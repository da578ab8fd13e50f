"""Put the files of records into packs, one for each config."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("folders", type=Path, nargs="+", help="folders of records, e.g. benchmarks/results")
    what = "add to the packs of this folder, and leave the files; default: packs take the place of the files"
    parser.add_argument("--out", type=Path, metavar="DIR", help=what)
    parser.add_argument("--compress", action="store_true", help="make new packs compressed, which zcat and zgrep read")


def main(options: argparse.Namespace, console: Console) -> int:
    """Put the records of folders into packs."""
    from benchmarks.records.collecting import collect

    packs = collect(options.folders, out=options.out, compress=options.compress, console=console)
    console.print(f"packs: {len(packs)}", highlight=False)
    return 0
