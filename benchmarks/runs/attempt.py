"""attempt(): one run of a suite, in whichever process -> its record, written; beside it log, checkpoint and mirror."""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from benchmarks.configs.run import RunConfig, resolve
from benchmarks.errors import DiskFullError, NewerRecordError, RecordError
from benchmarks.files import NO_SPACE
from benchmarks.records.observer import Facts, Observer, Watch
from benchmarks.records.packed import exists
from benchmarks.records.record import Record, as_bytes, read_record, write_record
from benchmarks.runs.log import RunLogFile, log_path
from benchmarks.streams.loading import Places, load_for
from strategies import split_name

if TYPE_CHECKING:
    from benchmarks.runs.keeping import Save
    from benchmarks.tracking.logger import RunLog
    from benchmarks.tracking.settings import WandbSettings


ON_INPUTS = ("ncm", "slda", "icarl", "icarl_mlp")
"""Strategies that answer by class means, not by the outputs of the network."""


@dataclass(frozen=True)
class Job:
    """One run to be made, and where its record belongs."""

    strategy: str
    seed: int
    path: Path
    config: RunConfig = field(repr=False, compare=False)  # its hash stands in the path
    saves_model: bool = field(default=False, repr=False, compare=False)  # leaves a model file beside its record

    @property
    def name(self) -> str:
        """Strategy and seed, for people."""
        return f"{self.strategy}, seed {self.seed}"

    @property
    def full_name(self) -> str:
        """Config, strategy and seed, where several configs are run."""
        return f"{self.config.name}: {self.name}"

    @property
    def hash8(self) -> str:
        """The hash of its resolved config, as its record's name has it."""
        return self.path.stem.rpartition("-")[2]

    @property
    def model_path(self) -> Path:
        """Where the model file of the run belongs, if it leaves one."""
        return self.path.with_suffix(".model.safetensors")

    @property
    def why_no_model(self) -> str | None:
        """Why no model file can be left; None if one can."""
        if self.config.stream.task_labels:
            return "its network asks for the task of each image, and a model file is for images alone"
        is_inside = self.config.backbone is not None and not self.config.backbone.cached
        if is_inside and split_name(self.strategy)[0] in ON_INPUTS:
            return "with cached: false its class means are no part of the network; take cached: true"
        return None


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


def done_record(path: Path) -> Record | None:
    """Return the record of a run that need not be made again; None if there is none, or it failed or was skipped.

    A diverged run is a result.

    Raises:
        RecordError: There is a file, and it is no record.
        NewerRecordError: Newer code wrote it; it must not be replaced.
    """
    if not exists(path):
        return None
    record = read_record(path)
    return None if record.status in ("failed", "skipped") else record


def work(job: Job, *, conditions: Conditions) -> tuple[Job, Record]:
    """Run one job in a worker, unless it was done since it was given out: by a worker that died then, or elsewhere."""
    try:
        record = done_record(job.path)
    except NewerRecordError:
        raise
    except RecordError:
        record = None
    return job, record or attempt(job, conditions)


def attempt(job: Job, conditions: Conditions, *, watch: Watch | None = None) -> Record:
    """Run one job, write its record and mirror it; an exception becomes a failed record, its traceback ends the log.

    Args:
        job: What is run.
        conditions: Under which.
        watch: Is told how many experiences are done, see `benchmarks.records.observer.Watch`.

    Raises:
        DiskFullError: Its record cannot be written; there is none then, and none is spoilt.
    """
    checkpoint = job.path.with_suffix(".checkpoint")
    with (
        _say_if_full(job.path),
        _open_log(job) as log,
        nullcontext() if conditions.wandb is None else _open_mirror(job, conditions.wandb) as mirror,
    ):
        watches: list[Watch] = [log.watch] if watch is None else [log.watch, watch]
        observers: list[Observer] = [log.experience] if mirror is None else [log.experience, mirror.experience]
        saves: list[Save] = []
        record, trace = _run_or_fail(
            job, conditions, watches=watches, observers=observers, checkpoint=checkpoint, keep=saves.append
        )
        for save in saves:  # before the record: where that is, nothing is made again
            save(job.model_path, _said_of(record))
        write_record(record, job.path)
        log.end(record, traceback=trace)
        if mirror is not None:
            mirror.close(record, path=job.path)
    checkpoint.unlink(missing_ok=True)
    return record


def _said_of(record: Record) -> dict[str, Any]:
    """Return what a model file says of its run."""
    return {
        "config_name": record.config_name,
        "config_hash": record.hash,
        "strategy": record.strategy,
        "seed": record.seed,
        "record_sha256": hashlib.sha256(as_bytes(record)).hexdigest(),
        "commit": record.commit,
    }


def _run_or_fail(
    job: Job,
    conditions: Conditions,
    *,
    watches: list[Watch],
    observers: list[Observer],
    checkpoint: Path,
    keep: Callable[[Save], None],
) -> tuple[Record, str | None]:
    """Return the record, and the traceback of a run that failed."""
    from benchmarks.runs.runner import failed_record, run  # here, because Avalanche takes seconds to import

    def watch(done: int, n: int) -> None:
        for tell in watches:
            tell(done, n)

    def observe(i: int, **facts: Unpack[Facts]) -> None:
        for tell in observers:
            tell(i, **facts)

    started = time.perf_counter()
    try:
        record = run(
            job.config,
            strategy=job.strategy,
            seed=job.seed,
            data=load_for(job.config, conditions.places),
            device=conditions.device,
            threads=conditions.threads,
            watch=watch,
            observe=observe,
            checkpoint=checkpoint,
            head=conditions.head,
            keep=keep if job.saves_model and job.why_no_model is None else None,
        )
    except Exception as problem:
        record = failed_record(
            job.config,
            strategy=job.strategy,
            seed=job.seed,
            error=problem,
            seconds=time.perf_counter() - started,
            device=conditions.device,
            head=conditions.head,
        )
        return record, traceback.format_exc() if record.status == "failed" else None
    return record, None


@contextmanager
def _say_if_full(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if problem.errno not in NO_SPACE:
            raise
        raise DiskFullError(
            f"{path} cannot be written: {problem.strerror}; make room, and the same command goes on: all that is "
            "finished is kept"
        ) from problem


@contextmanager
def _open_log(job: Job) -> Iterator[RunLogFile]:
    log = RunLogFile(log_path(job.path))
    log.begin(f"{job.config.name}, {job.name}, config {job.hash8}")
    try:
        yield log
    except BaseException as problem:
        log.cut_off(problem)
        raise


def _open_mirror(job: Job, settings: WandbSettings) -> RunLog:
    from benchmarks.tracking.logger import RunLog

    config = resolve(job.config, job.strategy)
    return RunLog.open(config, config_name=job.config.name, strategy=job.strategy, seed=job.seed, settings=settings)
