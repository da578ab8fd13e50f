"""What a simulated, ungated sleep does on average: formulas, and the same integrated step by step.

    k_l = rate_l / mean(relu(W_l p_l)) * (dec_l sum(p_l) - (inc_l + dec_l) sum(p_l^2))
    f_1 = 1 - exp(-k_1 T),     f_{l+1} = 1 - exp(-(k_{l+1} / k_l) f_l)

p_l is how often each input of layer l spikes in a step when the sleep begins; f_l is the part of each excited unit's
answer to p_l that T steps remove. A negative f says that answers rise. `docs/closed_form.md` derives all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr  # type: ignore[import-untyped]

Array = NDArray[np.float64]


def fall_per_spike(probability: Array, *, inc: float, dec: float) -> float:
    """Return by how much one spike of a unit lowers its answer to its inputs; below 0 it rises.

    Args:
        probability: Of a spike of each input in a step, shape (n_pre,).
        inc: Step of a potentiation.
        dec: Step of a depression.
    """
    return float(dec * probability.sum() - (inc + dec) * np.square(probability).sum())


def passed_on(weights: Sequence[Array], probability: Array, rates: Sequence[float]) -> list[Array]:
    """Return how often the inputs of each layer spike, if units fire in proportion to their rectified answer.

    Args:
        weights: L matrices, shape (n_post, n_pre).
        probability: Of a spike of each input in a step, shape (n_0,).
        rates: Mean over units of the fraction of steps in which they fire, L numbers.
    """
    spikes = [probability]
    for weight, rate in zip(weights[:-1], rates[:-1], strict=True):
        answer = np.maximum(weight @ spikes[-1], 0.0)
        mean = answer.mean()
        spikes.append(np.minimum(1.0, rate * answer / mean) if mean > 0 else np.zeros(len(answer)))
    return spikes


def exponents(
    weights: Sequence[Array],
    probability: Array,
    *,
    rates: Sequence[float],
    inc: Sequence[float],
    dec: Sequence[float],
    n_steps: int,
) -> list[float]:
    """Return k_l T of each layer: how fast its answers would decay if the layers below kept firing as they do.

    Args:
        weights: L matrices, shape (n_post, n_pre).
        probability: Of a spike of each input in a step, shape (n_0,).
        rates: Mean rate of each layer when the sleep begins, L numbers.
        inc: Steps of potentiation, L numbers.
        dec: Steps of depression, L numbers.
        n_steps: Length of the sleep.
    """
    found = []
    inputs = passed_on(weights, probability, rates)
    for weight, p, rate, up, down in zip(weights, inputs, rates, inc, dec, strict=True):
        mean = np.maximum(weight @ p, 0.0).mean()
        found.append(n_steps * rate * fall_per_spike(p, inc=up, dec=down) / float(mean) if mean > 0 else 0.0)
    return found


def removed(exponents: Sequence[float]) -> list[float]:
    """Return the fraction of its answers that each layer loses; the layers below fire less and less meanwhile."""
    fractions: list[float] = []
    longest = 1.0  # the time that counts for a layer, in parts of the sleep: the layers below fall silent
    for exponent in exponents:
        fractions.append(float(-np.expm1(-exponent * longest)))
        longest = fractions[-1] / exponent if exponent != 0 else longest
    return fractions


def firing_rate(drive: Array, *, threshold: float, decay: float) -> Array:
    """Return the rate of integrate-and-fire units with a steady drive, in spikes per step.

    Args:
        drive: Impulse per step, shape (n,).
        threshold: At which they fire and are reset to 0.
        decay: Factor on the potential per step; below a drive of (1 - decay) * threshold a unit never fires.
    """
    if decay == 1.0:
        return np.minimum(1.0, np.maximum(drive, 0.0) / threshold)
    least = (1.0 - decay) * threshold
    rates = np.zeros_like(drive)
    is_firing = drive > least
    period = np.log1p(-least / drive[is_firing]) / np.log(decay)
    rates[is_firing] = 1.0 / np.maximum(period, 1.0)
    return rates


def _per_impulse(weight: Array, p: Array) -> Array:
    """Return P(I > 0) / E[max(I, 0)] of the impulse I of a step, taken as Gaussian: a unit fires in proportion to I."""
    mean, spread = weight @ p, np.sqrt(np.square(weight) @ (p * (1.0 - p)))
    z = mean / np.maximum(spread, np.finfo(np.float64).tiny)
    density = np.exp(-0.5 * np.square(z)) / np.sqrt(2.0 * np.pi)
    upward = mean * ndtr(z) + spread * density
    rates: Array = np.divide(ndtr(z), upward, out=np.zeros_like(mean), where=upward > 0)
    return rates


def mean_field(
    weights: Sequence[Array],
    probability: Array,
    *,
    thresholds: Sequence[float],
    inc: Sequence[float],
    dec: Sequence[float],
    n_steps: int,
    decay: float = 1.0,
    own: bool = False,
    parts: int = 100,
) -> list[Array]:
    """Return the weights after a sleep without chance: every rate is what a steady drive would give.

    Args:
        weights: L matrices, shape (n_post, n_pre).
        probability: Of a spike of each input in a step, shape (n_0,).
        thresholds: L numbers.
        inc: Steps of potentiation, L numbers.
        dec: Steps of depression, L numbers.
        n_steps: Length of the sleep.
        decay: The leak.
        own: Also let an input spike more often in the steps in which a unit fires, the more it excites the unit: a unit
            fires in a step in proportion to the impulse of that step, if that is above 0.
        parts: So many updates stand for all steps.
    """
    now = [weight.copy() for weight in weights]
    for _ in range(parts):
        p = probability
        for weight, threshold, up, down in zip(now, thresholds, inc, dec, strict=True):
            drive = weight @ p
            rate = firing_rate(drive, threshold=threshold, decay=decay)
            change = np.outer(rate, (up + down) * p - down)
            if own:
                change += (up + down) * (rate * _per_impulse(weight, p))[:, None] * weight * (p * (1.0 - p))
            weight += n_steps / parts * change
            p = rate
    return now
