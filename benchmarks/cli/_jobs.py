"""What commands that make runs do with the runs they planned: check them, list them, make them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.cli._options import check_conditions, places, wandb_settings
from benchmarks.configs.checks import check_names
from benchmarks.console import say

if TYPE_CHECKING:  # what these import takes seconds
    from benchmarks.configs.run import RunConfig
    from benchmarks.records.record import Record
    from benchmarks.runs.attempt import Job


def check(config: RunConfig, strategies: Sequence[str], options: argparse.Namespace) -> None:
    """Refuse, before anything runs, what could not run; of a method that only does not fit, the suite says so."""
    check_names(config, strategies)
    check_conditions(options)


def say_what_would_run(jobs: Sequence[Job], options: argparse.Namespace, console: Console) -> int:
    """Print which runs are done and which are to make, and for how long by what other seeds took."""
    from benchmarks.runs.suite import expected_seconds, read_done

    _check_splits(jobs, options)
    is_one = len({job.config.name for job in jobs}) == 1
    todo = []
    for job in jobs:
        is_done = read_done(job, console) is not None
        todo += [] if is_done else [job]
        name = job.name if is_one else job.full_name
        state = "done" if is_done else "to run"
        say(console, f"{state:>6}  {name}  {job.path}")
    known = [seconds for seconds in expected_seconds(todo) if seconds is not None]
    cost = f"{len(todo)} of {len(jobs)} runs to make"
    if known:
        cost += f"; by the runs of other seeds {sum(known) / 60:.1f} min, one after the other"
    if len(known) < len(todo):
        cost += f"; of {len(todo) - len(known)} no seed was run yet, so their cost is not known"
    say(console, cost)
    return 0


def run_jobs(jobs: Sequence[Job], options: argparse.Namespace, console: Console) -> list[Record]:
    """Make the runs that have no record yet; return the records of all."""
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
