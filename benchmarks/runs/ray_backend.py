"""Ray's joblib backend with Ray tasks in place of its pool of actors.

Ray's own backend (`ray.util.joblib.register_ray`, read at 2.60) deals jobs to a pool of actors like cards, also to one
that is busy while another has nothing to do; refuses joblib's generators, so that no answer comes before the last; and
ends the whole call with the first actor that dies. Here it keeps all that it does for joblib but that pool: each job
becomes a Ray task, which Ray itself places where CPUs are free, in a process that it uses again for the next one, and
starts once more, elsewhere if need be, when that process or its node dies.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from joblib import register_parallel_backend  # type: ignore[import-untyped]

from benchmarks.errors import WorkerError
from benchmarks.runs.workers import Pool, quieten


def ray_pool(*, workers: int, options: dict[str, Any]) -> Pool:
    """Return the pool of the cluster this process has joined.

    Args:
        workers: Jobs at the same time, at most; two or more.
        options: What `ray.remote` is given: what a job needs, and how often Ray tries it again.
    """
    import ray
    from ray.util.joblib import register_ray
    from ray.util.joblib.ray_backend import RayBackend

    class TaskBackend(RayBackend):
        supports_return_generator = True  # the answers of tasks come one by one

        def configure(self, n_jobs: int = 1, parallel: Any = None, *_: Any, **__: Any) -> int:
            self.parallel = parallel
            self._pool = _Tasks(options)
            return n_jobs

    register_ray()
    register_parallel_backend("ray", TaskBackend)
    return Pool(
        workers=workers,
        backend={"backend": "ray"},
        deaths=(ray.exceptions.RayError,),
        tries_again=True,
        cure="the same command goes on, perhaps with fewer --workers",
    )


def call(packed: bytes, folder: Path | None) -> bytes:
    """Do a job in a worker as a process of this machine would, in the folder of the command; return the answer, packed.

    Both are packed, by `ray.cloudpickle`, since the server of a ray:// address opens what tasks are given and give
    back: it would import torch for it, in a thread, which ends it.

    Args:
        packed: A callable.
        folder: The folder; None for the worker's own.
    """
    from ray import cloudpickle

    quieten()
    if folder is not None:
        os.chdir(folder)
    answer: bytes = cloudpickle.dumps(cloudpickle.loads(packed)())
    return answer


class _Tasks:
    """What joblib asks of a pool, with Ray tasks: a thread waits for them and hands their answers on."""

    def __init__(self, options: dict[str, Any]) -> None:
        import ray

        self._ray = ray
        self._task = ray.remote(**options)(call)
        self._folder = Path.cwd()
        self._begun: queue.SimpleQueue[tuple[Any, Callable[[Any], None]]] = queue.SimpleQueue()
        self._open: dict[Any, Callable[[Any], None]] = {}
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._collect, name="ray answers", daemon=True)
        self._thread.start()

    def apply_async(
        self, run: Callable[[], Any], _: Any, *, callback: Callable[[Any], None], error_callback: Callable[[Any], None]
    ) -> Any:
        """Start a job; joblib gives the same callback for answers and errors, and tells them apart."""
        task = self._task.remote(self._ray.cloudpickle.dumps(run), self._folder)
        self._begun.put((task, callback))
        return task

    def close(self) -> None:
        """Wait for no more answers."""
        self._is_closed.set()

    def terminate(self) -> None:
        """End what is still running."""
        self._thread.join(timeout=5)
        self._take_begun()
        for task in self._open:
            with suppress(Exception):  # of a cluster that is gone nothing is left to be ended
                self._ray.cancel(task, force=True)
        self._open.clear()

    def _take_begun(self) -> None:
        with suppress(queue.Empty):
            while True:
                task, callback = self._begun.get_nowait()
                self._open[task] = callback

    def _collect(self) -> None:
        while not self._is_closed.wait(0 if self._open else 0.02):
            self._take_begun()
            if not self._open:
                continue
            try:
                ready, _ = self._ray.wait(list(self._open), timeout=0.1)
                answers = [(task, self._answer(task)) for task in ready]
            except Exception as error:
                answers = [(task, _lost(error)) for task in self._open]
            for task, answer in answers:
                self._open.pop(task)(answer)

    def _answer(self, task: Any) -> Any:
        """Return what a job gave, or why it gave nothing; what a job raises is wrapped by joblib."""
        try:
            return self._ray.cloudpickle.loads(self._ray.get(task))
        except self._ray.exceptions.RayTaskError as error:
            return WorkerError(f"a node of the cluster cannot do its job: {error.cause!r}")
        except self._ray.exceptions.RayError as error:
            return error


def _lost(error: Exception) -> WorkerError:
    why = (str(error).strip().splitlines() or [""])[0]
    kept = "what is finished is kept, and the same command goes on"
    return WorkerError(f"the cluster does not answer any more ({type(error).__name__}: {why}); {kept}")
