"""What is looked at while a run goes on: accuracies, the moment before a sleep, the loss. None of it draws a number.

Measured by a loop without gradients, and never by `strategy.eval`, which advances torch's global generator and would
make a measured run another run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn

from benchmarks.runs.calibration import Scores, calibrate
from benchmarks.runs.models import MultiHead
from benchmarks.streams.stream import TestSet
from strategies.prediction import Scores as Answer
from strategies.prediction import classifiers

Rows = dict[str, list[float]]
"""Accuracy on every test set, by the way of answering; the first is the one that counts."""


def measure(strategy: Any, tests: Sequence[TestSet], *, device: str = "cpu", batch_size: int = 1000) -> Rows:
    """Measure a strategy on every test set, those of experiences still to come included.

    The answer is the largest of all scores; of equal ones, the first. Task labels are given to a network that takes
    them; where it has no head for one yet, no answer is right. Modes are restored, nothing is drawn.

    Args:
        strategy: Any of Avalanche's; see `strategies.prediction.classifiers` for how it answers.
        tests: The test sets.
        device: Where its network is.
        batch_size: Images at a time.

    Returns:
        Fractions, one per test set, for every way of answering.
    """
    model: nn.Module = strategy.model
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            return {
                name: [_accuracy(model, scores, test, device=device, batch_size=batch_size) for test in tests]
                for name, scores in classifiers(strategy).items()
            }
    finally:
        for module, mode in modes.items():
            module.training = mode


def _accuracy(model: nn.Module, scores: Answer, test: TestSet, *, device: str, batch_size: int) -> float:
    if scores is model and isinstance(model, MultiHead) and not model.has_head(test.task):
        return 0.0

    def answer(x: Tensor) -> Tensor:
        given = avalanche_forward(model, x, test.task) if scores is model else scores(x)
        return given.argmax(dim=1).cpu()

    return sum(int((answer(x.to(device)) == y).sum()) for x, y in test.batches(batch_size)) / len(test.labels)


@dataclass(frozen=True)
class Measured:
    """What was measured at once.

    Attributes:
        rows: Accuracies.
        calibration: Of what was seen so far; None where it has no meaning.
    """

    rows: Rows
    calibration: Scores | None


def look(strategy: Any, tests: Sequence[TestSet], *, n_seen: int, device: str = "cpu") -> Measured:
    """Measure accuracy on every test set, and calibration on the first `n_seen`."""
    return Measured(measure(strategy, tests, device=device), calibrate(strategy, tests[:n_seen], device=device))


class SleepListener:
    """Measures the network just before every sleep, and how long the sleep takes.

    Appended to `strategy.plugins` after construction, because Avalanche warns of callbacks it does not know.

    Attributes:
        measure: How a strategy is measured in the current experience; None where there is none.
    """

    def __init__(self, measure: Callable[[Any], Measured] | None = None) -> None:
        """Begin with how to measure a strategy, if that is known."""
        self.measure = measure
        self._started = 0.0
        self.rows: Measured | None = None
        self.sleep_seconds = 0.0
        self.measure_seconds = 0.0

    def before_sleep(self, strategy: Any, **kwargs: Any) -> None:
        """Measure, then start the clock."""
        started = time.perf_counter()
        self.rows = self.measure(strategy) if self.measure else None
        self._started = time.perf_counter()
        self.measure_seconds += self._started - started

    def after_sleep(self, strategy: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self.sleep_seconds += time.perf_counter() - self._started

    def take_rows(self) -> Measured | None:
        """Return what the last sleep began with, once; None if nothing slept since."""
        rows, self.rows = self.rows, None
        return rows


class LossWatch(SupervisedPlugin):  # type: ignore[misc]
    """Remembers the first loss that is not finite, and the last one that is.

    Attributes:
        iterations: Iterations of the current experience so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.iterations = 0
        self._experience = -1
        self._trouble = ""
        self._last = "no loss was finite"

    @property
    def facts(self) -> list[str]:
        """The first loss that is not finite, and the last that is; where only a last update overflowed, that alone."""
        return [fact for fact in (self._trouble, self._last) if fact]

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Count iterations anew."""
        self.iterations = 0
        self._experience += 1

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Look at the loss of the batch."""
        self.iterations += 1
        loss = float(strategy.loss.detach())
        where = f"in iteration {self.iterations} of experience {self._experience}"
        if math.isfinite(loss):
            self._last = f"last finite loss {loss:.4g} {where}"
        elif not self._trouble:
            self._trouble = f"loss {loss} {where}"
