"""The same stream with heads of one to six hidden layers, and one task trained little to well -> one record."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.configs.run import RunConfig, resolve
from benchmarks.data.dataset import Dataset
from benchmarks.explain.nights import Night
from benchmarks.explain.origin import made_here
from benchmarks.explain.running import accuracy_after, learn, measured_on_held_out, watching
from benchmarks.records.metrics import pooled_accuracy
from benchmarks.records.record import finite
from benchmarks.runs.measuring import measure
from benchmarks.streams.stream import Stream
from src_plugin.errors import ConfigError
from src_plugin.head.state import HeadState

DEPTHS = (1, 2, 3, 4, 5, 6)
"""Numbers of hidden layers."""

TRAINED = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000)
"""Images of the single task, those of them that there are."""


def explain_depth(config: RunConfig, *, seed: int, data: Dataset) -> dict[str, Any]:
    """Learn a stream with heads of each depth, with and without sleep, and one task from more and more images.

    Args:
        config: What is run; hidden layers are as wide as its first one, and `measured_on_held_out` applies.
        seed: Of everything.
        data: The images.

    Returns:
        A record, as JSON holds it.

    Raises:
        ConfigError: There is no hidden layer, or the sleep has thresholds for one depth alone.
    """
    started = time.perf_counter()
    config = measured_on_held_out(config)
    check_depths(config)
    found: dict[str, Any] = finite(
        {
            "schema": 1,
            "kind": "depth",
            "config_name": config.name,
            "config": resolve(config, "naive+src"),
            "seed": seed,
            "depths": {str(depth): _deep(config, depth, seed=seed, data=data) for depth in DEPTHS},
            "trained": _trained(config, seed=seed, data=data),
            "features": data.provenance,
            "seconds": time.perf_counter() - started,
            **made_here(),
        }
    )
    return found


def check_depths(config: RunConfig) -> None:
    """Refuse what cannot be made at every depth.

    Raises:
        ConfigError: It says why.
    """
    if not config.model.hidden:
        raise ConfigError(f"{config.name}: there is no hidden layer whose width to take; give model.hidden, e.g. [200]")
    sleep = config.sleep.build()
    if sleep.simulates and sleep.simulation.thresholds is not None:
        raise ConfigError(
            f"{config.name}: the sleep has thresholds for {len(sleep.simulation.thresholds)} layers, and heads of "
            f"{DEPTHS[0]} to {DEPTHS[-1]} hidden layers need others; take --sleeps auto or src_only"
        )


def cosine(a: HeadState, b: HeadState) -> float:
    """Return the cosine similarity of all weights of two heads."""
    ours, theirs = (torch.cat([w.flatten().double() for w in state.weights]) for state in (a, b))
    return float(ours @ theirs / (ours.norm() * theirs.norm()))


def _deep(config: RunConfig, depth: int, *, seed: int, data: Dataset) -> dict[str, Any]:
    """Return what one depth gives.

    Returns:
        `naive` and `slept`: accuracy over all classes at the end. `newest`: accuracy on the classes just learnt, before
        each night, mean. `cosine`: to the head trained on task 1 alone, before and after each later night, mean.
    """
    hidden = [config.model.hidden[0]] * depth
    config = config.model_copy(update={"model": config.model.model_copy(update={"hidden": hidden})})
    first: list[HeadState] = []
    cosines: list[tuple[float, float]] = []
    newest: list[float] = []
    final: dict[str, float] = {}

    def show(night: Night, stream: Stream, strategy: Any) -> None:
        i = strategy.experience.current_experience
        morning = night.head.read()
        night.head.write(night.trained)
        newest.append(next(iter(measure(strategy, stream.tests_after(i)[i : i + 1]).values()))[0])
        night.head.write(morning)
        if i == 0:
            first.append(night.trained)
        else:
            cosines.append((cosine(night.trained, first[0]), cosine(morning, first[0])))

    def after(name: str) -> Any:
        def note(i: int, stream: Stream, learner: Any) -> None:
            if i + 1 == len(stream.train_stream):
                row = next(iter(measure(learner, stream.tests_after(i)).values()))
                final[name] = pooled_accuracy(row, stream.n_test)

        return note

    learn(config, seed=seed, data=data, sleeper=None, after=after("naive"))
    learn(config, seed=seed, data=data, sleeper=watching(show), after=after("slept"))
    means = torch.tensor(cosines, dtype=torch.float64).reshape(-1, 2).mean(0).tolist()
    return {**final, "newest": sum(newest) / len(newest), "cosine": means}


def _trained(config: RunConfig, *, seed: int, data: Dataset) -> dict[str, list[float]]:
    """Return accuracy before and after a sleep, when all classes were one task of so many images."""
    found: dict[str, list[float]] = {}
    for n in TRAINED:
        one = {"n_experiences": 1, "samples_per_experience": n, "class_order": "fixed"}
        single = config.model_copy(update={"stream": config.stream.model_copy(update=one)})

        def show(night: Night, stream: Stream, strategy: Any, n: int = n) -> None:
            accuracy = accuracy_after(0, stream, strategy, night)
            found[str(n)] = [accuracy(night.trained), accuracy(night.head.read())]

        stream = learn(single, seed=seed, data=data, sleeper=watching(show))
        if len(stream.train_images) < n:  # those were all there are
            found[str(len(stream.train_images))] = found.pop(str(n))
            break
    return found
