"""Print tables from records alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.console import say
from src_plugin.errors import SRCError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a folder of records, e.g. runs")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also make the marked table in a Markdown file anew")
    what = "each strategy with and without sleep, beside what was published; in Markdown, to the screen or to --write"
    parser.add_argument("--compare", action="store_true", help=what)


def main(options: argparse.Namespace, console: Console) -> int:
    """Print a table for every setting, and write one where that is asked for."""
    from benchmarks.markdown import write_between_marks
    from benchmarks.records.published import load_published
    from benchmarks.records.record import find_records
    from benchmarks.tables.comparison import comparison
    from benchmarks.tables.readme import markdown_table
    from benchmarks.tables.results import group_records, what_differs
    from benchmarks.tables.summary import describe, make_table

    records = list(find_records(options.folder))
    groups = group_records(records)
    if not groups:
        raise SRCError(f"there are no records in {options.folder}; `python -m benchmarks run <config>` makes them")
    if options.compare and options.write is None:
        say(console, comparison(records, load_published()))
        return 0
    notes = what_differs(groups)
    for setting, group in groups.items():
        console.print(make_table(group, width=console.width, note=notes[setting]))
        console.print(describe(group), style="dim", highlight=False)
    if options.write is not None:
        text = comparison(records, load_published()) if options.compare else markdown_table(records)
        write_between_marks(options.write, text)
        say(console, f"wrote the table of {options.write}")
    return 0
