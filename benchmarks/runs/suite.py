"""A suite: runs of one config or many; what has a record is skipped, what fails does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import replace
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

from benchmarks.configs.matrix import Matrix
from benchmarks.configs.run import RunConfig, resolve
from benchmarks.console import say
from benchmarks.data.dataset import Dataset
from benchmarks.errors import NewerRecordError, RecordError
from benchmarks.records.environment import commit
from benchmarks.records.packed import find_files
from benchmarks.records.record import Record, config_hash, read_record, record_path
from benchmarks.runs.attempt import Conditions, Job, attempt, done_record, work
from benchmarks.runs.log import log_path
from benchmarks.runs.workers import Pool, processes, run_in_processes
from benchmarks.streams.loading import Places, forget_loaded, load_for
from src_plugin.errors import ConfigError

if TYPE_CHECKING:
    from benchmarks.runs.cluster import Cluster
    from benchmarks.tracking.settings import WandbSettings


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
    matrix.check_methods(methods or ())
    jobs = []
    for cell in matrix.cells:
        strategies = [s for method, s in cell.strategies.items() if methods is None or method in methods]
        jobs += plan(cell.config, strategies=strategies, seeds=seeds, out=out)
    if not jobs:
        raise ConfigError(f"none of these regimes of {matrix.stem} is run with {', '.join(methods or ())}")
    return by_seed(jobs, seeds)


def by_seed(jobs: Sequence[Job], seeds: Sequence[int]) -> list[Job]:
    """Sort jobs by the place of their seeds, so that comparisons are complete as early as possible."""
    place = {seed: k for k, seed in enumerate(seeds)}
    return sorted(jobs, key=lambda job: place[job.seed])  # stable: configs keep their order within a seed


def read_done(job: Job, console: Console) -> Record | None:
    """Return the record of a job that need not be run again; say so if there is a file that is none.

    A diverged run is a result. A failed or skipped one is tried again.

    Raises:
        NewerRecordError: Newer code wrote it.
    """
    try:
        return done_record(job.path)
    except NewerRecordError:
        raise
    except RecordError as error:
        say(console, f"{job.name}: run again, because {error}", style="yellow")
        return None


def expected_seconds(jobs: Sequence[Job]) -> list[float | None]:
    """Return for each job the median time of runs of its config and strategy, in s; None where there is no such run."""
    known = {key: _median_seconds(*key) for key in dict.fromkeys((job.path.parent, job.hash8) for job in jobs)}
    return [known[job.path.parent, job.hash8] for job in jobs]


def _median_seconds(folder: Path, hash8: str) -> float | None:
    seconds = []
    with suppress(RecordError):  # no such folder
        for path in find_files(folder, f"seed*-{hash8}.json"):
            with suppress(RecordError):
                record = read_record(path)
                seconds += [record.seconds.total] if record.status == "done" else []
    return median(seconds) if seconds else None


def run_suite(
    jobs: Sequence[Job],
    *,
    console: Console,
    places: Places | None = None,
    device: str = "cpu",
    threads: int | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    wandb: WandbSettings | None = None,
) -> list[Record]:
    """Run what has no record yet.

    Args:
        jobs: From `plan`, of one config or several.
        console: Where progress and messages go.
        places: Where the data are; None is `data` alone.
        device: Where networks are trained.
        threads: Threads of torch; None leaves them as they are with one worker, and is one thread each with several.
        workers: Processes that run jobs at the same time; None is one here, and as many as a cluster has room for.
        cluster: Address of the Ray cluster whose processes they are (`benchmarks.runs.cluster`); None: this machine's.
        wandb: Where they are mirrored in Weights & Biases; None for nowhere.

    Returns:
        The records of all jobs in their order, those of failed and skipped runs included.

    Raises:
        DataError: The images are missing or wrong; nothing was run then.
        ClusterError: The cluster cannot be reached, or one of its nodes cannot make the runs; nothing was run then.
        WorkerError: A process ended without an answer; what was finished before is on disk.
        KeyboardInterrupt: Ctrl-C; of what was running the current experience is lost, all before is on disk.
    """
    records = {job: record for job in jobs if (record := read_done(job, console)) is not None}
    if records:
        few = len(records) <= 20 and len({job.config.name for job in jobs}) == 1
        done = "; ".join(job.name for job in records) if few else f"{len(records)} of {len(jobs)} runs"
        say(console, f"already done: {done}")
    if wandb is not None:
        _mirror_what_is_done(records, wandb)
    todo = [job for job in jobs if job not in records]
    _say_what_is_not_kept([job for job in jobs if job.saves_model], records, console)
    if not todo:
        if any(record.features is not None for record in records.values()):
            console.print("nothing was run, so today's images were not compared with those of the records")
        return [records[job] for job in jobs]
    conditions = Conditions(places or Places(), device, threads, wandb, head=commit())
    with ExitStack() as stack:
        joined = None if cluster is None else stack.enter_context(_join(cluster, conditions, workers, console))
        for config in {id(job.config): job.config for job in todo}.values():
            data = load_for(config, conditions.places, console=console, seeds=list(dict.fromkeys(j.seed for j in todo)))
            _refuse_other_features(config, data, records)
        pool = None if workers in (None, 1) else processes(workers, threads=threads or 1)
        if joined is not None:
            joined.check(todo, conditions.places)
            pool = joined.pool
        _make(jobs, records, conditions, pool=pool, console=console)
    return [records[job] for job in jobs]


def _say_what_is_not_kept(jobs: Sequence[Job], records: Mapping[Job, Record], console: Console) -> None:
    """Say of which runs that were to leave a model file there will be none, and why."""
    told = {f"{job.config.name}: {job.strategy}": job.why_no_model for job in jobs}
    lines = [f"no model is kept of {name}: {why}" for name, why in told.items() if why]
    bare = [
        job
        for job in jobs
        if job in records and records[job].status == "done" and job.why_no_model is None and not job.model_path.exists()
    ]
    if bare:
        more = f" (and {len(bare) - 1} more)" if len(bare) > 1 else ""
        lines.append(
            f"no model was kept of {bare[0].full_name}{more}, which is already done: to have it, run it again with "
            f"another --out, or without its record {bare[0].path}"
        )
    for line in lines:
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _refuse_other_features(config: RunConfig, data: Dataset, records: Mapping[Job, Record]) -> None:
    """Refuse to go on where records of the same config are of other features: images or their reader have changed."""
    key = (data.provenance or {}).get("key")
    for job, record in records.items():
        found = (record.features or {}).get("key")
        if job.config is config and found != key:
            raise ConfigError(
                f"{job.path} was made on other images or features ({found}) than today's ({key}), and a table must not "
                "average over both; give another folder of records (--out), or remove the old ones"
            )


def _join(
    address: str, conditions: Conditions, workers: int | None, console: Console
) -> AbstractContextManager[Cluster]:
    from benchmarks.runs.cluster import join  # here, because Ray takes a second to import, and need not be installed

    return join(address, workers=workers, threads=conditions.threads or 1, device=conditions.device, console=console)


def _make(
    jobs: Sequence[Job], records: dict[Job, Record], conditions: Conditions, *, pool: Pool | None, console: Console
) -> None:
    """Run the jobs that have no record, here or in a pool, and add their records; show how far they are."""
    is_one = len({job.config.name for job in jobs}) == 1
    title = jobs[0].config.name if is_one else f"{len({job.config.name for job in jobs})} configs"
    todo = [job for job in jobs if job not in records]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[running]}"),
        TextColumn("{task.fields[note]}", style="red"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    n_failed = 0
    with Progress(*columns, console=console, speed_estimate_period=24 * 3600) as progress:  # runs can take minutes

        def running() -> str:
            return "" if pool is None else f"{min(pool.workers, len(jobs) - len(records))} running"

        suite = progress.add_task(title, total=len(jobs), completed=len(records), note="", running=running())
        with closing(_made(todo, conditions, pool=pool, progress=progress, is_one=is_one)) as made:
            for job, record in made:
                records[job] = record
                name = job.name if is_one else job.full_name
                if record.status == "failed":
                    n_failed += 1
                    message = f"{name} failed: {record.error}; its traceback is in {log_path(job.path)}"
                    say(progress.console, message, style="red")
                elif record.status in ("skipped", "diverged"):
                    message = f"{name} {record.status}: {record.error}"
                    say(progress.console, message, style="yellow")
                elif not is_one and not console.is_terminal:  # a log of hours shows no bar until its end
                    say(progress.console, f"{len(records)}/{len(jobs)} {name}: {record.status}")
                note = f"{n_failed} failed" if n_failed else ""
                progress.update(suite, advance=1, note=note, running=running())


def _made(
    todo: Sequence[Job], conditions: Conditions, *, pool: Pool | None, progress: Progress, is_one: bool
) -> Generator[tuple[Job, Record]]:
    if pool is None:
        return _run_here(todo, conditions, progress=progress, is_one=is_one)
    forget_loaded()  # checked, and fetched if need be: each worker reads its own
    return run_in_processes(
        todo,
        partial(work, conditions=replace(conditions, threads=conditions.threads or 1)),
        pool=pool,
        finished=lambda job: read_done(job, progress.console),
        console=progress.console,
    )


def _run_here(
    todo: Sequence[Job], conditions: Conditions, *, progress: Progress, is_one: bool
) -> Generator[tuple[Job, Record]]:
    """Run one job after the other, with a second line of progress for the experiences of the current one."""
    current: TaskID = progress.add_task("", total=None, note="", running="")

    def watch(done: int, n: int) -> None:
        progress.update(current, completed=done, total=n)

    for job in todo:
        name = job.name if is_one else job.full_name
        progress.reset(current, description=f"  {name}: experience", total=None)
        yield job, attempt(job, conditions, watch=watch)
    progress.remove_task(current)


def _mirror_what_is_done(records: Mapping[Job, Record], settings: WandbSettings) -> None:
    """Mirror records of earlier runs that have no mirror yet, as `wandb-sync` does; a sweep waits for them."""
    from benchmarks.tracking.logger import is_mirrored
    from benchmarks.tracking.sync import log_record

    for job, record in records.items():
        if os.environ.get("WANDB_SWEEP_ID") or not is_mirrored(record, settings):
            log_record(record, path=job.path, settings=settings)
