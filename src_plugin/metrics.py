"""SleepMetrics: what each night did, for the evaluator of an Avalanche strategy, so that its loggers show it."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from avalanche.evaluation.metric_utils import get_metric_name
from avalanche.logging import CSVLogger
from avalanche.models.utils import avalanche_forward, is_multi_task_module
from torch.utils.data import DataLoader

from src_plugin.head.modes import eval_mode
from src_plugin.plugin import SRCPlugin
from src_plugin.report import SleepReport
from src_plugin.waking.exemplars import same_states

COLUMNS = ("experience", "status", "depth", "fractions", "seconds", "accuracy_before", "accuracy_after")
"""Header of `sleep_results.csv`."""


class _Status(IntEnum):
    """The status of a night as a number, for loggers that take nothing else; others print the word."""

    awake = 0
    levelled = 1
    settled = 2
    slept = 3

    def __str__(self) -> str:
        return self.name


class SleepMetrics(PluginMetric):  # type: ignore[type-arg, misc, unused-ignore]
    """Tells the evaluator of a strategy what each night of its `SRCPlugin` did, when the experience has ended.

    Without an `SRCPlugin` among the plugins it tells nothing. These values go to all loggers, under Avalanche's names
    (`Sleep_Status/train_phase/train_stream`):

    - `Sleep_Status`: awake, levelled, settled or slept; 0 to 3 where a logger takes numbers only.
    - `Sleep_Depth`: depth of a simulated sleep; of one in closed form the largest fraction; 0 without a sleep.
    - `Sleep_Fraction_<layer>`: part of the answers to the mean input that the sleep took, layer by layer, in [0, 1];
      only of a sleep in closed form.
    - `Sleep_Seconds`: wall time of the night.
    - `Sleep_Accuracy_Before`, `Sleep_Accuracy_After`: of the model on all images of `tests`, in [0, 1]. After a night
      awake both are the same. They are left out without `tests`, and for models with one head for each task.

    Avalanche's `CSVLogger` has fixed columns. So a file `sleep_results.csv`, a row for each night, is written beside
    its own. Its `TextLogger` prints what it was told at the end of the next evaluation or epoch.

    Args:
        tests: Experiences to measure on, e.g. `benchmark.test_stream`; each night passes them through the model twice.
            Nothing is drawn from global random states, so that training stays the same. None measures nothing.
        batch_size: Images at a time.

    Example:
        >>> from avalanche.training.plugins import EvaluationPlugin
        >>> EvaluationPlugin(SleepMetrics(benchmark.test_stream), loggers=[...])  # doctest: +SKIP
    """

    def __init__(self, tests: Iterable[Any] | None = None, *, batch_size: int = 512) -> None:
        super().__init__()
        self.tests = None if tests is None else list(tests)
        self.batch_size = batch_size
        self._told = 0  # nights that were told, or came before
        self._before: float | None = None
        self._after: float | None = None
        self._last: dict[str, Any] = {}

    def before_training_exp(self, strategy: Any) -> None:
        """Note how many nights there have been."""
        self.reset()
        self._told = len(_reports(strategy))

    def before_sleep(self, strategy: Any) -> None:
        """Measure."""
        self._before = self._accuracy(strategy)

    def after_sleep(self, strategy: Any) -> None:
        """Measure."""
        self._after = self._accuracy(strategy)

    def after_training_exp(self, strategy: Any) -> list[MetricValue]:
        """Tell what the night did, if there was one."""
        reports = _reports(strategy)
        if len(reports) <= self._told:
            return []
        self._told, report = len(reports), reports[-1]
        if self._before is None:  # no sleep was tried
            self._before = self._after = self._accuracy(strategy)
        self._last = self._values(report)
        for logger in strategy.evaluator.loggers:
            if isinstance(logger, CSVLogger):
                self._write(Path(logger.log_folder), strategy.experience.current_experience, report)
        step = strategy.clock.train_iterations
        names = {name: get_metric_name(f"Sleep_{name}", strategy, add_task=False) for name in self._last}
        return [MetricValue(self, names[name], value, step) for name, value in self._last.items()]

    def _values(self, report: SleepReport) -> dict[str, Any]:
        fractions = zip(report.layers, report.fractions, strict=False)  # none without a sleep
        values = {
            "Status": _Status[report.status],
            "Depth": float(report.strength),
            **{f"Fraction_{layer}": float(fraction) for layer, fraction in fractions},
            "Seconds": report.seconds,
        }
        measured = {"Accuracy_Before": self._before, "Accuracy_After": self._after}
        return values | {name: value for name, value in measured.items() if value is not None}

    def _write(self, folder: Path, experience: int, report: SleepReport) -> None:
        path, fractions = folder / "sleep_results.csv", " ".join(f"{fraction:.4f}" for fraction in report.fractions)
        row = (
            experience,
            _Status[report.status],
            report.strength,
            fractions,
            report.seconds,
            self._before,
            self._after,
        )
        with path.open("w" if self._told == 1 else "a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, row] if file.tell() == 0 else [row])

    def _accuracy(self, strategy: Any) -> float | None:
        model = strategy.model
        if not self.tests or is_multi_task_module(model):
            return None
        right = total = 0
        with eval_mode(model), torch.no_grad(), same_states():
            for experience in self.tests:
                for x, y, *tasks in DataLoader(experience.dataset.eval(), batch_size=self.batch_size):
                    scores = avalanche_forward(model, x.to(strategy.device), *tasks[-1:])
                    right += int((scores.argmax(1).cpu() == y).sum())
                    total += len(y)
        return right / total if total else None

    def reset(self) -> None:
        """Forget the last night."""
        self._before = self._after = None
        self._last = {}

    def result(self) -> dict[str, Any]:
        """Return the values of the last night, by their names without `Sleep_`; empty if there was none."""
        return self._last

    def __str__(self) -> str:
        return "SleepMetrics"


def _reports(strategy: Any) -> list[SleepReport]:
    return [report for plugin in strategy.plugins if isinstance(plugin, SRCPlugin) for report in plugin.reports]
