"""The log of a run: what happened, where, in which order; and never a reason for a run to stop."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.runs.log import RunLogFile, log_path
from lab_samples import FAILED, finished, make_record

FACTS: dict[str, Any] = {
    "before": [0.9, 0.5, 0.0],
    "after": [0.8, 0.6, 0.0],
    "report": {"decision": "slept", "reason": "first sleep", "seconds": 0.084},
    "train_seconds": 1.234,
    "sleep_seconds": 0.1,
}
AWAKE: dict[str, Any] = {**FACTS, "before": FACTS["after"], "report": None, "sleep_seconds": None}


def lines(path: Path) -> list[str]:
    """Return the lines without their times, which are checked."""
    found = [line.split(" ", 2) for line in path.read_text(encoding="utf-8").splitlines()]
    for day, time, _ in found:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4}", f"{day} {time}")
    return [text for _, _, text in found]


def test_it_lies_beside_the_record() -> None:
    assert log_path(Path("runs/tiny/naive/seed3-0123abcd.json")) == Path("runs/tiny/naive/seed3-0123abcd.log")


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    log = RunLogFile(tmp_path / "deep" / "a.log")
    log.begin("tiny, naive+src, seed 0")
    log.watch(0, 3)
    log.experience(0, **AWAKE)
    log.watch(1, 3)
    log.experience(1, **FACTS)
    log.end(finished("naive", 0, 0.5))
    assert lines(tmp_path / "deep" / "a.log") == [
        f"tiny, naive+src, seed 0: started on {platform.node()}, process {os.getpid()}",
        "experience 1 of 3: mean accuracy 0.800; training 1.2 s",
        "experience 2 of 3: mean accuracy 0.700 (0.700 before the sleep); training 1.2 s, sleep 0.1 s",
        "  slept: first sleep (0.08 s)",
        "ended: done, final accuracy 0.500, 1.5 s in all",
    ]


def test_the_mean_of_a_stream_learnt_at_once_is_over_all(tmp_path: Path) -> None:
    log = RunLogFile(tmp_path / "a.log")
    log.watch(0, 1)
    log.experience(0, **{**AWAKE, "train_seconds": None})
    assert lines(tmp_path / "a.log") == ["experience 1 of 1: mean accuracy 0.467"]  # (0.8 + 0.6 + 0.0) / 3


def test_a_run_that_goes_on_says_from_where_and_repeats_nothing(tmp_path: Path) -> None:
    first, second = (RunLogFile(tmp_path / "a.log") for _ in range(2))
    first.watch(0, 3)
    first.experience(0, **AWAKE)
    first.cut_off(KeyboardInterrupt())
    second.experience(0, **AWAKE)  # told again, as observers are
    second.watch(1, 3)
    second.experience(1, **AWAKE)
    assert [line.partition(":")[0] for line in lines(tmp_path / "a.log")] == [
        "experience 1 of 3",
        "cut off",
        "goes on after experience 1 of 3",
        "experience 2 of 3",
    ]


def test_a_failure_ends_with_its_traceback(tmp_path: Path) -> None:
    log = RunLogFile(tmp_path / "a.log")
    log.end(make_record(**FAILED), traceback="Traceback ...\nOSError: no\n")
    text = (tmp_path / "a.log").read_text(encoding="utf-8")
    assert text.endswith(" ended: failed, 1.5 s in all: no\nTraceback ...\nOSError: no\n")


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    log = RunLogFile(tmp_path / "a.log")
    log.begin("tiny")
    log.end(finished("naive", 0, 0.5))
    assert not list(tmp_path.iterdir())
