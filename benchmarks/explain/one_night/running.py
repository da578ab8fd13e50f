"""The last night of a stream, by twentieths -> one record."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from benchmarks.configs.run import RunConfig, resolve
from benchmarks.data.dataset import Dataset
from benchmarks.explain.layers import describe_layers
from benchmarks.explain.nights import Asleep, Night, pass_again, simulate_again
from benchmarks.explain.one_night.recording import Recording
from benchmarks.explain.origin import made_here
from benchmarks.explain.running import Accuracy, accuracy_after, held_out, learn, removal_of, watching
from benchmarks.records.record import finite
from benchmarks.streams.stream import Stream
from src_plugin.config import ClosedForm, by_depth
from src_plugin.errors import ConfigError
from src_plugin.head.state import HeadState
from src_plugin.night.closed_form import fractions_of_steps, inhibit
from src_plugin.night.stimulus import spike_probability

N_PARTS, N_SHOWN, N_UNITS = 20, 100, 40
"""Parts of the night, steps of a raster, and units of a layer in it, those that fire most."""


def explain_one_night(config: RunConfig, *, seed: int, data: Dataset) -> dict[str, Any]:
    """Learn a stream with simulated nights, and look at its last night by twentieths.

    Args:
        config: What is run; changed by `held_out`.
        seed: Of everything.
        data: The images.

    Returns:
        A record, as JSON holds it.

    Raises:
        ConfigError: The last night had no sleep to look at.
    """
    started = time.perf_counter()
    config = held_out(config)
    told: list[dict[str, Any]] = []

    def show(night: Night, stream: Stream, strategy: Any) -> None:
        i = strategy.experience.current_experience
        if i + 1 == len(stream.train_stream):
            told.append(look_at(night, accuracy_after(i, stream, strategy, night), name=config.name))

    stream = learn(config, seed=seed, data=data, sleeper=watching(show))
    if not told:
        raise ConfigError(f"{config.name}: no night was passed, so there is none to look at; choose another stream")
    found: dict[str, Any] = finite(
        {
            "schema": 1,
            "kind": "night",
            "config_name": config.name,
            "config": resolve(config, "naive+src"),
            "seed": seed,
            "class_order": stream.class_order,
            "held_out": stream.n_test,
            "night": len(stream.train_stream),
            **told[0],
            "features": data.provenance,
            "seconds": time.perf_counter() - started,
            **made_here(),
        }
    )
    return found


def look_at(night: Night, accuracy: Accuracy, *, name: str) -> dict[str, Any]:
    """Go through a night once more, and tell it part by part.

    Args:
        night: The night.
        accuracy: Of parameters, over all that was seen.
        name: Of the config, for people.

    Raises:
        ConfigError: A gate or zero steps left the sleep out.
    """
    n_steps = night.config.simulation.steps_at(night.training.index)
    n_shown = min(N_SHOWN, n_steps // 2)
    shown = [range(n_shown), range(n_steps - n_shown, n_steps)]
    recording = Recording(n_steps, n_parts=min(N_PARTS, max(1, n_steps)), shown=shown if n_shown else [])
    with recording.listening():
        _, asleep, report = simulate_again(night)
    if asleep is None:
        raise ConfigError(f"{name}: the last night had no sleep to look at: {report.reason}; choose another stream")
    parts = [_part(night, asleep, recording, k, accuracy) for k in range(len(recording.ends))]
    evening = {"slept": accuracy(night.trained), "morning": accuracy(pass_again(night, night.trained)[0])}
    return {
        "steps": n_steps,
        "sizes": list(night.head.sizes),
        "thresholds": asleep.rule["thresholds"],
        "scales": asleep.rule["scales"],
        "strength": asleep.strength,
        "evening": evening,
        "parts": parts,
        "rasters": [_raster(r, spikes) for r, spikes in zip(recording.shown, recording.spikes, strict=True)],
    }


def _part(night: Night, asleep: Asleep, recording: Recording, k: int, accuracy: Accuracy) -> dict[str, Any]:
    """Tell the state after a part of the night, and what the closed form makes of as much of it."""
    end, start = recording.ends[k], recording.ends[k - 1] if k else 0
    now = night.trained.with_weights([torch.from_numpy(w) for w in recording.weights[k]])
    mean = torch.from_numpy(night.mean).to(night.trained.weights[0])
    whole, part = removal_of(night, asleep), end / recording.ends[-1]
    if whole is None:  # a part of what is left is taken in each step, so it decays
        shares = by_depth(ClosedForm().fractions, len(night.trained.weights))
        fractions = [1 - (1 - share) ** part for share in shares]
    else:
        fractions = fractions_of_steps(night.trained, mean, [part * amount for amount in whole])
    closed = inhibit(night.trained, mean, fractions)
    probability = torch.from_numpy(spike_probability(night.mean, night.config.simulation))
    layers = describe_layers(night.trained, now, probability)
    return {
        "step": end,
        "rates": [float(counts.mean()) / (end - start) for counts in recording.counts[k]],
        "change": [layer.norm / float(w.norm()) for layer, w in zip(layers, night.trained.weights, strict=True)],
        "fractions": [layer.fraction for layer in layers],
        "closed_fractions": fractions,
        **{key: _both(night, state, accuracy) for key, state in (("simulated", now), ("closed", closed.state))},
    }


def _both(night: Night, state: HeadState, accuracy: Accuracy) -> dict[str, float]:
    """Return accuracy right after the sleep, and in the morning, after settling and levelling."""
    return {"slept": accuracy(state), "morning": accuracy(pass_again(night, state)[0])}


def _raster(steps: range, spikes: list[Any]) -> dict[str, Any]:
    """Return the spikes of the units of each layer that fire most: numbers of steps for each unit."""
    layers = []
    for layer in spikes:
        busiest = np.argsort(-layer.sum(0), kind="stable")[:N_UNITS]
        layers.append([[steps.start + int(step) for step in np.flatnonzero(layer[:, unit])] for unit in busiest])
    return {"first": steps.start, "last": steps.stop - 1, "layers": layers}
