"""Workers: what one that dies was at is tried once more; the second death is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.errors import WorkerError
from benchmarks.runs.workers import processes, run_in_processes

pytestmark = pytest.mark.slow  # processes take a second to start


def run(todo: list[str], work: Any, console: Console, **changes: Any) -> dict[str, str]:
    settings = {"pool": processes(2, threads=1), "finished": lambda job: None, **changes}
    return dict(run_in_processes(todo, work, console=console, **settings))


def test_every_job_is_answered() -> None:
    found = run(["a", "b", "c"], lambda job: (job, f"record of {job}"), Console(quiet=True))
    assert found == {name: f"record of {name}" for name in "abc"}


def test_a_worker_that_dies_twice_is_said() -> None:
    console = Console(record=True, width=200)
    with pytest.raises(WorkerError, match="the same command with fewer --workers goes on"):
        run(["a", "b"], lambda job: os._exit(1), console)
    assert "a worker process ended without an answer" in console.export_text()


def test_what_a_dead_worker_was_at_is_tried_once_more(tmp_path: Path) -> None:
    def work(job: str) -> tuple[str, str]:
        once = tmp_path / "died"
        if job == "b" and not once.exists():
            once.touch()
            os._exit(1)
        (tmp_path / job).write_text((tmp_path / job).read_text() + "x" if (tmp_path / job).exists() else "x")
        return job, f"record of {job}"

    def finished(job: str) -> str | None:
        return f"record of {job}" if (tmp_path / job).exists() else None

    found = run(["a", "b", "c"], work, Console(quiet=True), finished=finished)
    assert found == {name: f"record of {name}" for name in "abc"}
    assert [(tmp_path / name).read_text() for name in "abc"] == ["x"] * 3  # none was done twice
