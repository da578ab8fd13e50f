"""Make a web page, CSV and Markdown from records and published numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.console import say


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", help="folders of records, e.g. runs benchmarks/results")
    out = "folder of the page; default: site"
    parser.add_argument("--out", type=Path, default=Path("site"), metavar="DIR", help=out)


def main(options: argparse.Namespace, console: Console) -> int:
    """Make the page, and print where it is."""
    from benchmarks.report import report

    say(console, report(options.folders, out=options.out, console=console))
    return 0
