"""run(): one strategy under one seed on one stream -> Record.

The accuracy matrices are measured here, by a loop without gradients that draws no random numbers, and never by
`strategy.eval`, which advances torch's global generator and would make a measured run another run.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn

from benchmarks.batches import WholeBatches
from benchmarks.config import RunConfig, resolve
from benchmarks.data import Dataset
from benchmarks.environment import commit, hardware, versions
from benchmarks.metrics import pooled_accuracy
from benchmarks.models import LOSSES, MultiHead, build_model, build_optimizer
from benchmarks.records import Record, Seconds, finite
from benchmarks.streams import Stream, TestSet, build_stream
from strategies import TrainingSetup, build_strategy, find_row

Watch = Callable[[int, int], None]


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def accuracies(model: nn.Module, stream: Stream, *, device: str = "cpu", batch_size: int = 1000) -> list[float]:
    """Measure the accuracy on every test set of a stream, those of experiences still to come included.

    The prediction is the largest of all outputs; of equal ones, the first. Task labels are given to a network that
    takes them; where it has no head for one yet, no answer is right. Modes are restored, nothing is drawn.

    Returns:
        Fractions, one per test set.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            return [
                _correct(model, test, device=device, batch_size=batch_size) / len(test.labels) for test in stream.tests
            ]
    finally:
        for module, mode in modes.items():
            module.training = mode


def _correct(model: nn.Module, test: TestSet, *, device: str, batch_size: int) -> int:
    if isinstance(model, MultiHead) and not model.has_head(test.task):
        return 0
    pairs = zip(test.images.split(batch_size), test.labels.split(batch_size), strict=True)
    return sum(
        int((avalanche_forward(model, x.to(device), test.task).argmax(dim=1).cpu() == y).sum()) for x, y in pairs
    )


