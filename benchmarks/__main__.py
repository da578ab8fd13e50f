"""Command line of the laboratory: run | table | kernel. Parses, calls, prints; errors of our own become one line."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.config import RunConfig, load_config
from src_plugin.errors import SRCError

INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="run what a config says and has no record yet; print a table, draw a picture")
    run.add_argument("config", type=Path, help="a file of configs/, e.g. configs/split_digits.yaml")
    run.add_argument("--strategies", nargs="+", metavar="NAME", help="instead of those of the config")
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    run.add_argument("--data-root", type=Path, metavar="DIR", help="folder with the data set's files; default: data")
    run.add_argument("--download", action="store_true", help="let torchvision fetch missing files into --data-root")
    run.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="folder of records; default: runs")
    run.add_argument("--threads", type=int, metavar="N", help="threads of torch; default: torch's own choice")
    run.add_argument("--device", default="cpu", help="where networks are trained: cpu (default), cuda, cuda:1, ...")
    run.add_argument("--dry-run", action="store_true", help="check everything, say what would run, and stop")

    table = commands.add_parser("table", help="print tables from records alone")
    table.add_argument("folder", type=Path, help="a folder of records, e.g. runs")
    table.add_argument("--write", type=Path, metavar="FILE", help="also make the marked table in a Markdown file anew")

    kernel = commands.add_parser("kernel", help="time the kernel's backends", add_help=False)
    kernel.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _run(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.suite import plan, read_done, run_suite

    config = load_config(options.config)
    strategies = list(dict.fromkeys(options.strategies or config.strategies))
    seeds = list(dict.fromkeys(options.seeds))
    _check(config, strategies, options)
    jobs = plan(config, strategies=strategies, seeds=seeds, out=options.out)
    if options.dry_run:
        for job in jobs:
            state = "done" if read_done(job, console) else "to run"
            console.print(f"{state:>6}  {job.name}  {job.path}", soft_wrap=True, highlight=False, markup=False)
        return 0
    records = run_suite(
        config,
        jobs,
        console=console,
        data_root=options.data_root,
        download=options.download,
        device=options.device,
        threads=options.threads,
    )

    from benchmarks.picture import draw
    from benchmarks.tables import describe, make_table

    console.print(make_table(records))
    console.print(describe(records), style="dim", highlight=False)
    picture = draw(records, options.out / config.name / "accuracy.png")
    if picture:
        console.print(str(picture), soft_wrap=True, highlight=False, markup=False)
    return 1 if any(record.status == "failed" for record in records) else 0


def _check(config: RunConfig, strategies: Sequence[str], options: argparse.Namespace) -> None:
    """Refuse, before anything runs, what could not run."""
    from benchmarks.data import DATASETS
    from src_plugin.errors import ConfigError, did_you_mean

    if config.stream.dataset not in DATASETS:
        near = did_you_mean(config.stream.dataset, DATASETS)
        raise ConfigError(f"{options.config}: stream.dataset: unknown dataset {config.stream.dataset!r}{near}")
    if options.threads is not None and options.threads < 1:
        raise ConfigError(f"--threads must be 1 or more; got {options.threads}")
    if any(seed < 0 or seed >= 2**32 for seed in options.seeds):
        raise ConfigError(f"--seeds must be whole numbers from 0 to 2^32 - 1; got {options.seeds}")
    _check_device(options.device)
    from strategies import find_row

    for strategy in strategies:
        find_row(strategy)


def _check_device(device: str) -> None:
    import torch

    from src_plugin.errors import ConfigError

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device} cannot be used here: {str(error).splitlines()[0]}") from error


def _table(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.readme import write_table
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
        write_table(options.write, records)
        console.print(f"wrote the table of {options.write}", highlight=False, markup=False)
    return 0


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
        return {"run": _run, "table": _table}[options.command](options, console)
    except SRCError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the current run is lost, finished ones are kept; the same command goes on", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
