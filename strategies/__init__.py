"""Methods that sleep is compared and combined with: STRATEGIES, and build_strategy() to make one by name.

Names and settings are there at once. TrainingSetup, which needs Avalanche, loads on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strategies.settings import Settings
from strategies.table import (
    STRATEGIES,
    SUFFIXES,
    Row,
    build_strategy,
    find_row,
    sleep_of,
    split_name,
)

if TYPE_CHECKING:
    from strategies.setup import TrainingSetup

__all__ = [
    "STRATEGIES",
    "SUFFIXES",
    "Row",
    "Settings",
    "TrainingSetup",
    "build_strategy",
    "find_row",
    "sleep_of",
    "split_name",
]


def __getattr__(name: str) -> Any:
    if name != "TrainingSetup":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from strategies.setup import TrainingSetup

    return TrainingSetup
