"""What a suite costs beyond training and sleep, measured in one run: `python -m benchmarks overhead CONFIG`.

Seven clocks, each of the same strategy under the same seed on the same stream:

- alone: Avalanche as its tutorials have it, its own data loader, nothing measured, no plugin;
- watched: the same with a plugin that watches and does not sleep;
- plain: the same with sleep;
- in memory: the laboratory's training without a plugin, whose batches come whole;
- training and sleep: the same in the laboratory's loop, whose batches come whole;
- measured: that loop with both accuracy matrices;
- suite: all that `python -m benchmarks run` does with one worker, checkpoints, record and progress included.

They take turns, several times, and medians of ratios within a turn are given: so a busy machine does little harm.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from avalanche.benchmarks import nc_benchmark
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from rich.console import Console
from rich.table import Table
from torch.utils.data import TensorDataset

from benchmarks.configs.run import RunConfig, StreamConfig
from benchmarks.data.dataset import Dataset
from benchmarks.runs.models import LOSSES, build_model, build_optimizer
from benchmarks.runs.runner import run, seed_everything
from benchmarks.runs.suite import plan, run_suite
from benchmarks.streams.loading import Places, load_for
from src_plugin import SRCPlugin
from src_plugin.errors import ConfigError
from src_plugin.head.state import Head
from src_plugin.report import SleepReport
from src_plugin.waking.summary import TrainingSummary
from strategies.setup import NoLogger

WANTED = 0.05  # of a measured run


@dataclass(frozen=True)
class Turn:
    """The clocks of one turn, in s."""

    alone: float
    watched: float
    plain: float
    in_memory: float
    training_and_sleep: float
    measured: float
    suite: float
    batches: int = 1

    @property
    def own(self) -> float:
        """What the suite adds to the measured run, as a fraction of it."""
        return self.suite / self.measured - 1

    @property
    def watching(self) -> float:
        """What a plugin adds to plain training that watches and does not sleep, as a fraction of it."""
        return self.watched / self.alone - 1

    def us(self, clock: str) -> float:
        """Return what a batch takes, in us: to watch it, its share of the nights, or to train on it in memory."""
        spent = {
            "watching": self.watched - self.alone,
            "nights": self.plain - self.watched,
            "training": self.in_memory,
        }
        return 1e6 * spent[clock] / self.batches

    @property
    def over_plain(self) -> float:
        """What the whole suite takes beyond plain training and sleep, as a fraction of them; below 0 if less."""
        return self.suite / self.plain - 1


def measure(config: RunConfig, *, places: Places, repeats: int = 3, seed: int = 0) -> list[Turn]:
    """Time `naive` and `naive+src` in seven ways, one after the other, `repeats` times.

    Args:
        config: A class-incremental stream in fixed order on a network without a backbone.
        places: Where its data are.
        repeats: Turns; one more, before them, is not counted.
        seed: The same for all.

    Raises:
        ConfigError: The stream is one that the plain program does not make.
        DataError: The data are not there.
    """
    _refuse(config)
    data = load_for(config, places)
    turns = [_turn(config, data, places=places, seed=seed) for _ in range(repeats + 1)]
    return turns[1:]


def _turn(config: RunConfig, data: Dataset, *, places: Places, seed: int) -> Turn:
    watcher = Watcher(seed=seed)
    alone, watched, plain = (
        _time_plain(config, data, seed=seed, plugins=plugins) for plugins in ([], [watcher], [SRCPlugin(seed=seed)])
    )
    in_memory = run(config, strategy="naive", seed=seed, data=data).seconds.train
    record = run(config, strategy="naive+src", seed=seed, data=data)
    with tempfile.TemporaryDirectory() as folder:
        jobs = plan(config, strategies=["naive+src"], seeds=[seed], out=Path(folder))
        started = time.perf_counter()
        run_suite(jobs, console=Console(quiet=True), places=places)
        suite = time.perf_counter() - started
    both = record.seconds.train + record.seconds.sleep
    return Turn(alone, watched, plain, in_memory, both, record.seconds.total, suite, watcher.batches)


class Watcher(SRCPlugin):  # type: ignore[misc, unused-ignore]
    """SRC that does all but sleep, and counts batches."""

    batches = 0

    def _pass_night(self, head: Head, training: TrainingSummary) -> SleepReport:
        self.batches += training.iterations or 0
        return SleepReport("awake", "only watched", list(head.names), list(head.sizes))


def _time_plain(config: RunConfig, data: Dataset, *, seed: int, plugins: list[SRCPlugin]) -> float:
    """Train by Avalanche and these plugins alone, and return the seconds of that."""
    parts = []
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        part = TensorDataset(images[:], labels)
        part.targets = labels.tolist()  # type: ignore[attr-defined]
        parts.append(part)
    n = config.stream.n_experiences
    order = list(range(data.n_classes))
    stream = nc_benchmark(*parts, n_experiences=n, task_labels=False, fixed_class_order=order).train_stream
    seed_everything(seed)
    model = build_model(config.model, n_inputs=data.n_inputs, n_classes=data.n_classes)
    training = config.training
    strategy = Naive(
        model=model,
        optimizer=build_optimizer(training, model.parameters()),
        criterion=LOSSES[training.loss](),
        train_mb_size=training.batch_size,
        train_epochs=training.epochs,
        plugins=plugins,
        evaluator=EvaluationPlugin(loggers=[NoLogger()]),
    )
    started = time.perf_counter()
    for experience in stream:
        strategy.train(experience)
    return time.perf_counter() - started


def _refuse(config: RunConfig) -> None:
    stream = config.stream
    plain = StreamConfig(dataset=stream.dataset, n_experiences=stream.n_experiences or 1)
    if config.backbone is not None or stream != plain or config.sleep.preset != "auto":
        raise ConfigError(
            f"{config.name}: the overhead is measured on experiences of equally many classes in fixed order, without a "
            "backbone and with the sleep auto, as a plain program is timed beside it; try configs/split_digits.yaml"
        )


def make_table(turns: Sequence[Turn]) -> Table:
    """Return medians: seconds, and each as a ratio to the plain program of its turn."""
    table = Table(title="naive+src, one worker")
    for heading in ("", "s", "of plain"):
        table.add_column(heading, justify="right" if heading else "left")
    names = {
        "plain Avalanche: training": "alone",
        "with the plugin, no sleep": "watched",
        "with the plugin, training and sleep": "plain",
        "laboratory, in memory: training": "in_memory",
        "laboratory: training and sleep": "training_and_sleep",
        "the same, measured": "measured",
        "the same, as a suite": "suite",
    }
    for title, field in names.items():
        seconds = [getattr(turn, field) for turn in turns]
        ratio = median(value / turn.plain for value, turn in zip(seconds, turns, strict=True))
        table.add_row(title, f"{median(seconds):.2f}", f"{ratio:.2f}")
    return table
