"""RunLogFile: the log of one run, beside its record. Text for people: nothing is read back from it.

    2026-03-01 14:02:11+0000 split_digits, naive+src, seed 0, config 1f0c2a9b: started on node7, process 4711
    2026-03-01 14:02:13+0000 experience 1 of 5: mean accuracy 0.984 (0.984 before the sleep); training 1.2 s
    2026-03-01 14:02:13+0000   slept: first sleep (0.08 s)
    ...
    2026-03-01 14:02:20+0000 ended: done, final accuracy 0.913, 8.7 s in all

It is appended to: a run that goes on says after which experience, one that is made again starts again. So a log whose
last line is not `ended` or `cut off` is of a run that goes on now, or of a process that was killed.
"""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Unpack

from benchmarks.records.observer import Facts
from benchmarks.records.record import Record


def log_path(record: Path) -> Path:
    """Return where the log of a run lies: <record's stem>.log beside it."""
    return record.with_suffix(".log")


class RunLogFile:
    """The log of one run. What cannot be written is left out: a log never stops a run."""

    def __init__(self, path: Path) -> None:
        """Begin to append to a file."""
        self._path = path
        self._n: int | None = None  # experiences; None until the run itself begins

    def begin(self, name: str) -> None:
        """Write when, where and in which process a run starts.

        Args:
            name: Of the run, for people.
        """
        self._write(f"{name}: started on {platform.node() or 'unknown'}, process {os.getpid()}")

    def watch(self, done: int, n: int) -> None:
        """Write after which experience a run goes on; see `benchmarks.records.observer.Watch`."""
        if self._n is None and done:
            self._write(f"goes on after experience {done} of {n}")
        self._n = n

    def experience(self, i: int, **facts: Unpack[Facts]) -> None:
        """Write what was found after an experience, unless it is in the log; see `Facts` in `observer`."""
        if self._n is None:  # found before the run was interrupted
            return
        n_seen = len(facts["after"]) if self._n == 1 else min(i + 1, len(facts["after"]))
        before, after = (sum(facts[row][:n_seen]) / n_seen for row in ("before", "after"))
        report = facts["report"]
        text = f"experience {i + 1} of {self._n}: mean accuracy {after:.3f}"
        text += f" ({before:.3f} before the sleep)" if report is not None else ""
        parts = {"training": facts["train_seconds"], "sleep": facts["sleep_seconds"]}
        times = [f"{part} {seconds:.1f} s" for part, seconds in parts.items() if seconds is not None]
        self._write("; ".join([text, ", ".join(times)]) if times else text)
        if report is not None:
            self._write(f"  {report.get('decision')}: {report.get('reason')} ({report.get('seconds') or 0.0:.2f} s)")

    def end(self, record: Record, *, traceback: str | None = None) -> None:
        """Write how a run ended.

        Args:
            record: What it found.
            traceback: Of the exception by which it failed; it ends the log.
        """
        text = f"ended: {record.status}"
        text += f", final accuracy {record.final_accuracy:.3f}" if record.final_accuracy is not None else ""
        text += f", {record.seconds.total:.1f} s in all"
        self._write(text if record.error is None else f"{text}: {record.error}")
        if traceback is not None:
            self._append(traceback)

    def cut_off(self, problem: BaseException) -> None:
        """Write that a run was cut off, e.g. by Ctrl-C."""
        self._write(f"cut off: {type(problem).__name__}")

    def _write(self, line: str) -> None:
        self._append(f"{time.strftime('%Y-%m-%d %H:%M:%S%z')} {line}\n")

    def _append(self, text: str) -> None:
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
