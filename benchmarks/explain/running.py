"""One stream with simulated nights, and each night again with something else in the place of its sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.configs.run import RunConfig, resolve
from benchmarks.data.dataset import Dataset
from benchmarks.explain.controls.rows import IN_PLACE, SIMULATED, Given, replaced
from benchmarks.explain.layers import describe_layers
from benchmarks.explain.nights import Asleep, Night, NightWatch, pass_again, simulate_again
from benchmarks.explain.origin import made_here
from benchmarks.explain.predicting import predict
from benchmarks.records.metrics import pooled_accuracy
from benchmarks.records.record import finite
from benchmarks.runs.measuring import measure
from benchmarks.runs.models import LOSSES, build_model, build_optimizer
from benchmarks.runs.runner import SeenClasses, seed_everything
from benchmarks.streams.batches import WholeBatches
from benchmarks.streams.stream import Stream, build_stream
from src_plugin.config import ClosedForm, SleepConfig, by_depth
from src_plugin.errors import ConfigError
from src_plugin.head.state import HeadState
from src_plugin.night.stimulus import spike_probability
from src_plugin.plugin import SRCPlugin
from strategies import TrainingSetup, build_strategy

After = Callable[[int, Stream, Any], None]
"""Called with the number of an experience that is over, the stream, and the strategy."""

Show = Callable[[Night, Stream, Any], None]
"""Called with each night, once it is over, the stream, and the strategy."""

Accuracy = Callable[[HeadState], float]
"""Measures parameters of the head."""

Sleeper = Callable[..., SRCPlugin]
"""Makes the plugin that sleeps: of the stream, a `SleepConfig`, and the settings of SRCPlugin."""


def watching(show: Show) -> Sleeper:
    """Return what makes a plugin that shows each night."""

    def make(stream: Stream, config: SleepConfig, **settings: Any) -> SRCPlugin:
        return NightWatch(config, show=lambda night, strategy: show(night, stream, strategy), **settings)

    return make


def measured_on_held_out(config: RunConfig) -> RunConfig:
    """Return a config that is measured on held-out training images.

    Raises:
        ConfigError: It is one that no night could be shown of.
    """
    if config.stream.task_labels or config.stream.permutations or config.stream.then:
        raise ConfigError(f"{config.name}: explain takes class-incremental streams with one head for all classes")
    if config.backbone is not None and not config.backbone.cached:
        raise ConfigError(f"{config.name}: explain takes features that are kept, backbone.cached: true")
    return config.model_copy(update={"stream": config.stream.model_copy(update={"validation": True})})


def held_out(config: RunConfig) -> RunConfig:
    """Return a config whose sleep is simulated, and that is measured on held-out training images.

    Raises:
        ConfigError: It is one that no night could be shown of.
    """
    config = measured_on_held_out(config)
    sleep = config.sleep
    if not sleep.build().simulates:
        sleep = sleep.model_copy(update={"set": {**sleep.set, "engine": "simulated"}})
        sleep.build()
    return config.model_copy(update={"sleep": sleep})


def learn(
    config: RunConfig, *, seed: int, data: Dataset, sleeper: Sleeper | None, after: After = lambda *_: None
) -> Stream:
    """Learn a stream as `naive`, or with a sleeper as `naive+src`, does in `benchmarks.runs.runner.run`.

    Args:
        config: See `measured_on_held_out`.
        seed: Of everything.
        data: The images.
        sleeper: Makes the plugin that sleeps; None sleeps never.
        after: Called after each experience.
    """
    stream = build_stream(config.stream, data=data, seed=seed)
    seed_everything(seed)
    model = build_model(config.model, n_inputs=data.n_inputs, n_classes=data.n_classes)
    setup = TrainingSetup(
        model=model,
        optimizer=build_optimizer(config.training, model.parameters()),
        criterion=LOSSES[config.training.loss](),
        batch_size=config.training.batch_size,
        epochs=config.training.epochs,
        n_images=len(stream.train_images),
        n_classes=data.n_classes,
        n_experiences=len(stream.classes),
        seed=seed,
    )
    learner = build_strategy("naive", setup)
    if sleeper is not None:
        reference = None
        if config.sleep.reference == "seen_classes":
            reference = SeenClasses(stream.data, scales=stream.scales, device="cpu")
        sleep = config.sleep
        learner.plugins.append(sleeper(stream, sleep.build(), seed=seed, every=sleep.every, reference=reference))
    learner.plugins.append(WholeBatches(stream.train_images))
    for i, experience in enumerate(stream.train_stream):
        learner.train(experience)
        after(i, stream, learner)
    return stream


def explain(config: RunConfig, *, seed: int, data: Dataset) -> dict[str, Any]:
    """Learn a stream, and go through each of its nights with everything that may stand in the place of the sleep.

    The stream itself goes on from the simulated night.

    Args:
        config: What is run; changed by `held_out`.
        seed: Of everything.
        data: The images.

    Returns:
        A record, as JSON holds it: of each night its layers, and accuracy over seen classes right after it.
    """
    started = time.perf_counter()
    config = held_out(config)
    nights: list[dict[str, Any]] = []

    def show(night: Night, stream: Stream, strategy: Any) -> None:
        i = strategy.experience.current_experience
        nights.append({"experience": i, **explain_night(night, accuracy=accuracy_after(i, stream, strategy, night))})

    stream = learn(config, seed=seed, data=data, sleeper=watching(show))
    found: dict[str, Any] = finite(
        {
            "schema": 1,
            "config_name": config.name,
            "config": resolve(config, "naive+src"),
            "seed": seed,
            "class_order": stream.class_order,
            "held_out": stream.n_test,
            "nights": nights,
            "features": data.provenance,
            "seconds": time.perf_counter() - started,
            **made_here(),
        }
    )
    return found


def accuracy_after(i: int, stream: Stream, strategy: Any, night: Night) -> Accuracy:
    """Return what measures parameters on held-out images of the classes seen so far."""
    tests = stream.tests_after(i)
    n = len([test for test in tests if int(test.labels[0]) in _seen(strategy)])

    def accuracy(state: HeadState) -> float:
        now = night.head.read()
        night.head.write(state)
        try:
            row = next(iter(measure(strategy, tests[:n]).values()))
        finally:
            night.head.write(now)
        return pooled_accuracy(row, stream.n_test[:n])

    return accuracy


def _seen(strategy: Any) -> set[int]:
    return set(strategy.experience.classes_seen_so_far)


def explain_night(night: Night, *, accuracy: Accuracy) -> dict[str, Any]:
    """Return what a night did, layer by layer, and how right the head is after it and after others in its place.

    Args:
        night: The night.
        accuracy: Of parameters, over all that was seen.
    """
    morning, asleep, report = simulate_again(night)
    after = accuracy(morning)
    told: dict[str, Any] = {
        "old_classes": len(night.training.classes.old),
        "decision": report.decision,
        "reason": report.reason,
        "strength": 0.0 if asleep is None else asleep.strength,
        "kept_fraction": report.kept_fraction,
        "evening": accuracy(night.trained),
        "layers": [],
    }
    if asleep is None:  # a gate left the sleep out, so there is nothing to replace
        return {**told, "accuracy": dict.fromkeys(IN_PLACE, after)}
    removal = removal_of(night, asleep)
    states = replaced(
        Given(
            trained=night.trained,
            slept=asleep.state,
            mean=night.mean,
            again=asleep.again,
            seed=(night.training.index, 20221215),
            gated=night.config.simulation.gate_width is not None,
            removal=removal,
        )
    )
    found = {SIMULATED: after}
    for name, state in states.items():
        if name != SIMULATED:
            found[name] = accuracy(pass_again(night, state)[0])
    return {
        **told,
        "steps": asleep.n_steps,
        "rates": asleep.rule["rates"],
        "removal": {"night": removal},
        "fractions": ClosedForm().fractions,
        "layers": _layers(night, asleep),
        "accuracy": {name: found[name] for name in states},
    }


def removal_of(night: Night, asleep: Asleep) -> tuple[float, ...] | None:
    """Return what the night's own step sizes are for `fractions_of_steps`; None where they were given, not measured."""
    if night.config.simulation.dec is not None or night.config.simulation.gate_width is not None:
        return None
    shares = by_depth(night.config.simulation.depression, len(night.head.layers))
    return tuple(asleep.strength * share for share in shares)


def _layers(night: Night, asleep: Asleep) -> list[dict[str, Any]]:
    """Return what the sleep did to each layer, and the fractions that formulas predict of it."""
    probability = spike_probability(night.mean, night.config.simulation)
    layers = [x.to_dict() for x in describe_layers(night.trained, asleep.state, torch.from_numpy(probability))]
    if night.config.simulation.gate_width is not None or night.config.simulation.thresholds is not None:
        return layers  # the formulas are those of the ungated rule, with calibrated rates
    predicted = predict(night.trained, probability, asleep.rule, n_steps=asleep.n_steps, config=night.config.simulation)
    return [{**layer, "predicted": {k: v[i] for k, v in predicted.items()}} for i, layer in enumerate(layers)]
