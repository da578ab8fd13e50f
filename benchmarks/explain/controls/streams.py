"""Whole streams with a control in the place of every sleep, under the same seeds and orders as naive, +settle, +src."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.configs.run import RunConfig, SleepSection, resolve
from benchmarks.data.dataset import Dataset
from benchmarks.explain.controls.rows import CONTROLS, Control, Current, Given
from benchmarks.explain.origin import made_here
from benchmarks.explain.running import learn, measured_on_held_out
from benchmarks.records.metrics import pooled_accuracy
from benchmarks.records.record import finite
from benchmarks.runs.measuring import measure
from benchmarks.streams.stream import Stream, build_stream
from src_plugin.config import SleepConfig
from src_plugin.errors import WeightsError
from src_plugin.head.state import Head, HeadState
from src_plugin.head.watch import head_inputs
from src_plugin.night import stages
from src_plugin.night.stages import Evening
from src_plugin.plugin import SRCPlugin
from src_plugin.report import SleepReport
from src_plugin.waking.drift import check_trained
from src_plugin.waking.summary import TrainingSummary

NAIVE = "naive"
"""No plugin at all: nothing sleeps, settles or levels. The control "none" leaves out the sleep alone."""

ONLY_ONCE = ("closed_form_alike", "closed_form_norm")
"""Controls of single nights that would say nothing more over whole streams."""

NAMES = (NAIVE, *(name for name in CONTROLS if name not in ONLY_ONCE))
"""All settings of a stream, in the order of tables."""


class ControlledSRC(SRCPlugin):  # type: ignore[misc, unused-ignore]
    """SRC with a control in the place of its sleep.

    Args:
        config: How to sleep; of a control for the whole night settling and levelling are left out.
        control: What to do instead.
        stream: Whose images are the current ones.
        settings: Of SRCPlugin.

    Attributes:
        reasons: Why the control was left out, of each night; "" where it was not.
    """

    def __init__(self, config: SleepConfig, *, control: Control, stream: Stream, **settings: Any) -> None:
        if control.whole_night:
            config = config.changed(settle=False, level=False, balance_gate=False)
        super().__init__(config, **settings)
        self.reasons: list[str] = []
        self._control, self._stream = control, stream
        self._strategy: Any = None

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Note whose images are the current ones, and sleep."""
        self._strategy = strategy
        try:
            super().after_training_exp(strategy, *args, **kwargs)
        finally:
            self._strategy = None

    def _pass_night(self, head: Head, training: TrainingSummary) -> SleepReport:
        with self._controlled(self._look(head)):
            return super()._pass_night(head, training)

    def _look(self, head: Head) -> Current:
        """Return what the current experience showed, all its images once more."""
        experience = self._strategy.experience
        rows = torch.as_tensor(list(experience.dataset.rows))
        images = self._stream.train_images.take(rows)[0]
        new = tuple(sorted(int(label) for label in experience.classes_in_this_experience))
        old = tuple(sorted({int(label) for label in experience.classes_seen_so_far} - set(new)))
        return Current(head_inputs(self._strategy.model, head, images, device="cpu"), head.hidden, new, old)

    @contextmanager
    def _controlled(self, current: Current) -> Iterator[None]:
        """While this lasts, sleeps of either engine are the control.

        `stages.pass_night` looks `_sleep` up when it needs it, and all else of the night stays what it is.
        """
        real = stages._sleep

        def instead(evening: Evening, generator: np.random.Generator) -> tuple[HeadState, Any, dict[str, str]]:
            drawn = copy.deepcopy(generator)
            slept: HeadState = evening.trained
            report: Any = None
            skipped: dict[str, str] = {}
            if (
                not self._control.whole_night
            ):  # else nothing is drawn after it, so that the sleep itself need not be computed
                slept, report, skipped = real(evening, generator)  # later nights draw what they would have drawn

            def again(state: HeadState, mean: NDArray[np.float64]) -> HeadState:
                other = replace(evening, trained=state, training=replace(evening.training, mean=mean))
                return real(other, copy.deepcopy(drawn))[0]

            given = Given(
                trained=evening.trained,
                slept=slept,
                mean=evening.training.mean,
                again=again,
                seed=(len(self.reports), 20221215),
                gated=evening.config.simulates and evening.config.simulation.gate_width is not None,
                simulated=evening.config.simulates,
                current=current,
            )
            self.reasons.append(self._control.why_not(given))
            state = evening.trained if self.reasons[-1] else self._control.act(given)
            return state, report, skipped

        with patch.object(stages, "_sleep", instead):
            yield


def explain_controls(config: RunConfig, *, seed: int, data: Dataset) -> dict[str, Any]:
    """Learn one stream again and again, with each control in the place of every sleep.

    Args:
        config: What is run; its images are measured on as `measured_on_held_out` says.
        seed: Of everything, the same for every control.
        data: The images.

    Returns:
        A record, as JSON holds it: of each control accuracy over all classes at the end, over the seen ones after each
        night, or why it has no meaning here, or that weights were no longer finite.
    """
    started = time.perf_counter()
    config = measured_on_held_out(config)
    found: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for name in NAMES:
        told, reason, stream = _follow(config, name, seed=seed, data=data)
        if reason:
            skipped[name] = reason
        else:
            found[name] = told
    record: dict[str, Any] = finite(
        {
            "schema": 1,
            "kind": "controls",
            "config_name": config.name,
            "config": resolve(config, "naive+src"),
            "seed": seed,
            "class_order": stream.class_order,
            "held_out": stream.n_test,
            "controls": found,
            "skipped": skipped,
            "features": data.provenance,
            "seconds": time.perf_counter() - started,
            **made_here(),
        }
    )
    return record


def _follow(config: RunConfig, name: str, *, seed: int, data: Dataset) -> tuple[dict[str, Any], str, Stream]:
    """Return what one stream gave, and why its control was left out of every night; "" if it was not."""
    made: list[ControlledSRC] = []
    seen: list[float] = []
    rows: list[list[float]] = []

    def sleeper(stream: Stream, sleep: SleepConfig, **settings: Any) -> SRCPlugin:
        made.append(ControlledSRC(sleep, control=CONTROLS[name], stream=stream, **settings))
        return made[-1]

    def after(i: int, stream: Stream, learner: Any) -> None:
        check_trained(learner.model)  # where a control made it diverge, the plugin would only stay awake
        rows.append(next(iter(measure(learner, stream.tests_after(i)).values())))
        n = len(stream.n_test) if i + 1 == len(stream.train_stream) else i + 1
        seen.append(pooled_accuracy(rows[-1][:n], stream.n_test[:n]))

    stream = build_stream(config.stream, data=data, seed=seed)  # where learning ends early
    try:
        stream = learn(config, seed=seed, data=data, sleeper=None if name == NAIVE else sleeper, after=after)
    except WeightsError as error:
        return {"diverged": str(error), "seen": seen}, "", stream
    reasons = made[0].reasons if made else []
    reason = reasons[-1] if reasons and all(reasons) else ""
    told = {"final": pooled_accuracy(rows[-1], stream.n_test), "seen": seen, "last": rows[-1]}
    if made:
        told["decisions"] = [report.decision for report in made[0].reports]
    return told, reason, stream


def with_sleep(config: RunConfig, preset: str | None) -> RunConfig:
    """Return a config with another preset for its sleep, and that in its name; None leaves it as it is."""
    if preset is None or preset == config.sleep.preset:
        return config
    section = SleepSection(preset=preset)
    section.build()
    return config.model_copy(update={"sleep": section, "name": f"{config.name}-{preset.replace('/', '_')}"})
