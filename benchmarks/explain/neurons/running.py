"""The last night of a stream, looked at by the neurons of each class -> one record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import ttest_ind  # type: ignore[import-untyped]
from torch import Tensor

from benchmarks.configs.run import RunConfig, resolve
from benchmarks.data.dataset import Dataset
from benchmarks.explain.neurons.testing import subset_p, two_groups_p
from benchmarks.explain.nights import Asleep, Night, simulate_again
from benchmarks.explain.origin import made_here
from benchmarks.explain.running import accuracy_after, held_out, learn, watching
from benchmarks.explain.shown import hidden_answers, shown_by_class
from benchmarks.records.record import finite
from benchmarks.streams.stream import Stream
from src_plugin.errors import ConfigError
from src_plugin.head.state import Head, HeadState
from src_plugin.kernel import simulate
from src_plugin.night.stimulus import draw_spikes, spike_probability, stimulus_chunks

N_IMAGES, N_PASSES, N_TOP = 50, 25, 100
"""Images of each class, steps of the spiking network for each of them, and neurons of a class."""

SMALLEST_PART = 4
"""Neurons of a class are at most one in so many of a layer, or all classes would have the same."""

SLEEP_SEED = 20221215

Counts = NDArray[np.int64]


def explain_neurons(config: RunConfig, *, seed: int, data: Dataset) -> dict[str, Any]:
    """Learn a stream with simulated nights, and look at the neurons of each class in its last one.

    Args:
        config: What is run; changed by `held_out`.
        seed: Of everything.
        data: The images.

    Returns:
        A record, as JSON holds it.

    Raises:
        ConfigError: There is no hidden layer, or the last night had no sleep or no old classes.
    """
    started = time.perf_counter()
    config = held_out(config)
    if not config.model.hidden:
        raise ConfigError(f"{config.name}: there is no hidden layer to look at; give model.hidden, e.g. [200, 200]")
    told: list[dict[str, Any]] = []

    def show(night: Night, stream: Stream, strategy: Any) -> None:
        i = strategy.experience.current_experience
        if i and i + 1 == len(stream.train_stream):
            told.append(look_at(night, stream, strategy, name=config.name, seed=seed))

    learn(config, seed=seed, data=data, sleeper=watching(show))
    if not told:
        raise ConfigError(f"{config.name}: there is no night after old classes; give the stream two experiences")
    record: dict[str, Any] = finite(
        {
            "schema": 1,
            "kind": "neurons",
            "config_name": config.name,
            "config": resolve(config, "naive+src"),
            "seed": seed,
            "images": N_IMAGES,
            "passes": N_PASSES,
            **told[0],
            "features": data.provenance,
            "seconds": time.perf_counter() - started,
            **made_here(),
        }
    )
    return record


def look_at(night: Night, stream: Stream, strategy: Any, *, name: str, seed: int) -> dict[str, Any]:
    """Tell the last night by the neurons of each class.

    Raises:
        ConfigError: A gate or zero steps left the sleep out.
    """
    i = strategy.experience.current_experience
    morning = night.head.read()
    accuracy = accuracy_after(i, stream, strategy, night)
    _, asleep, report = simulate_again(night)
    if asleep is None:
        raise ConfigError(f"{name}: the last night had no sleep to look at: {report.reason}; choose another stream")
    new = stream.classes[i]
    old = [label for group in stream.classes[:i] for label in group]
    never = [label for label in range(stream.data.n_classes) if label not in (*old, *new)]
    kinds = {**dict.fromkeys(old, "old"), **dict.fromkeys(new, "new"), **dict.fromkeys(never, "never")}
    shown = shown_by_class(i, stream, strategy.model, night.head, classes=list(kinds), most=N_IMAGES)
    answered = {
        label: spikes_for(inputs, night, asleep, seed=[SLEEP_SEED, seed, label]) for label, inputs in shown.items()
    }
    inputs = [inputs_of(night.head, state, shown) for state in (night.trained, morning)]
    slept = uniform_sleep(night, asleep, seed=[SLEEP_SEED, seed])
    layers = []
    for k, counts in enumerate(slept):
        by_class = {label: spikes[k] for label, spikes in answered.items()}
        layers.append(_layer(counts, by_class, kinds, [stage[k] for stage in inputs]))
    return {
        "steps": asleep.n_steps,
        "accuracy": [accuracy(night.trained), accuracy(morning)],
        "classes": {str(label): kind for label, kind in kinds.items()},
        "layers": layers,
    }


def spikes_for(inputs: Tensor, night: Night, asleep: Asleep, *, seed: list[int]) -> list[Counts]:
    """Return the spikes of each hidden unit while the network spikes for images, 25 steps each, weights held still.

    Potentials are at rest before the first image only: thresholds of a sleep are for hundreds of steps.
    """
    generator = np.random.default_rng(seed)
    simulation = night.config.simulation
    drawn = []
    for image in inputs.clamp(min=0.0).double().numpy():
        probability = spike_probability(image, simulation) if image.any() else image
        drawn.append(draw_spikes(probability, n_steps=N_PASSES, generator=generator))
    return _spikes(night.trained, np.concatenate(drawn), night, asleep, plastic=False)[0]


def uniform_sleep(night: Night, asleep: Asleep, *, seed: list[int]) -> list[Counts]:
    """Return the spikes of each hidden unit in a sleep like the night's own, driven by the same mean on every input."""
    simulation = night.config.simulation
    probability = spike_probability(np.full_like(night.mean, night.mean.mean()), simulation)
    generator = np.random.default_rng(seed)
    total: list[Counts] = []
    state, potentials = night.trained, None
    for chunk in stimulus_chunks(probability, n_steps=asleep.n_steps, generator=generator, patch=simulation.patch):
        counts, state, potentials = _spikes(state, chunk, night, asleep, plastic=True, potentials=potentials)
        total = counts if not total else [a + b for a, b in zip(total, counts, strict=True)]
    return total


