"""A suite: runs of one config or many; what has a record is skipped, what fails does not stop the others."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.config import RunConfig, resolve
from benchmarks.environment import commit
from benchmarks.loading import Places, forget_loaded, load_for
from benchmarks.records import Record, RecordError, config_hash, read_record, record_path, write_record
from benchmarks.regimes import Matrix
from benchmarks.workers import run_in_processes
from src_plugin.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from benchmarks.runner import Observer
    from benchmarks.wandb_logger import RunLog
    from benchmarks.wandb_settings import WandbSettings


@dataclass(frozen=True)
class Job:
    """One run to be made, and where its record belongs."""

    strategy: str
    seed: int
    path: Path
    config: RunConfig = field(repr=False, compare=False)  # its hash stands in the path

    @property
    def name(self) -> str:
        """Strategy and seed, for people."""
        return f"{self.strategy}, seed {self.seed}"

    @property
    def full_name(self) -> str:
        """Config, strategy and seed, where several configs are run."""
        return f"{self.config.name}: {self.name}"


@dataclass(frozen=True)
class Conditions:
    """What the runs of a suite share, whichever process makes them.

    Attributes:
        places: Where their data are.
        device: Where networks are trained.
        threads: Threads of torch; None leaves them as they are.
        wandb: Where runs are mirrored in Weights & Biases; None for nowhere.
        head: Commit and whether its tree was clean, read before the first record was written into that tree.
    """

    places: Places
    device: str
    threads: int | None
    wandb: WandbSettings | None
    head: tuple[str, bool | None]


def plan(config: RunConfig, *, strategies: Sequence[str], seeds: Sequence[int], out: Path) -> list[Job]:
    """List the runs of one config, seed by seed, so that comparisons are complete as early as possible."""
    hashes = {strategy: config_hash(resolve(config, strategy)) for strategy in strategies}
    return [
        Job(s, seed, record_path(out, config_name=config.name, strategy=s, seed=seed, hash8=hashes[s]), config)
        for seed in seeds
        for s in strategies
    ]


def plan_matrix(matrix: Matrix, *, methods: Sequence[str] | None, seeds: Sequence[int], out: Path) -> list[Job]:
    """List the runs of a matrix, seed by seed, so that every cell has one seed before any has two.

    Args:
        matrix: Its cells are run.
        methods: Some of its methods, as its file writes them; None for all.
        seeds: The same for every cell.
        out: Folder of the matrix's records.

    Raises:
        ConfigError: A method is not in the matrix, or no run is left.
    """
    for method in methods or ():
        if method not in matrix.methods:
            raise ConfigError(f"{matrix.stem} has no method {method!r}{did_you_mean(method, matrix.methods)}")
    jobs = []
    for cell in matrix.cells:
        strategies = [s for method, s in cell.strategies.items() if methods is None or method in methods]
        jobs += plan(cell.config, strategies=strategies, seeds=seeds, out=out)
    if not jobs:
        raise ConfigError(f"none of these regimes of {matrix.stem} is run with {', '.join(methods or ())}")
    return sorted(jobs, key=lambda job: seeds.index(job.seed))  # stable: cells keep their order within a seed


def read_done(job: Job, console: Console) -> Record | None:
    """Return the record of a job that need not be run again; say so if there is a file that is none.

    A diverged run is a result. A failed or skipped one is tried again.
    """
    if not job.path.exists():
        return None
    try:
        record = read_record(job.path)
    except RecordError as error:
        console.print(f"{job.name}: run again, because {error}", style="yellow", markup=False, soft_wrap=True)
        return None
    return None if record.status in ("failed", "skipped") else record


def expected_seconds(job: Job) -> float | None:
    """Return the median time of runs of the same config and strategy under other seeds, in s; None if there is none."""
    _, _, hash8 = job.path.stem.rpartition("-")
    known = []
    for path in job.path.parent.glob(f"seed*-{hash8}.json"):
        with suppress(RecordError):
            record = read_record(path)
            known += [record.seconds.total] if record.status == "done" else []
    return median(known) if known else None


def run_suite(
    jobs: Sequence[Job],
    *,
    console: Console,
    places: Places | None = None,
    device: str = "cpu",
    threads: int | None = None,
    workers: int = 1,
    wandb: WandbSettings | None = None,
) -> list[Record]:
    """Run what has no record yet.

    Args:
        jobs: From `plan`, of one config or several.
        console: Where progress and messages go.
        places: Where the data are; None is `data` alone.
        device: Where networks are trained.
        threads: Threads of torch; None leaves them as they are with one worker, and is one thread each with several.
        workers: Processes that run jobs at the same time.
        wandb: Where they are mirrored in Weights & Biases; None for nowhere.

    Returns:
        The records of all jobs in their order, those of failed and skipped runs included.

    Raises:
        DataError: The images are missing or wrong; nothing was run then.
        WorkerError: A process ended without an answer; what was finished before is on disk.
        KeyboardInterrupt: Ctrl-C; of what was running the current experience is lost, all before is on disk.
    """
    records = {job: record for job in jobs if (record := read_done(job, console)) is not None}
    title, is_one = _title(jobs)
    if records:
        done = "; ".join(job.name for job in records) if is_one else f"{len(records)} of {len(jobs)} runs"
        console.print(f"already done: {done}", soft_wrap=True, highlight=False)
    if wandb is not None:
        _mirror_what_is_done(records, wandb)
    todo = [job for job in jobs if job not in records]
    if not todo:
        return [records[job] for job in jobs]
    places = places or Places()
    conditions = Conditions(places, device, threads, wandb, head=commit())
    for job in todo:
        load_for(job.config, places, console=console)
    if workers > 1:
        forget_loaded()  # checked, and fetched if need be: each worker reads its own
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", style="red"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    n_failed = 0
    with Progress(*columns, console=console, speed_estimate_period=24 * 3600) as progress:  # runs can take minutes
        suite = progress.add_task(title, total=len(jobs), completed=len(records), note="")
        made = (
            _run_here(todo, conditions, progress=progress, is_one=is_one)
            if workers == 1
            else run_in_processes(
                todo,
                partial(_work, conditions=replace(conditions, threads=threads or 1)),
                workers=workers,
                threads=threads or 1,
                finished=lambda job: read_done(job, console),
                console=progress.console,
            )
        )
        with closing(made):
            for job, record in made:
                records[job] = record
                name = job.name if is_one else job.full_name
                if record.status == "failed":
                    n_failed += 1
                    message = f"{name} failed: {record.error}; its traceback is in {_log(job)}"
                    progress.console.print(message, style="red", markup=False, soft_wrap=True)
                elif record.status == "skipped":
                    message = f"{name} skipped: {record.error}"
                    progress.console.print(message, style="yellow", markup=False, soft_wrap=True)
                elif not is_one and not console.is_terminal:  # a log of hours shows no bar until its end
                    progress.console.print(f"{len(records)}/{len(jobs)} {name}: {record.status}", highlight=False)
                progress.update(suite, advance=1, note=f"{n_failed} failed" if n_failed else "")
    return [records[job] for job in jobs]


def _title(jobs: Sequence[Job]) -> tuple[str, bool]:
    names = list(dict.fromkeys(job.config.name for job in jobs))
    return (names[0], True) if len(names) == 1 else (f"{len(names)} configs", False)


def _log(job: Job) -> Path:
    return job.path.with_suffix(".log")


def _run_here(
    todo: Sequence[Job], conditions: Conditions, *, progress: Progress, is_one: bool
) -> Generator[tuple[Job, Record]]:
    """Run one job after the other, with a second line of progress for the experiences of the current one."""
    current: TaskID = progress.add_task("", total=None, note="")

    def watch(done: int, n: int) -> None:
        progress.update(current, completed=done, total=n)

    for job in todo:
        name = job.name if is_one else job.full_name
        progress.reset(current, description=f"  {name}: experience", total=None)
        yield job, _attempt(job, conditions, watch=watch)
    progress.remove_task(current)


def _work(job: Job, *, conditions: Conditions) -> tuple[Job, Record]:
    """Run one job in a worker."""
    return job, _attempt(job, conditions)


def _attempt(job: Job, conditions: Conditions, *, watch: Callable[[int, int], None] | None = None) -> Record:
    """Run one job, write its record and mirror it; an exception becomes a failed record, its traceback a log beside."""
    checkpoint = job.path.with_suffix(".checkpoint")
    _log(job).unlink(missing_ok=True)  # of an attempt that failed before
    with nullcontext() if conditions.wandb is None else _open_mirror(job, conditions.wandb) as mirror:
        observe = None if mirror is None else mirror.experience
        record = _run_or_fail(job, conditions, watch=watch, observe=observe, checkpoint=checkpoint)
        head, is_clean = conditions.head
        record = record.model_copy(update={"commit": head, "tree_clean": is_clean})
        write_record(record, job.path)
        if mirror is not None:
            mirror.close(record, path=job.path)
    checkpoint.unlink(missing_ok=True)
    return record


def _run_or_fail(
    job: Job,
    conditions: Conditions,
    *,
    watch: Callable[[int, int], None] | None,
    observe: Observer | None,
    checkpoint: Path,
) -> Record:
    from benchmarks.runner import failed_record, run  # here, because Avalanche takes seconds to import

    started = time.perf_counter()
    try:
        return run(
            job.config,
            strategy=job.strategy,
            seed=job.seed,
            data=load_for(job.config, conditions.places),
            device=conditions.device,
            threads=conditions.threads,
            watch=watch,
            observe=observe,
            checkpoint=checkpoint,
        )
    except Exception as problem:
        record = failed_record(
            job.config,
            strategy=job.strategy,
            seed=job.seed,
            error=problem,
            seconds=time.perf_counter() - started,
            device=conditions.device,
        )
        if record.status == "failed":
            _log(job).parent.mkdir(parents=True, exist_ok=True)
            _log(job).write_text(traceback.format_exc(), encoding="utf-8")
        return record


def _open_mirror(job: Job, settings: WandbSettings) -> RunLog:
    from benchmarks.wandb_logger import RunLog

    config = resolve(job.config, job.strategy)
    return RunLog.open(config, config_name=job.config.name, strategy=job.strategy, seed=job.seed, settings=settings)


def _mirror_what_is_done(records: Mapping[Job, Record], settings: WandbSettings) -> None:
    """Mirror records of earlier runs that have no mirror yet, as `wandb-sync` does; a sweep waits for them."""
    from benchmarks.wandb_logger import is_mirrored
    from benchmarks.wandb_sync import log_record

    for job, record in records.items():
        if os.environ.get("WANDB_SWEEP_ID") or not is_mirrored(record, settings):
            log_record(record, path=job.path, settings=settings)
