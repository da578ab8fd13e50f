"""What the commands do: read configs, run, print. `__main__.py` parses what is asked for and calls them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.cli.explain import explain
from benchmarks.cli.features import features, pretrain
from benchmarks.cli.options import check_conditions, check_device, places, wandb_settings
from src_plugin.errors import SRCError

if TYPE_CHECKING:  # what these import takes seconds, and complains until `main` asks it not to
    from benchmarks.configs.run import RunConfig
    from benchmarks.records.record import Record
    from benchmarks.runs.suite import Job


def _run(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.configs.files import load_config
    from benchmarks.runs.suite import by_seed, plan
    from src_plugin.errors import ConfigError

    configs: dict[str, RunConfig] = {}
    for path in dict.fromkeys(options.configs):
        config = load_config(path, changes=options.changes)
        if config.name in configs:
            raise ConfigError(
                f"{path} is the second config called {config.name}, and its records would lie among those of the "
                "first; run one after the other, each with its own --out, or give one file another name"
            )
        configs[config.name] = config
    seeds = list(dict.fromkeys(options.seeds))
    jobs: list[Job] = []
    for config in configs.values():
        strategies = list(dict.fromkeys(options.strategies or config.strategies))
        _check(config, strategies, options)
        jobs += plan(config, strategies=strategies, seeds=seeds, out=options.out)
    jobs = by_seed(jobs, seeds)
    if options.dry_run:
        return _say_what_would_run(jobs, options, console)
    records = _run_jobs(jobs, options, console)

    from benchmarks.tables.picture import draw
    from benchmarks.tables.summary import describe, make_table

    for name in configs:
        own = [record for record in records if record.config_name == name]
        console.print(make_table(own, width=console.width))
        console.print(describe(own), style="dim", highlight=False)
        picture = draw(own, options.out / name / "accuracy.png")
        if picture:
            console.print(str(picture), soft_wrap=True, highlight=False, markup=False)
    return 1 if any(record.status == "failed" for record in records) else 0


def _search(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.configs.files import load_config
    from benchmarks.runs.search import choose, make_search_table, plan_search, seen_by_search, settings_file

    config = load_config(options.config)
    strategies, seeds = list(dict.fromkeys(options.strategies)), list(dict.fromkeys(options.seeds))
    _check(config, strategies, options)
    trials = plan_search(config, strategies=strategies, seeds=seeds, out=options.out)
    jobs = [job for trial in trials for job in trial.jobs]
    if options.dry_run:
        return _say_what_would_run(jobs, options, console)
    records = _run_jobs(jobs, options, console)
    found = choose(trials, dict(zip(jobs, records, strict=True)))
    seen = seen_by_search(config)
    console.print(make_search_table(found, f"{config.name}: {seen}"))
    if options.write is not None:
        extends = os.path.relpath(options.config, options.write.parent)
        given = f"--strategies {' '.join(strategies)} --seeds {' '.join(map(str, seeds))}"
        command = f"python -m benchmarks search {options.config.as_posix()} {given}"
        options.write.write_text(settings_file(found, extends=extends, seen=seen, command=command), encoding="utf-8")
        console.print(f"wrote {options.write}", highlight=False, markup=False)
    return 0


def _regimes(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.configs.matrix import load_matrix
    from benchmarks.records.record import read_record
    from benchmarks.runs.suite import plan_matrix
    from benchmarks.tables.curves import draw_curves
    from benchmarks.tables.heat_map import draw_heat_map
    from benchmarks.tables.matrix import describe_matrix, make_rows, make_tables, markdown
    from benchmarks.tables.readme import between_marks, read_document, write_between_marks

    matrix = load_matrix(options.matrix).select(regimes=options.only, datasets=options.datasets)
    check_conditions(options)
    if options.write is not None:
        between_marks(read_document(options.write), "", where=str(options.write))  # to be refused now, not after hours
    seeds, out = list(dict.fromkeys(options.seeds)), options.out / matrix.stem
    jobs = plan_matrix(matrix, methods=options.methods, seeds=seeds, out=out)
    if options.dry_run:
        return _say_what_would_run(jobs, options, console)
    made = [] if options.table_only else _run_jobs(jobs, options, console)
    every = plan_matrix(matrix, methods=None, seeds=seeds, out=out)
    records = [read_record(job.path) for job in every if job.path.exists()]
    if not records:
        raise SRCError(f"{out} has no records of {options.matrix} with these seeds; without --table-only they are made")

    rows = make_rows(matrix, records)
    for table in make_tables(matrix, rows, width=console.width):
        console.print(table)
    console.print(describe_matrix(records), style="dim", highlight=False)
    draw = {"heat_map": draw_heat_map, "curves": draw_curves}[matrix.draws]
    picture = draw(rows, out / f"{matrix.draws}.png", title=matrix.title, note=describe_matrix(records))
    console.print(str(picture), soft_wrap=True, highlight=False, markup=False)
    if options.write is not None:
        write_between_marks(options.write, markdown(rows, records))
        console.print(f"wrote the tables of {options.write}", highlight=False, markup=False)
    return 1 if any(record.status == "failed" for record in made) else 0


def _say_what_would_run(jobs: Sequence[Job], options: argparse.Namespace, console: Console) -> int:
    from benchmarks.runs.suite import expected_seconds, read_done

    _check_splits(jobs, options)
    is_one = len({job.config.name for job in jobs}) == 1
    todo = []
    for job in jobs:
        is_done = read_done(job, console) is not None
        todo += [] if is_done else [job]
        name = job.name if is_one else job.full_name
        state = "done" if is_done else "to run"
        console.print(f"{state:>6}  {name}  {job.path}", soft_wrap=True, highlight=False, markup=False)
    known = [seconds for seconds in expected_seconds(todo) if seconds is not None]
    cost = f"{len(todo)} of {len(jobs)} runs to make"
    if known:
        cost += f"; by the runs of other seeds {sum(known) / 60:.1f} min, one after the other"
    if len(known) < len(todo):
        cost += f"; of {len(todo) - len(known)} no seed was run yet, so their cost is not known"
    console.print(cost, soft_wrap=True, highlight=False)
    return 0


def _run_jobs(jobs: Sequence[Job], options: argparse.Namespace, console: Console) -> list[Record]:
    from benchmarks.runs.suite import run_suite

    _check_splits(jobs, options)
    wandb = wandb_settings(options, beside=options.out, n_runs=len(jobs))
    if wandb is not None:
        from benchmarks.tracking.settings import announce

        announce(wandb, records=options.out, console=console)
    return run_suite(
        jobs,
        console=console,
        places=places(options),
        device=options.device,
        threads=options.threads,
        workers=options.workers,
        cluster=options.cluster,
        wandb=wandb,
    )


def _check_splits(jobs: Sequence[Job], options: argparse.Namespace) -> None:
    """Refuse, before anything is computed, streams that cannot be cut as their configs say."""
    from benchmarks.streams.loading import check_dataset

    for config in {id(job.config): job.config for job in jobs}.values():
        check_dataset(config, places=places(options), seeds=options.seeds)


def _check(config: RunConfig, strategies: Sequence[str], options: argparse.Namespace) -> None:
    """Refuse, before anything runs, what could not run; of a method that only does not fit, the suite says so."""
    from benchmarks.streams.loading import check_dataset
    from strategies import find_row

    check_dataset(config)
    check_conditions(options)
    for strategy in strategies:
        find_row(strategy)


def _table(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.records.record import find_records
    from benchmarks.tables.readme import write_between_marks
    from benchmarks.tables.summary import describe, group_records, make_table, what_differs

    records = list(find_records(options.folder))
    groups = group_records(records)
    if not groups:
        raise SRCError(f"there are no records in {options.folder}; `python -m benchmarks run <config>` makes them")
    if options.compare and options.write is None:
        console.print(_markdown(records, compare=True), highlight=False, markup=False, soft_wrap=True)
        return 0
    notes = what_differs(groups)
    for setting, group in groups.items():
        console.print(make_table(group, width=console.width, note=notes[setting]))
        console.print(describe(group), style="dim", highlight=False)
    if options.write is not None:
        write_between_marks(options.write, _markdown(records, compare=options.compare))
        console.print(f"wrote the table of {options.write}", highlight=False, markup=False)
    return 0


def _markdown(records: Sequence[Record], *, compare: bool) -> str:
    from benchmarks.records.published import load_published
    from benchmarks.tables.comparison import comparison
    from benchmarks.tables.readme import markdown_table

    return comparison(records, load_published()) if compare else markdown_table(records)


def _report(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.report import report

    page = report(options.folders, out=options.out, console=console)
    console.print(str(page), soft_wrap=True, highlight=False, markup=False)
    return 0


def _wandb_sync(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.tracking.settings import WandbSettings
    from benchmarks.tracking.sync import sync

    mode = None if options.wandb in (None, "auto") else options.wandb
    return sync(options.folder, settings=WandbSettings(mode=mode, project=options.wandb_project), console=console)


def _verify(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.verification.verifying import verify

    check_device(options.device)
    return verify(
        options.paths,
        console=console,
        rerun=options.rerun,
        seeds=options.seeds,
        places=places(options),
        device=options.device,
        threads=options.threads,
    )


def _submit(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.verification.submitting import submit

    folder = submit(
        options.folders,
        out=options.out,
        console=console,
        note=options.note,
        allow_dirty=options.allow_dirty,
        allow_failed=options.allow_failed,
    )
    console.print(str(folder), soft_wrap=True, highlight=False, markup=False)
    return 0


def _config_reference(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.configs.reference import reference, write_reference

    if options.write is None:
        print(reference())
        return 0
    write_reference(options.write)
    console.print(f"wrote {options.write}", highlight=False, markup=False)
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace, Console], int]] = {
    "run": _run,
    "search": _search,
    "regimes": _regimes,
    "explain": explain,
    "table": _table,
    "report": _report,
    "verify": _verify,
    "submit": _submit,
    "features": features,
    "pretrain": pretrain,
    "wandb-sync": _wandb_sync,
    "config-reference": _config_reference,
}
