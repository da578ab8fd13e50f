"""run(): one strategy under one seed on one stream -> Record."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.configs.run import RunConfig, resolve
from benchmarks.data.dataset import Dataset
from benchmarks.errors import ImpossibleError
from benchmarks.records.environment import commit, hardware, versions
from benchmarks.records.metrics import pooled_accuracy
from benchmarks.records.observer import Observer, Watch
from benchmarks.records.record import Record, Seconds, finite
from benchmarks.runs import checkpoint as checkpoints
from benchmarks.runs.calibration import Scores
from benchmarks.runs.keeping import Save, prepare_saving
from benchmarks.runs.measuring import LossWatch, Measured, Rows, SleepListener, look
from benchmarks.runs.models import LOSSES, build_model, build_optimizer, on_backbone
from benchmarks.streams.batches import WholeBatches
from benchmarks.streams.splitting import split_classes
from benchmarks.streams.stream import Stream, build_stream
from src_plugin.errors import ConfigError
from src_plugin.report import SleepReport
from strategies import TrainingSetup, build_strategy, find_row


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class SeenClasses:
    """All training images of all classes seen so far, also those not trained on: the reference of the authors' code."""

    def __init__(self, data: Dataset, *, scales: list[float] | None, device: str) -> None:
        """Keep the images, and what they are divided by in each experience."""
        self._data = data
        self._scales = scales
        self._device = device

    def __call__(self, strategy: Any) -> Tensor:
        """Return the images, shape (n, ...), on the device that trains."""
        seen = torch.tensor(sorted(strategy.experience.classes_seen_so_far))
        images = self._data.train_images[torch.isin(self._data.train_labels, seen)].to(self._device)
        return images if self._scales is None else images / self._scales[strategy.experience.current_experience]


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
    observe: Observer | None = None,
    checkpoint: Path | None = None,
    head: tuple[str, bool | None] | None = None,
    keep: Callable[[Save], None] | None = None,
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
        observe: Called with what was found after each experience; of a run that goes on, also with what was before.
        checkpoint: A file in which the run is kept after each experience but the last, and from which it goes on to
            the same numbers, if the file is of the same config, seed, code and machine; None keeps nothing.
        head: Commit of the code and whether its tree was clean, where this process cannot know; None asks git.
        keep: Is given what writes the model file of a run that did not diverge; see `why_no_model` in `keeping.py`.

    Returns:
        A record with status "done", or "diverged" if the weights stopped being finite; then the matrices end before.

    Raises:
        ImpossibleError: The strategy does not go with the rest.
        ConfigError: Stream or sleep do not fit.
    """
    started = time.perf_counter()
    if threads is not None:
        torch.set_num_threads(threads)
    row, sleeps = find_row(strategy)
    if config.stream.scale == "running" and row.rehearses:
        # Each image is divided once, when its experience comes, and some methods keep what they were given.
        raise ImpossibleError(
            f"{strategy} would learn old images at the scale of their own experience, and be tested on them at the "
            "present one, which stream.scale: running raises; use first or a number for methods that keep images"
        )
    in_model = data.backbone is not None  # then features are divided there, and images are left as they are
    stream_config = config.stream.model_copy(update={"scale": None}) if in_model else config.stream
    stream = build_stream(stream_config, data=data, seed=seed, at_once=row.at_once)
    model = _model(config, data=data, stream=stream, seed=seed, device=device)
    setup = TrainingSetup(
        model=model,
        optimizer=build_optimizer(config.training, model.parameters()),
        criterion=LOSSES[config.training.loss](),
        batch_size=config.training.batch_size,
        epochs=config.training.epochs,
        n_images=len(stream.train_images),
        n_classes=data.n_classes,
        n_experiences=len(split_classes(config.stream, n_classes=data.n_classes, seed=seed)),
        settings=config.settings.build(),
        device=device,
        sleep=config.sleep.build() if sleeps else "auto",
        every=config.sleep.every,
        seed=seed,
        reference=SeenClasses(data, scales=stream.scales, device=device)
        if sleeps and config.sleep.reference == "seen_classes"
        else None,
    )
    shared = {"images": stream.train_images, "tests": stream.tests, "data": data, "backbone": data.backbone}
    key = {"config": resolve(config, strategy), "seed": seed, "device": device, **_provenance(device, head)}
    now = None if checkpoint is None else checkpoints.load(checkpoint, key=key, shared=shared)
    now = now or _begin(_build(strategy, setup), stream)
    error = None
    n = len(stream.train_stream)
    if observe:
        for facts in now.told:
            observe(**facts)
    for i in range(len(now.after), n):
        if watch:
            watch(i, n)
        tests = stream.tests_after(i)
        now.sleeps.measure = partial(look, tests=tests, n_seen=stream.n_seen(i), device=device)
        spent, n_reports = now.seconds, len(_reports(now.learner))
        tick = time.perf_counter()
        try:
            now.learner.train(stream.train_stream[i])
        except ConfigError as problem:
            if i == 0 and now.losses.iterations == 0:
                raise ImpossibleError(str(problem)) from problem
            raise
        except Exception as problem:
            if _is_finite(now.learner.model):
                raise
            error = _divergence(i, now.losses, problem)
            break
        finally:
            now.train_seconds += time.perf_counter() - tick
        if not _is_finite(now.learner.model):
            error = _divergence(i, now.losses)
            break
        now.note(look(now.learner, tests, n_seen=stream.n_seen(i), device=device))
        slept = _reports(now.learner)[n_reports:]
        train_seconds, sleep_seconds = (b - a for a, b in zip(spent, now.seconds, strict=True))
        now.told.append(
            {
                "i": i,
                "before": _first(now.before[-1]),
                "after": _first(now.after[-1]),
                "report": finite(slept[-1].to_dict()) if slept else None,
                "train_seconds": train_seconds,
                "sleep_seconds": sleep_seconds if slept else None,
            }
        )
        if observe:
            observe(**now.told[-1])
        now.sleeps.measure = None  # holds test images
        if checkpoint is not None and i + 1 < n:
            now.total_seconds += time.perf_counter() - started
            started = time.perf_counter()
            checkpoints.save(checkpoint, now, key=key, shared=shared)
    if watch:
        watch(n, n)
    learner, after = now.learner, now.after
    if keep is not None and error is None:
        keep(prepare_saving(learner, config=config, data=data, scales=stream.scales))
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
        accuracy=[_first(rows) for rows in after],
        accuracy_before_sleep=[_first(rows) for rows in now.before],
        accuracy_by=_every(after),
        final_accuracy=None if error else pooled_accuracy(_first(after[-1]), stream.n_test),
        calibration=finite(now.calibration) if any(pair["after"] for pair in now.calibration) else None,
        sleep_reports=[finite(report.to_dict()) for report in _reports(learner)],
        features=data.provenance,
        kept_bytes=_kept_bytes(learner) if row.is_counted else None,
        seconds=Seconds(
            train=now.seconds[0],
            sleep=now.seconds[1],
            total=now.total_seconds + time.perf_counter() - started,
        ),
        **_provenance(device, head),
    )


@dataclass
class _Progress:
    """A run between two experiences.

    Attributes:
        learner: The strategy.
        sleeps: Of its plugins, the one that measures before each sleep.
        losses: The one that watches the loss.
        after: What was measured after each experience.
        before: What was measured before each sleep.
        calibration: Before and after it.
        train_seconds: Time in `learner.train`, sleeps included, in s.
        total_seconds: Time of the run when it was last kept, in s.
        told: What observers were told of each experience.
    """

    learner: Any
    sleeps: SleepListener
    losses: LossWatch
    after: list[Rows] = field(default_factory=list)
    before: list[Rows] = field(default_factory=list)
    calibration: list[dict[str, Scores | None]] = field(default_factory=list)
    train_seconds: float = 0.0
    total_seconds: float = 0.0
    told: list[dict[str, Any]] = field(default_factory=list)

    def note(self, after: Measured) -> None:
        """Note what was measured after an experience, and before its sleep if there was one."""
        before = self.sleeps.take_rows() or after
        self.before.append(before.rows)
        self.after.append(after.rows)
        self.calibration.append({"before": before.calibration, "after": after.calibration})

    @property
    def seconds(self) -> tuple[float, float]:
        """Time spent so far in training and in sleep, in s; measuring is in neither."""
        asleep, measuring = self.sleeps.sleep_seconds, self.sleeps.measure_seconds
        return max(0.0, self.train_seconds - asleep - measuring), asleep


def _model(config: RunConfig, *, data: Dataset, stream: Stream, seed: int, device: str) -> nn.Module:
    """Seed the global generators and build the network: the same head with the backbone inside and without."""
    scale: float | None = None
    if data.backbone is not None and config.stream.scale is not None:
        scale = feature_scale(config.stream.scale, data.backbone, stream, device=device)
    seed_everything(seed)
    n_classes = None if config.stream.task_labels else data.n_classes  # heads of tasks come with their experiences
    head = build_model(config.model, n_inputs=data.n_inputs, n_classes=n_classes)
    return (head if data.backbone is None else on_backbone(data.backbone, head, scale=scale)).to(device)


def feature_scale(scale: str | float, backbone: nn.Module, stream: Stream, *, device: str) -> float:
    """Return what features are divided by: a number as it is; for "first", the largest of the first experience."""
    if not isinstance(scale, str):
        return scale
    rows = torch.tensor(list(stream.train_stream[0].dataset.rows))
    backbone.to(device)
    with torch.no_grad():
        tops = [float(backbone(stream.train_images.take(part)[0].to(device)).max()) for part in rows.split(256)]
    return max(tops)


def _begin(learner: Any, stream: Stream) -> _Progress:
    """Append the plugins of the laboratory to those of a new strategy."""
    sleeps, losses = SleepListener(), LossWatch()
    learner.plugins += [sleeps, losses, WholeBatches(stream.train_images)]
    return _Progress(learner, sleeps, losses)


def _build(strategy: str, setup: TrainingSetup) -> Any:
    try:
        return build_strategy(strategy, setup)
    except ConfigError as error:
        raise ImpossibleError(str(error)) from error


def _divergence(experience: int, losses: LossWatch, problem: Exception | None = None) -> str:
    cause = [str(problem)] if problem is not None and str(problem) else []
    return "; ".join([f"weights are not finite after experience {experience}", *losses.facts, *cause])


def _reports(learner: Any) -> list[SleepReport]:
    return next((list(plugin.reports) for plugin in learner.plugins if hasattr(plugin, "reports")), [])


def _first(rows: Rows) -> list[float]:
    return next(iter(rows.values()))


def _every(after: Sequence[Rows]) -> dict[str, list[list[float]]] | None:
    """Return a matrix for every way of answering, where there are several."""
    names = list(after[-1]) if after else []
    return {name: [rows[name] for rows in after] for name in names} if len(names) > 1 else None


def _kept_bytes(learner: Any) -> int:
    """Return the bytes kept besides the model, as the strategy and its plugins count them."""
    return sum(int(part.kept_bytes) for part in (learner, *learner.plugins) if hasattr(part, "kept_bytes"))


def _provenance(device: str, head: tuple[str, bool | None] | None) -> dict[str, Any]:
    name, is_clean = head or commit()
    return {"versions": versions(), "commit": name, "tree_clean": is_clean, "hardware": hardware(device)}


def failed_record(
    config: RunConfig,
    *,
    strategy: str,
    seed: int,
    error: Exception,
    seconds: float,
    device: str,
    head: tuple[str, bool | None] | None = None,
) -> Record:
    """Return the record of a run that ended in an exception: no numbers, and why.

    Its status is "skipped" if the strategy does not go with the rest, else "failed".

    Args:
        config: What was run.
        strategy: Its name.
        seed: Its seed.
        error: The exception.
        seconds: How long it ran, in s.
        device: Where it ran.
        head: See `run`.
    """
    skipped = isinstance(error, ImpossibleError)
    return Record(
        status="skipped" if skipped else "failed",
        error=str(error) if skipped else f"{type(error).__name__}: {error}",
        config_name=config.name,
        config=resolve(config, strategy),
        strategy=strategy,
        seed=seed,
        class_order=[],
        experiences=[],
        n_test=[],
        seconds=Seconds(train=0.0, sleep=0.0, total=seconds if math.isfinite(seconds) else 0.0),
        **_provenance(device, head),
    )
