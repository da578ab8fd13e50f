"""Methods that sleep is compared and combined with: STRATEGIES, and build_strategy() to make one by name."""

from strategies.setup import Settings, TrainingSetup
from strategies.table import (
    STRATEGIES,
    SUFFIXES,
    Row,
    build_strategy,
    find_row,
    sleep_of,
    split_name,
)

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
