"""What formulas say that a sleep took from each layer, beside what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.explain.layers import correlation, describe_layers
from benchmarks.explain.theory import exponents, mean_field, removed
from src_plugin.config import Simulation, by_depth
from src_plugin.head.state import HeadState

FORMULAS = {"closed_form": "closed form", "formula": "formula", "mean_field": "mean field"}
"""Ways to predict -> what people read."""


def predict(
    trained: HeadState,
    probability: NDArray[np.float64],
    rule: Mapping[str, Any],
    *,
    n_steps: int,
    config: Simulation,
) -> dict[str, list[float | None]]:
    """Return the fraction that a calibrated, ungated sleep removes from each layer, by three formulas.

    Args:
        trained: The head's parameters before the sleep.
        probability: Of an input spike in a step, shape (n_0,).
        rule: `scales`, `thresholds`, `inc` and `dec` of the sleep, one number per layer each.
        n_steps: Length of the sleep.
        config: `target_rates` and `decay`.

    Returns:
        "closed_form": what `inhibit` computes, from the weights alone; "formula": also potentiation, and that the
        layers below fall silent; "mean_field": also thresholds and leak.
    """
    weights = [w.double().numpy() for w in trained.weights]
    rates = by_depth(config.target_rates, len(weights))
    inc, dec = rule["inc"], rule["dec"]
    without = [-down for down in dec]  # then what an input that spikes adds is what a silent one takes: p drops out
    plain = exponents(weights, probability, rates=rates, inc=without, dec=dec, n_steps=n_steps)
    whole = exponents(weights, probability, rates=rates, inc=inc, dec=dec, n_steps=n_steps)
    moved = integrate(trained, probability, rule, n_steps=n_steps, decay=config.decay)
    with np.errstate(over="ignore"):
        return {
            "closed_form": [float(-np.expm1(-one)) for one in plain],
            "formula": list(removed(whole)),
            "mean_field": [x.fraction for x in describe_layers(trained, moved, torch.from_numpy(probability))],
        }


def integrate(
    trained: HeadState,
    probability: NDArray[np.float64],
    rule: Mapping[str, Any],
    *,
    n_steps: int,
    decay: float,
    own: bool = False,
) -> HeadState:
    """Return what the mean field makes of a head, see `theory.mean_field`."""
    moved = mean_field(
        [w.double().numpy() for w in trained.weights],
        probability,
        thresholds=[t / scale for t, scale in zip(rule["thresholds"], rule["scales"], strict=True)],
        inc=rule["inc"],
        dec=rule["dec"],
        n_steps=n_steps,
        decay=decay,
        own=own,
        parts=50,
    )
    return trained.with_weights([torch.from_numpy(w) for w in moved])


def rest_alike(trained: HeadState, slept: HeadState, predicted: HeadState) -> list[float | None]:
    """Return per layer how two updates of excited units correlate once each unit's mean change is taken out.

    Args:
        trained: The head's parameters before the sleep.
        slept: After it.
        predicted: What a formula says.
    """
    found = []
    for before, after, other in zip(trained.weights, slept.weights, predicted.weights, strict=True):
        ours, theirs = _rest(after.double() - before.double()), _rest(other.double() - before.double())
        moved = (theirs != 0).any(1)
        found.append(correlation(ours[moved].flatten(), theirs[moved].flatten()))
    return found


def _rest(update: torch.Tensor) -> torch.Tensor:
    return update - update.mean(1, keepdim=True)


def exponent_of(fractions: Sequence[float | None]) -> list[float]:
    """Return -ln(1 - f) of fractions: above 0 answers fall, below 0 they rise; NaN where nothing is left of them."""
    return [float("nan") if f is None or f >= 1 else float(-np.log1p(-f)) for f in fractions]
