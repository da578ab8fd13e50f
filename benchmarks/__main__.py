"""Command line of the laboratory: run | search | regimes | table | kernel. Parses, calls, prints.

Errors of the project's own become one line.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from src_plugin.errors import SRCError

if TYPE_CHECKING:  # what these import takes seconds, and complains until `main` asks it not to
    from benchmarks.config import RunConfig
    from benchmarks.records import Record
    from benchmarks.suite import Job

INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The laboratory of src-plugin.")
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="run what configs say and has no record yet; print tables, draw pictures")
    run.add_argument("configs", type=Path, nargs="+", help="files of configs/, e.g. configs/split_digits.yaml")
    run.add_argument("--strategies", nargs="+", metavar="NAME", help="instead of those of the configs")
    _add_conditions(run)

    search = commands.add_parser("search", help="choose numbers of methods on held-out images of first experiences")
    search.add_argument("config", type=Path, help="a file of configs/; its stream, network and training are used")
    search.add_argument("--strategies", nargs="+", metavar="NAME", required=True, help="methods with numbers to choose")
    search.add_argument("--write", type=Path, metavar="FILE", help="write a config that extends this one by the choice")
    _add_conditions(search, seeds=[100, 101])

    regimes = commands.add_parser("regimes", help="run a matrix of regimes; print it as a table, draw it")
    regimes.add_argument("matrix", type=Path, help="a matrix of configs/, e.g. configs/regimes_digits.yaml")
    regimes.add_argument("--only", nargs="+", metavar="NAME", help="some of its regimes; default: all")
    regimes.add_argument("--datasets", nargs="+", metavar="NAME", help="some of its data sets; default: all")
    regimes.add_argument("--methods", nargs="+", metavar="NAME", help="run some of its methods; the table shows all")
    regimes.add_argument("--table-only", action="store_true", help="run nothing; table and picture from what is there")
    regimes.add_argument("--write", type=Path, metavar="FILE", help="also make the marked tables of a document anew")
    _add_conditions(regimes)

    table = commands.add_parser("table", help="print tables from records alone")
    table.add_argument("folder", type=Path, help="a folder of records, e.g. runs")
    table.add_argument("--write", type=Path, metavar="FILE", help="also make the marked table in a Markdown file anew")
    what = "the marked table compares each strategy with and without sleep, and with what was published"
    table.add_argument("--compare", action="store_true", help=what)

    kernel = commands.add_parser("kernel", help="time the kernel's backends", add_help=False)
    kernel.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _add_conditions(command: argparse.ArgumentParser, *, seeds: Sequence[int] = (0, 1, 2)) -> None:
    """Add what `run`, `search` and `regimes` share."""
    add = command.add_argument
    usual = " ".join(map(str, seeds))
    add("--seeds", nargs="+", type=int, default=list(seeds), metavar="N", help=f"default: {usual}")
    roots = "folder with a data set's files; give it again for another folder; default: data"
    add("--data-root", type=Path, action="append", default=[], metavar="DIR", help=roots)
    add("--download", action="store_true", help="let torchvision fetch missing files into --data-root")
    add("--out", type=Path, default=Path("runs"), metavar="DIR", help="folder of records; default: runs")
    add("--workers", type=int, default=1, metavar="N", help="runs made at the same time, in processes; default: 1")
    threads = "threads of torch; default: torch's own choice, with more workers one each"
    add("--threads", type=int, metavar="N", help=threads)
    add("--device", default="cpu", help="where networks are trained: cpu (default), cuda, cuda:1, ...")
    add("--dry-run", action="store_true", help="check the configs, say what would run, and stop")


def _run(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.config import load_config
    from benchmarks.suite import plan

    configs = {config.name: config for config in map(load_config, options.configs)}
    seeds = list(dict.fromkeys(options.seeds))
    jobs: list[Job] = []
    for config in configs.values():
        strategies = list(dict.fromkeys(options.strategies or config.strategies))
        _check(config, strategies, options)
        jobs += plan(config, strategies=strategies, seeds=seeds, out=options.out)
    jobs.sort(key=lambda job: seeds.index(job.seed))  # stable: comparisons are complete as early as possible
    if options.dry_run:
        return _say_what_would_run(jobs, console)
    records = _run_jobs(jobs, options, console)

    from benchmarks.picture import draw
    from benchmarks.tables import describe, make_table

    for name in configs:
        own = [record for record in records if record.config_name == name]
        console.print(make_table(own))
        console.print(describe(own), style="dim", highlight=False)
        picture = draw(own, options.out / name / "accuracy.png")
        if picture:
            console.print(str(picture), soft_wrap=True, highlight=False, markup=False)
    return 1 if any(record.status == "failed" for record in records) else 0


def _search(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.config import load_config
    from benchmarks.search import choose, make_search_table, plan_search, settings_file

    config = load_config(options.config)
    strategies, seeds = list(dict.fromkeys(options.strategies)), list(dict.fromkeys(options.seeds))
    _check(config, strategies, options)
    trials = plan_search(config, strategies=strategies, seeds=seeds, out=options.out)
    jobs = [job for trial in trials for job in trial.jobs]
    if options.dry_run:
        return _say_what_would_run(jobs, console)
    records = _run_jobs(jobs, options, console)
    found = choose(trials, dict(zip(jobs, records, strict=True)))
    console.print(make_search_table(found, f"{config.name}: the first experiences, training images held out"))
    if options.write is not None:
        extends = os.path.relpath(options.config, options.write.parent)
        given = f"--strategies {' '.join(strategies)} --seeds {' '.join(map(str, seeds))}"
        command = f"python -m benchmarks search {options.config.as_posix()} {given}"
        options.write.write_text(settings_file(found, extends=extends, command=command), encoding="utf-8")
        console.print(f"wrote {options.write}", highlight=False, markup=False)
    return 0


def _regimes(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.curves import draw_curves
    from benchmarks.heat_map import draw_heat_map
    from benchmarks.matrix import describe_matrix, make_rows, make_tables, markdown
    from benchmarks.readme import between_marks, read_document, write_between_marks
    from benchmarks.records import read_record
    from benchmarks.regimes import load_matrix
    from benchmarks.suite import plan_matrix

    matrix = load_matrix(options.matrix).select(regimes=options.only, datasets=options.datasets)
    _check_conditions(options)
    if options.write is not None:
        between_marks(read_document(options.write), "", where=str(options.write))  # to be refused now, not after hours
    seeds, out = list(dict.fromkeys(options.seeds)), options.out / matrix.stem
    jobs = plan_matrix(matrix, methods=options.methods, seeds=seeds, out=out)
    if options.dry_run:
        return _say_what_would_run(jobs, console)
    made = [] if options.table_only else _run_jobs(jobs, options, console)
    every = plan_matrix(matrix, methods=None, seeds=seeds, out=out)
    records = [read_record(job.path) for job in every if job.path.exists()]
    if not records:
        raise SRCError(f"{out} has no records of {options.matrix} with these seeds; without --table-only they are made")

    rows = make_rows(matrix, records)
    for table in make_tables(matrix, rows):
        console.print(table)
    console.print(describe_matrix(records), style="dim", highlight=False)
    draw = {"heat_map": draw_heat_map, "curves": draw_curves}[matrix.draws]
    picture = draw(rows, out / f"{matrix.draws}.png", title=matrix.title, note=describe_matrix(records))
    console.print(str(picture), soft_wrap=True, highlight=False, markup=False)
    if options.write is not None:
        write_between_marks(options.write, markdown(rows, records))
        console.print(f"wrote the tables of {options.write}", highlight=False, markup=False)
    return 1 if any(record.status == "failed" for record in made) else 0


def _say_what_would_run(jobs: Sequence[Job], console: Console) -> int:
    from benchmarks.suite import read_done

    is_one = len({job.config.name for job in jobs}) == 1
    for job in jobs:
        state = "done" if read_done(job, console) else "to run"
        name = job.name if is_one else job.full_name
        console.print(f"{state:>6}  {name}  {job.path}", soft_wrap=True, highlight=False, markup=False)
    return 0


def _run_jobs(jobs: Sequence[Job], options: argparse.Namespace, console: Console) -> list[Record]:
    from benchmarks.suite import run_suite

    return run_suite(
        jobs,
        console=console,
        data_roots=options.data_root,
        download=options.download,
        device=options.device,
        threads=options.threads,
        workers=options.workers,
    )


def _check(config: RunConfig, strategies: Sequence[str], options: argparse.Namespace) -> None:
    """Refuse, before anything runs, what could not run; of a method that only does not fit, the suite says so."""
    from benchmarks.data import DATASETS
    from src_plugin.errors import ConfigError, did_you_mean

    for key, names in {"dataset": [config.stream.dataset], "then": config.stream.then or []}.items():
        for name in names:
            if name not in DATASETS:
                near = did_you_mean(name, DATASETS)
                raise ConfigError(f"{config.name}: stream.{key}: unknown dataset {name!r}{near}")
    _check_conditions(options)
    from strategies import find_row

    for strategy in strategies:
        find_row(strategy)


def _check_conditions(options: argparse.Namespace) -> None:
    from src_plugin.errors import ConfigError

    if options.threads is not None and options.threads < 1:
        raise ConfigError(f"--threads must be 1 or more; got {options.threads}")
    if options.workers < 1:
        raise ConfigError(f"--workers must be 1 or more; got {options.workers}")
    if any(seed < 0 or seed >= 2**32 for seed in options.seeds):
        raise ConfigError(f"--seeds must be whole numbers from 0 to 2^32 - 1; got {options.seeds}")
    _check_device(options.device)


def _check_device(device: str) -> None:
    import torch

    from src_plugin.errors import ConfigError

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device} cannot be used here: {str(error).splitlines()[0]}") from error


def _table(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.readme import write_between_marks
    from benchmarks.records import find_records
    from benchmarks.tables import describe, group_records, make_table

    records = list(find_records(options.folder))
    groups = group_records(records)
    if not groups:
        raise SRCError(f"there are no records in {options.folder}; `python -m benchmarks run <config>` makes them")
    for group in groups.values():
        console.print(make_table(group))
        console.print(describe(group), style="dim", highlight=False)
    if options.write is not None:
        write_between_marks(options.write, _markdown(records, compare=options.compare))
        console.print(f"wrote the table of {options.write}", highlight=False, markup=False)
    return 0


def _markdown(records: Sequence[Record], *, compare: bool) -> str:
    from benchmarks.comparison import comparison
    from benchmarks.published import load_published
    from benchmarks.readme import markdown_table

    return comparison(records, load_published()) if compare else markdown_table(records)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: What follows `python -m benchmarks`; None takes it from the command line.

    Returns:
        Exit status: 0 done, 1 a run failed, 2 a request that cannot be met, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["kernel"]:  # has options of its own
        from benchmarks.kernel_speed import main as time_kernel

        return int(time_kernel(given[1:]) or 0)
    options = _parser().parse_args(given)
    # Avalanche's quadratic-programming solvers, which nothing here uses, complain at import.
    warnings.filterwarnings("ignore", message="no QP solver found", category=UserWarning)
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own; 80 columns would cut the table
        console = Console(width=120)
    try:
        return {"run": _run, "search": _search, "regimes": _regimes, "table": _table}[options.command](options, console)
    except SRCError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: all but the current experience is kept; the same command goes on", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
