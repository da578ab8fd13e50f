"""Jobs in processes, here or on a cluster, by one joblib call; what a process that dies was at is tried once more.

Where they run is a `Pool`: joblib's own backend for this machine, loky, is `processes`; Ray's is in
benchmarks/runs/ray_backend.py. Answers come as they are ready, in whichever order.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from joblib import Parallel, delayed, parallel_config  # type: ignore[import-untyped]
from rich.console import Console

from benchmarks.console import say
from benchmarks.errors import WorkerError

Job = TypeVar("Job", bound=Hashable)
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Pool:
    """Where jobs run.

    Attributes:
        workers: How many at the same time.
        backend: What `joblib.parallel_config` is given.
        deaths: The exceptions by which the backend says that a process died.
        tries_again: Whether it gives what a dead process was at to another one by itself, once; then an exception in
            `deaths` is the second death of one job.
        cure: What helps after the second death, for people.
    """

    workers: int
    backend: Mapping[str, Any]
    deaths: tuple[type[Exception], ...]
    tries_again: bool
    cure: str


def quieten() -> None:
    """Keep Avalanche's quadratic-programming solvers, which nothing here uses, from complaining at import."""
    warnings.filterwarnings("ignore", message="no QP solver found", category=UserWarning)


def processes(workers: int, *, threads: int) -> Pool:
    """Return a pool of processes on this machine.

    Args:
        workers: How many.
        threads: Of each.
    """
    # Loky replaces a worker whose memory has grown. It warns in the thread that hands answers on, which must not end.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
    return Pool(
        workers=workers,
        backend={"backend": "loky", "inner_max_num_threads": threads, "initializer": quieten},  # before any job is read
        deaths=(BrokenProcessPool,),
        tries_again=False,
        cure="the same command with fewer --workers goes on",
    )


def run_in_processes(
    todo: Sequence[Job],
    work: Callable[[Job], tuple[Job, Answer]],
    *,
    pool: Pool,
    finished: Callable[[Job], Answer | None],
    console: Console,
) -> Generator[tuple[Job, Answer]]:
    """Run jobs in processes, each answer as it comes.

    Args:
        todo: The jobs.
        work: Does one.
        pool: Where.
        finished: The answer of a job that had been done when a process died, and with it all others.
        console: Where it is said that one died.

    Raises:
        WorkerError: A process died, and when what was lost was tried again, one died again.
    """
    left = dict.fromkeys(todo)
    try:
        for job, answer in _run_in_pool(todo, work, pool):
            del left[job]
            yield job, answer
        return
    except pool.deaths as error:
        if pool.tries_again:
            raise _second_death(error, pool) from error
        message = f"a worker process ended without an answer ({type(error).__name__}); what was being done goes on"
        say(console, message, style="yellow")
    for job in list(left):
        done = finished(job)
        if done is not None:
            del left[job]
            yield job, done
    try:
        yield from _run_in_pool(list(left), work, pool)
    except pool.deaths as error:
        raise _second_death(error, pool) from error


def _second_death(error: Exception, pool: Pool) -> WorkerError:
    return WorkerError(
        "a worker process ended without an answer for the second time, perhaps for want of memory "
        f"({type(error).__name__}); what is finished is kept, and {pool.cure}. The log of what it was at has no line "
        "`ended` at its end"
    )


def _run_in_pool(
    todo: Sequence[Job], work: Callable[[Job], tuple[Job, Answer]], pool: Pool
) -> Generator[tuple[Job, Answer]]:
    with parallel_config(**pool.backend):
        parallel = Parallel(n_jobs=pool.workers, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
    with closing(parallel(delayed(work)(job) for job in todo)) as made:
        yield from made