def _spikes(
    state: HeadState, spikes: Any, night: Night, asleep: Asleep, *, plastic: bool, potentials: Any = None
) -> tuple[list[Counts], HeadState, Any]:
    rule, simulation = asleep.rule, night.config.simulation
    trace = simulate(
        [w.numpy() for w in state.weights],
        spikes,
        scales=rule["scales"],
        thresholds=rule["thresholds"],
        inc=rule["inc"] if plastic else 0.0,
        dec=rule["dec"] if plastic else 0.0,
        decay=simulation.decay,
        gate_width=simulation.gate_width,
        inhibition=simulation.inhibition,
        state=potentials,
    )
    hidden = [np.asarray(counts) for counts in trace.spike_counts[1:-1]]
    return hidden, state.with_weights([torch.from_numpy(w) for w in trace.weights]), trace.potentials


def inputs_of(head: Head, state: HeadState, shown: Mapping[int, Tensor]) -> list[dict[int, NDArray[np.float64]]]:
    """Return the mean input of each hidden unit for images of each class, awake: layer by layer, label -> (n_l,)."""
    now = head.read()
    head.write(state)
    try:
        found: list[dict[int, NDArray[np.float64]]] = [{} for _ in state.weights[:-1]]
        for label, inputs in shown.items():
            passed = [inputs, *hidden_answers(head, inputs)]
            for k, (weight, bias) in enumerate(zip(state.weights[:-1], state.biases[:-1], strict=True)):
                found[k][label] = F.linear(passed[k].to(weight), weight, bias).double().mean(0).numpy()
        return found
    finally:
        head.write(now)


def top_of(counts: Counts) -> NDArray[np.intp]:
    """Return the units that fire most, 100 or one in four of the layer, or all that fire; of equal ones the first."""
    most = min(N_TOP, len(counts) // SMALLEST_PART)
    top = np.argsort(-counts, kind="stable")[:most]
    return top[counts[top] > 0]


def _layer(
    counts: Counts,
    answered: Mapping[int, Counts],
    kinds: Mapping[int, str],
    inputs: list[dict[int, NDArray[np.float64]]],
) -> dict[str, Any]:
    """Return what a hidden layer's neurons of each class do; `counts` are its spikes in the uniform sleep."""
    tops = {label: top_of(spikes) for label, spikes in answered.items()}
    learnt = [label for label, kind in kinds.items() if kind != "never"]
    told = {}
    for label, top in tops.items():
        others = {int(unit) for other in learnt if other != label for unit in tops[other]}
        told[str(label)] = {
            "n": len(top),
            "shared": float(np.mean([int(unit) in others for unit in top])) if len(top) else None,
            "input": [float(stage[label][top].mean()) if len(top) else None for stage in inputs],
            "spikes": float(counts[top].mean()) if len(top) else None,
            "p": subset_p(counts, counts[top]) if len(top) else None,
        }
    return {
        "n_units": len(counts),
        "asked": min(N_TOP, len(counts) // SMALLEST_PART),
        "spikes": float(counts.mean()),
        "by_class": told,
        "new_old": _new_and_old(counts, tops, kinds),
    }


def _new_and_old(
    counts: Counts, tops: Mapping[int, NDArray[np.intp]], kinds: Mapping[int, str]
) -> dict[str, Any] | None:
    """Compare neurons of new and of old classes, those of both left out; None where fewer than two are left."""
    of = {kind: {int(u) for label, top in tops.items() if kinds[label] == kind for u in top} for kind in ("new", "old")}
    new, old = (counts[sorted(of[kind] - of[other])] for kind, other in (("new", "old"), ("old", "new")))
    if min(len(new), len(old)) < 2 or len({*new, *old}) < 2:
        return None
    test = ttest_ind(new, old)
    return {
        "n": [len(new), len(old)],
        "spikes": [float(new.mean()), float(old.mean())],
        "t": float(test.statistic),
        "p_t": float(test.pvalue),
        "p_exact": two_groups_p(new, old),
    }
