"""A suite: every (strategy, seed) of a config; what has a record is skipped, what fails does not stop the others."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.config import RunConfig, resolve
from benchmarks.data import load_dataset
from benchmarks.records import Record, RecordError, config_hash, read_record, record_path, write_record


@dataclass(frozen=True)
class Job:
    """One run to be made, and where its record belongs."""

    strategy: str
    seed: int
    path: Path

    @property
    def name(self) -> str:
        """Strategy and seed, for people."""
        return f"{self.strategy}, seed {self.seed}"


def plan(config: RunConfig, *, strategies: Sequence[str], seeds: Sequence[int], out: Path) -> list[Job]:
    """List the runs of a suite, seed by seed, so that comparisons are complete as early as possible."""
    hashes = {strategy: config_hash(resolve(config, strategy)) for strategy in strategies}
    return [
        Job(s, seed, record_path(out, config_name=config.name, strategy=s, seed=seed, hash8=hashes[s]))
        for seed in seeds
        for s in strategies
    ]


def read_done(job: Job, console: Console) -> Record | None:
    """Return the record of a job that need not be run again; say so if there is a file that is none.

    A diverged run is a result. A failed one is tried again.
    """
    if not job.path.exists():
        return None
    try:
        record = read_record(job.path)
    except RecordError as error:
        console.print(f"{job.name}: run again, because {error}", style="yellow", markup=False, soft_wrap=True)
        return None
    return None if record.status == "failed" else record


def run_suite(
    config: RunConfig,
    jobs: Sequence[Job],
    *,
    console: Console,
    data_root: Path | None = None,
    download: bool = False,
    device: str = "cpu",
    threads: int | None = None,
) -> list[Record]:
    """Run what has no record yet.

    Args:
        config: What is run.
        jobs: From `plan`.
        console: Where progress and messages go.
        data_root: Folder with the files of the data set.
        download: Let them be fetched.
        device: Where networks are trained.
        threads: Threads of torch; None leaves them as they are.

    Returns:
        The records of all jobs in their order, those of failed runs included.

    Raises:
        DataError: The images are missing or wrong.
        KeyboardInterrupt: Ctrl-C; the current run is lost, those before it are on disk.
    """
    records = {job: record for job in jobs if (record := read_done(job, console)) is not None}
    if records:
        console.print(f"already done: {'; '.join(job.name for job in records)}", soft_wrap=True, highlight=False)
    todo = [job for job in jobs if job not in records]
    if not todo:
        return [records[job] for job in jobs]
    data = load_dataset(config.stream.dataset, data_root=data_root, download=download)
    from benchmarks.runner import failed_record, run  # here, because Avalanche takes seconds to import

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        suite = progress.add_task(config.name, total=len(jobs), completed=len(records))
        current = progress.add_task("", total=None)
        for job in todo:
            progress.reset(current, description=f"  {job.name}: experience", total=None)
            started = time.perf_counter()
            log = job.path.with_suffix(".log")
            log.unlink(missing_ok=True)  # of an attempt that failed before
            try:
                record = run(
                    config,
                    strategy=job.strategy,
                    seed=job.seed,
                    data=data,
                    device=device,
                    threads=threads,
                    watch=lambda done, n: progress.update(current, completed=done, total=n),
                )
            except Exception as problem:
                record = failed_record(
                    config,
                    strategy=job.strategy,
                    seed=job.seed,
                    error=f"{type(problem).__name__}: {problem}",
                    seconds=time.perf_counter() - started,
                    device=device,
                )
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text(traceback.format_exc(), encoding="utf-8")
                message = f"{job.name} failed: {record.error}; its traceback is in {log}"
                progress.console.print(message, style="red", markup=False, soft_wrap=True)
            write_record(record, job.path)
            records[job] = record
            progress.advance(suite)
        progress.remove_task(current)
    return [records[job] for job in jobs]
