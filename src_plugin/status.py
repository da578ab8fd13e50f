"""Status: what one night came to, in one word and as a number, so that text and curves can show it."""

from __future__ import annotations

from enum import IntEnum

from src_plugin.report import SleepReport


class Status(IntEnum):
    """What a night did: the furthest stage that changed something. Loggers that only take numbers show 0 to 3."""

    awake = 0
    levelled = 1
    settled = 2
    slept = 3

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, report: SleepReport) -> Status:
        """Return the status of a night."""
        if report.decision == "awake":
            return cls.awake
        if report.sleep is not None and "replay" not in report.skipped:
            return cls.slept
        return cls.levelled if report.settle is None else cls.settled