class SleepListener:
    """Measures the network just before every sleep, and how long the sleep takes.

    Appended to `strategy.plugins` after construction, because Avalanche warns of callbacks it does not know.
    """

    def __init__(self, measure: Callable[[Any], list[float]]) -> None:
        """Keep how to measure a strategy."""
        self._measure = measure
        self._started = 0.0
        self.row: list[float] | None = None
        self.sleep_seconds = 0.0
        self.measure_seconds = 0.0

    def before_sleep(self, strategy: Any, **kwargs: Any) -> None:
        """Measure, then start the clock."""
        started = time.perf_counter()
        self.row = self._measure(strategy)
        self._started = time.perf_counter()
        self.measure_seconds += self._started - started

    def after_sleep(self, strategy: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self.sleep_seconds += time.perf_counter() - self._started

    def take_row(self) -> list[float] | None:
        """Return what the last sleep began with, once; None if nothing slept since."""
        row, self.row = self.row, None
        return row


class SeenClasses:
    """All training images of all classes seen so far, also those not trained on: the reference of the authors' code."""

    def __init__(self, data: Dataset, *, device: str) -> None:
        """Keep the images."""
        self._data = data
        self._device = device

    def __call__(self, strategy: Any) -> Tensor:
        """Return the images, shape (n, ...), on the device that trains."""
        seen = torch.tensor(sorted(strategy.experience.classes_seen_so_far))
        return self._data.train_images[torch.isin(self._data.train_labels, seen)].to(self._device)


def _is_finite(model: nn.Module) -> bool:
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


def run(
    config: RunConfig,
    *,
    strategy: str,
    seed: int,
    data: Dataset,
    device: str = "cpu",
    threads: int | None = None,
    watch: Watch | None = None,
) -> Record:
    """Train one strategy on a stream and measure it after every experience, before and after every sleep.

    Args:
        config: What is run.
        strategy: A name of STRATEGIES, or one followed by "+src".
        seed: Seeds Python's, NumPy's and torch's global generators, the class order where it is seeded, and the sleep.
        data: The images.
        device: Where the network is trained.
        threads: Threads of torch; None leaves them as they are.
        watch: Called with (experiences done, experiences in all) at the start and after each.

    Returns:
        A record with status "done", or "diverged" if the weights stopped being finite; then the matrices end before.

    Raises:
        ConfigError: Strategy, stream or sleep do not fit.
    """
    started = time.perf_counter()
    if threads is not None:
        torch.set_num_threads(threads)
    row, sleeps = find_row(strategy)
    stream = build_stream(config.stream, data=data, seed=seed, at_once=row.at_once)
    seed_everything(seed)
    n_classes = None if config.stream.task_labels else data.n_classes  # heads of tasks come with their experiences
    model = build_model(config.model, n_inputs=data.n_inputs, n_classes=n_classes).to(device)
    setup = TrainingSetup(
        model=model,
        optimizer=build_optimizer(config.training, model.parameters()),
        criterion=LOSSES[config.training.loss](),
        batch_size=config.training.batch_size,
        epochs=config.training.epochs,
        n_images=len(stream.train_images),
        n_classes=len(stream.class_order),
        n_experiences=len(stream.classes),
        settings=config.settings.build(),
        device=device,
        sleep=config.sleep.build() if sleeps else "auto",
        every=config.sleep.every,
        seed=seed,
        reference=SeenClasses(data, device=device) if sleeps and config.sleep.reference == "seen_classes" else None,
    )
    learner = build_strategy(strategy, setup)
    listener = SleepListener(lambda s: accuracies(s.model, stream, device=device))
    learner.plugins += [listener, WholeBatches(stream.train_images)]

    after: list[list[float]] = []
    before: list[list[float]] = []
    train_seconds, error = 0.0, None
    n = len(stream.train_stream)
    for i, experience in enumerate(stream.train_stream):
        if watch:
            watch(i, n)
        tick = time.perf_counter()
        try:
            learner.train(experience)
        except Exception as problem:
            if _is_finite(learner.model):
                raise
            error = f"weights are not finite after experience {i}: {problem}"
            break
        finally:
            train_seconds += time.perf_counter() - tick
        if not _is_finite(learner.model):
            error = f"weights are not finite after experience {i}"
            break
        after.append(accuracies(learner.model, stream, device=device))
        before.append(listener.take_row() or after[-1])
    if watch:
        watch(n, n)
    src = next((plugin for plugin in learner.plugins if hasattr(plugin, "reports")), None)
    return Record(
        status="diverged" if error else "done",
        error=error,
        config_name=config.name,
        config=resolve(config, strategy),
        strategy=strategy,
        seed=seed,
        class_order=stream.class_order,
        experiences=stream.class_names,
        n_test=stream.n_test,
        accuracy=after,
        accuracy_before_sleep=before,
        final_accuracy=None if error else pooled_accuracy(after[-1], stream.n_test),
        sleep_reports=[finite(report.to_dict()) for report in src.reports] if src else [],
        kept_bytes=_kept_bytes(learner) if row.is_counted else None,
        seconds=Seconds(
            train=max(0.0, train_seconds - listener.sleep_seconds - listener.measure_seconds),
            sleep=listener.sleep_seconds,
            total=time.perf_counter() - started,
        ),
        **_provenance(device),
    )


def _kept_bytes(learner: Any) -> int:
    """Return the bytes kept besides the model, as the plugins count them."""
    return sum(int(plugin.kept_bytes) for plugin in learner.plugins if hasattr(plugin, "kept_bytes"))


def _provenance(device: str) -> dict[str, Any]:
    head, is_clean = commit()
    return {"versions": versions(), "commit": head, "tree_clean": is_clean, "hardware": hardware(device)}


def failed_record(config: RunConfig, *, strategy: str, seed: int, error: str, seconds: float, device: str) -> Record:
    """Return the record of a run that ended in an exception: no numbers, and why.

    Args:
        config: What was run.
        strategy: Its name.
        seed: Its seed.
        error: The exception in one line.
        seconds: How long it ran, in s.
        device: Where it ran.
    """
    return Record(
        status="failed",
        error=error,
        config_name=config.name,
        config=resolve(config, strategy),
        strategy=strategy,
        seed=seed,
        class_order=[],
        experiences=[],
        n_test=[],
        seconds=Seconds(train=0.0, sleep=0.0, total=seconds if math.isfinite(seconds) else 0.0),
        **_provenance(device),
    )
