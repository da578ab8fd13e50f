"""Jobs in processes, by joblib; what a process that dies was at is tried once more."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Hashable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from typing import TypeVar

from joblib import Parallel, delayed, parallel_config  # type: ignore[import-untyped]
from rich.console import Console

from src_plugin.errors import SRCError

Job = TypeVar("Job", bound=Hashable)
Answer = TypeVar("Answer")


class WorkerError(SRCError, RuntimeError):
    """A process of the suite ended without an answer, twice."""


def run_in_processes(
    todo: Sequence[Job],
    work: Callable[[Job], tuple[Job, Answer]],
    *,
    workers: int,
    threads: int,
    finished: Callable[[Job], Answer | None],
    console: Console,
) -> Generator[tuple[Job, Answer]]:
    """Run jobs in processes, each answer as it comes.

    Args:
        todo: The jobs.
        work: Does one.
        workers: Processes.
        threads: Of each.
        finished: The answer of a job that had been done when a process died, and with it all others.
        console: Where it is said that one died.

    Raises:
        WorkerError: A process died, and when what was lost was tried again, one died again.
    """
    left = dict.fromkeys(todo)
    try:
        for job, answer in _run_in_pool(todo, work, workers=workers, threads=threads):
            del left[job]
            yield job, answer
        return
    except BrokenProcessPool as error:
        message = f"a worker process ended without an answer ({type(error).__name__}); what was being done goes on"
        console.print(message, style="yellow", soft_wrap=True, highlight=False)
    for job in list(left):
        answer = finished(job)
        if answer is not None:
            del left[job]
            yield job, answer
    try:
        yield from _run_in_pool(list(left), work, workers=workers, threads=threads)
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process ended without an answer for the second time, perhaps for want of memory "
            f"({type(error).__name__}); what is finished is kept, and the same command with fewer --workers goes on"
        ) from error


def _run_in_pool(
    todo: Sequence[Job], work: Callable[[Job], tuple[Job, Answer]], *, workers: int, threads: int
) -> Generator[tuple[Job, Answer]]:
    # Avalanche's quadratic-programming solvers, which nothing here uses, complain at import: before any job is read.
    quiet = partial(warnings.filterwarnings, "ignore", message="no QP solver found", category=UserWarning)
    with parallel_config(backend="loky", inner_max_num_threads=threads, initializer=quiet):
        pool = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
    with closing(pool(delayed(work)(job) for job in todo)) as made:
        yield from made
