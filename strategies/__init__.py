"""Methods that sleep is compared and combined with: STRATEGIES, and build_strategy() to make one by name."""

from strategies.table import STRATEGIES, Row, TrainingSetup, build_strategy, find_row

__all__ = ["STRATEGIES", "Row", "TrainingSetup", "build_strategy", "find_row"]
