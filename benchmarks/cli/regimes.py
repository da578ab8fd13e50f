"""Run a matrix of regimes; print it as a table, draw it."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.cli._jobs import run_jobs, say_what_would_run
from benchmarks.cli._options import add_conditions, check_conditions
from benchmarks.configs.matrix import load_matrix
from benchmarks.console import say
from benchmarks.markdown import check_marks, write_between_marks
from src_plugin.errors import SRCError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("matrix", type=Path, help="a matrix of configs/, e.g. configs/regimes_digits.yaml")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of its regimes; default: all")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="some of its data sets; default: all")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="run some of its methods; the table shows all")
    parser.add_argument("--table-only", action="store_true", help="run nothing; table and picture from what is there")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also make the marked tables of a document anew")
    add_conditions(parser)


def main(options: argparse.Namespace, console: Console) -> int:
    """Run what has no record yet, and show the matrix; 1 if a run failed."""
    matrix = load_matrix(options.matrix).select(regimes=options.only, datasets=options.datasets)
    matrix.check_methods(options.methods or ())
    if options.write is not None:
        check_marks(options.write)  # to be refused now, not after hours
    check_conditions(options)

    from benchmarks.records.packed import exists
    from benchmarks.records.record import read_record
    from benchmarks.runs.suite import plan_matrix
    from benchmarks.tables.curves import draw_curves
    from benchmarks.tables.heat_map import draw_heat_map
    from benchmarks.tables.matrix import describe_matrix, make_rows, make_tables, markdown_tables

    seeds, out = list(dict.fromkeys(options.seeds)), options.out / matrix.stem
    jobs = plan_matrix(matrix, methods=options.methods, seeds=seeds, out=out)
    if options.dry_run:
        return say_what_would_run(jobs, options, console)
    made = [] if options.table_only else run_jobs(jobs, options, console)
    every = plan_matrix(matrix, methods=None, seeds=seeds, out=out)
    records = [read_record(job.path) for job in every if exists(job.path)]
    if not records:
        raise SRCError(f"{out} has no records of {options.matrix} with these seeds; without --table-only they are made")

    rows = make_rows(matrix, records)
    for table in make_tables(matrix, rows, width=console.width):
        console.print(table)
    console.print(describe_matrix(records), style="dim", highlight=False)
    draw = {"heat_map": draw_heat_map, "curves": draw_curves}[matrix.draws]
    say(console, draw(rows, out / f"{matrix.draws}.png", title=matrix.title, note=describe_matrix(records)))
    if options.write is not None:
        write_between_marks(options.write, markdown_tables(rows, records))
        say(console, f"wrote the tables of {options.write}")
    return 1 if any(record.status == "failed" for record in made) else 0
