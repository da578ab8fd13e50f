"""How well formulas predict a simulated sleep: one head, a grid of step sizes, input spikes, leaks and depths."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.configs.run import RunConfig, resolve
from benchmarks.data.dataset import Dataset
from benchmarks.explain.layers import describe_layers
from benchmarks.explain.nights import Night
from benchmarks.explain.origin import made_here
from benchmarks.explain.predicting import integrate, predict, rest_alike
from benchmarks.explain.running import held_out, learn, watching
from benchmarks.records.record import finite
from src_plugin.config import SleepConfig, by_depth
from src_plugin.night.replay import replay
from src_plugin.night.stimulus import spike_probability

SPIKES = (2.0, 8.0, 32.0, 128.0)
DEPTHS = (0.05, 0.2, 0.4, 0.8, 1.6)
LEAKS = (0.9, 0.99, 0.999, 1.0)
USUAL_LEAK, USUAL_DEPTH = 0.999, 0.2
MANY = (2.0, 8.0, 32.0, 64.0, 128.0, 200.0, 300.0, 500.0, 1000.0, 3000.0, 1e5)
"""Expected input spikes for the turn of the sign; the last makes every input that is ever active spike in each step."""

POTENTIATION = {"default": 1.0, "as strong as depression": None}
"""Steps of potentiation, as a factor on the usual ones; None makes them those of depression."""


def grid() -> Iterator[dict[str, Any]]:
    """Yield the settings: spikes, depth and leak against each other, then many spikes at two step sizes."""
    for spikes, depth, decay in product(SPIKES, DEPTHS, LEAKS):
        yield {"part": "grid", "spikes": spikes, "depth": depth, "decay": decay, "potentiation": "default"}
    for name, spikes in product(POTENTIATION, MANY):
        yield {"part": "spikes", "spikes": spikes, "depth": USUAL_DEPTH, "decay": USUAL_LEAK, "potentiation": name}


def config_of(setting: dict[str, Any], mean: NDArray[np.float64]) -> SleepConfig:
    """Return the sleep of a setting for a mean input; the share of inputs that may spike is not bounded."""
    usual = SleepConfig(engine="simulated")
    factor = POTENTIATION[setting["potentiation"]]
    first, between, output = usual.potentiation
    up = usual.depression if factor is None else (factor * first, factor * between, factor * output)
    return replace(
        usual,
        max_rate=setting["spikes"] / (2.0 * usual.dt * float(mean.sum())),
        depth=setting["depth"],
        decay=setting["decay"],
        potentiation=up,
    )


def predict_grid(config: RunConfig, *, seed: int, data: Dataset) -> dict[str, Any]:
    """Learn a stream, and let the head of its last evening sleep under every setting of the grid, one by one.

    Args:
        config: What is run.
        seed: Of everything.
        data: The images.

    Returns:
        A record, as JSON holds it: of each setting and layer what was measured and predicted.
    """
    started = time.perf_counter()
    config = held_out(config)
    nights: list[Night] = []
    learn(config, seed=seed, data=data, sleeper=watching(lambda night, *_: nights.append(night)))
    found: dict[str, Any] = finite(
        {
            "schema": 1,
            "config_name": config.name,
            "config": resolve(config, "naive+src"),
            "seed": seed,
            "settings": [{**setting, **compare(nights[-1], config_of(setting, nights[-1].mean))} for setting in grid()],
            "seconds": time.perf_counter() - started,
            **made_here(),
        }
    )
    return found


def compare(night: Night, config: SleepConfig) -> dict[str, Any]:
    """Let a head sleep, and predict what that does.

    Args:
        night: Whose head sleeps, from its own draws.
        config: How; simulated, calibrated, ungated, with a given depth.

    Returns:
        Rates, and of each layer what `describe_layers` says, the predicted fractions ("predicted"), and how alike what
        is left without the means of units is, by the mean field without and with "own" inputs ("rest_alike").
    """
    n_steps, trained = config.steps_at(0), night.trained
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no unit of the head fired")  # an answer, too
        training = replace(night.training, inputs=None, index=0)
        asleep = replay(
            night.head, trained, training, replace(config, first_gate=False), copy.deepcopy(night.generator)
        )
    slept, rule = asleep.state, asdict(asleep.report)
    probability = spike_probability(night.mean, config)
    layers = describe_layers(trained, slept, torch.from_numpy(probability))
    predicted = predict(trained, probability, rule, n_steps=n_steps, config=config)
    alike = {
        name: rest_alike(
            trained, slept, integrate(trained, probability, rule, n_steps=n_steps, decay=config.decay, own=own)
        )
        for name, own in (("inputs", False), ("own", True))
    }
    return {
        "expected_rates": list(by_depth(config.target_rates, len(layers))),
        "rates": rule["rates"],
        "layers": [
            {
                **layer.to_dict(),
                "predicted": {k: v[i] for k, v in predicted.items()},
                "rest_alike": {k: v[i] for k, v in alike.items()},
            }
            for i, layer in enumerate(layers)
        ],
    }
