"""Observer: what is told of a run while it goes on, experience by experience. Logs and mirrors are observers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypedDict, Unpack

Watch = Callable[[int, int], None]
"""Is told how many experiences are done, and of how many: before each, and at the end."""


class Facts(TypedDict):
    """What was found after one experience.

    Attributes:
        before: Row of the accuracy matrix before the sleep, fractions, shape (n_tests,).
        after: The same after it; equal where nothing slept.
        report: `SleepReport.to_dict()` of the sleep; None if there was none.
        train_seconds: Time of training, in s; None if it is not known.
        sleep_seconds: Time of sleep, in s; None if there was none or it is not known.
    """

    before: Sequence[float]
    after: Sequence[float]
    report: Mapping[str, Any] | None
    train_seconds: float | None
    sleep_seconds: float | None


class Observer(Protocol):
    """Is told of every experience its number, from 0, and what was found; of a run that goes on, also of those before.

    Those before are told before the first call of `Watch`, which then begins with their number.
    """

    def __call__(self, i: int, **facts: Unpack[Facts]) -> None: ...  # noqa: D102 - the class says it
