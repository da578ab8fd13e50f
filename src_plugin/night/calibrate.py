"""From the network itself to the numbers of its sleep: gains, thresholds and step sizes per layer.

Published settings bring thresholds and step sizes and need data-based gains (`norm_constants`). `auto` needs none:
thresholds are placed where noise makes each layer fire at its target rate, and steps follow the spread of the weights,
    dec_l = depth * depression_l * std(W_l) / (steps * rate_l),
so that a unit firing at its target rate all night moves a synapse by a fixed share of that spread.

The depth is measured, too: where every input resembles the mean that the stimulus is drawn from, as small grey images
do, a unit's answer along it is a large part of its answer to each of them; where inputs hardly resemble it, as features
of a deep network do, it is a small one, and the same change spares what was learnt. So the depth is proportional to the
variance of the inputs relative to their squared mean, which takes no label and no stored example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from src_plugin.config.checks import PerLayer
from src_plugin.config.engines import Measuring, Simulation, by_depth
from src_plugin.errors import ConfigError, WeightsError
from src_plugin.head.state import Head, HeadState
from src_plugin.kernel.firing import count_spikes, fire, peak, sum_weights
from src_plugin.night.stimulus import draw_spikes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """The numbers of one sleep, one per layer each, in the units of `simulate`."""

    scales: tuple[float, ...]
    thresholds: tuple[float, ...]
    inc: tuple[float, ...]
    dec: tuple[float, ...]


def calibrate(
    head: Head,
    state: HeadState,
    probability: Array,
    config: Simulation,
    *,
    n_steps: int,
    strength: float,
    generator: np.random.Generator,
    inputs: torch.Tensor | None = None,
) -> Rule:
    """Return the gains, thresholds and step sizes of a sleep.

    Args:
        head: The head that will sleep.
        state: Its weights when the sleep begins.
        probability: Of an input spike per step, shape (n_0,).
        config: What is given and what is to be measured.
        n_steps: Length of the sleep.
        strength: Factor on step sizes that are measured (given ones are used as they are).
        generator: Draws the stimulus that thresholds are measured with.
        inputs: Inputs of the head, shape (n, n_0), for data-based gains; only with `config.normalise`.

    Raises:
        ConfigError: A number of thresholds or steps that is not the number of layers; no inputs to normalise on.
        WeightsError: A layer that cannot be scaled.
    """
    n_layers = len(head.layers)
    scales = [config.gain] * n_layers
    if config.normalise:
        scales = [config.gain * float(c) for c in _data_norms(head, state, inputs)]
    weights = [w.numpy() for w in state.weights]
    rates = by_depth(config.target_rates, n_layers)
    if config.thresholds is not None:
        thresholds = per_layer(config.thresholds, n_layers, "thresholds")
    else:
        thresholds = measure_thresholds(
            weights, probability, scales=scales, rates=rates, config=config, generator=generator
        )
    spread = [float(w.std()) for w in weights]

    def steps_of(given: PerLayer | None, shares: tuple[float, float, float], name: str) -> tuple[float, ...]:
        if given is not None:
            return per_layer(given, n_layers, name)
        share = by_depth(shares, n_layers)
        return tuple(strength * share[i] * spread[i] / (n_steps * rates[i]) for i in range(n_layers))

    inc = steps_of(config.inc, config.potentiation, "inc")
    dec = steps_of(config.dec, config.depression, "dec")
    return Rule(tuple(scales), tuple(thresholds), inc, dec)


def per_layer(value: PerLayer, n_layers: int, name: str) -> tuple[float, ...]:
    """Return one number per layer, or refuse a wrong number of them."""
    if not isinstance(value, tuple):
        return (float(value),) * n_layers
    if len(value) != n_layers:
        raise ConfigError(
            f"{name} has {len(value)} numbers, but the head has {n_layers} layers; give one per layer, input side "
            "first, or None to have them measured"
        )
    return tuple(float(v) for v in value)


def norm_constants(weight_max: Sequence[float], activation_max: Sequence[float]) -> Array:
    """Return the data-based norm of each layer: s_l = max(weights, activations, 0), q_1 = s_1, q_l = s_l / q_{l-1}.

    Args:
        weight_max: Largest weight of each layer, shape (L,).
        activation_max: Largest activation of each layer over the reference data, shape (L,).

    Returns:
        1 / q_l, shape (L,): the gain of layer l before the common factor.

    Raises:
        WeightsError: A layer has neither a positive weight nor a positive activation.

    Source:
        The authors' utils/normalize_nn_data.m. Differs from the usual s_l / s_{l-1} (Diehl et al. 2015) from the third
        layer on, because each factor is divided by the previous factor, not by the previous maximum.
    """
    q = 1.0
    constants = []
    for layer, pair in enumerate(zip(weight_max, activation_max, strict=True)):
        s = max(*pair, 0.0)
        if s == 0.0:
            raise WeightsError(
                f"layer {layer} of the head has no positive weight and no positive activation, so its gain would be "
                "infinite; train it first, or use normalise=False"
            )
        q = s if layer == 0 else s / q
        constants.append(1.0 / q)
    return np.array(constants)


def _data_norms(head: Head, state: HeadState, inputs: torch.Tensor | None) -> Array:
    if inputs is None or len(inputs) == 0:
        raise ConfigError(
            "this configuration scales layers by their activations (normalise=True) and needs inputs of the head, "
            "shape (n, n_0): sleep(..., inputs=x)"
        )
    largest = [-np.inf] * len(head.layers)
    for chunk in inputs.split(2048):  # bounded memory, whatever the size of the reference data
        for layer, a in enumerate(head.activations(state, chunk.to(state.weights[0].dtype))):
            largest[layer] = max(largest[layer], float(a.max()))
    return norm_constants([float(w.max()) for w in state.weights], largest)


def measure_thresholds(
    weights: Sequence[Array],
    probability: Array,
    *,
    scales: Sequence[float],
    rates: Sequence[float],
    config: Simulation,
    generator: np.random.Generator,
) -> tuple[float, ...]:
    """Place each layer's threshold where noise makes its units fire at the target rate, from the input side on.

    Args:
        weights: L arrays, shape (n_post, n_pre).
        probability: Of an input spike per step, shape (n_0,).
        scales: Gain of each layer.
        rates: Target: mean fraction of units of the layer that fire in a step.
        config: `decay`, `inhibition`, `patch` and `measuring`.
        generator: Draws the stimulus.

    Returns:
        Thresholds, L numbers above 0.
    """
    n_steps = config.measuring.threshold_steps
    spikes = draw_spikes(probability, n_steps=n_steps, generator=generator, patch=config.patch)
    thresholds = []
    for w, scale, rate in zip(weights, scales, rates, strict=True):
        impulses = scale * sum_weights(spikes, np.ascontiguousarray(w.T))  # (n_steps, n_post)
        impulses -= config.inhibition * impulses.mean(axis=1, keepdims=True)
        low, high = 0.0, max(peak(impulses, config.decay), float(np.finfo(np.float64).tiny))
        for _ in range(30):
            middle = 0.5 * (low + high)
            if count_spikes(impulses, middle, config.decay) / impulses.size > rate:
                low = middle
            else:
                high = middle
        # Where noise mostly inhibits a layer no threshold reaches the rate, and the lowest that means anything is kept;
        # in a layer without any input each keeps it silent that is above 0.
        high = max(high, 1e-6 * float(np.abs(impulses).mean()) or 1.0)
        spikes = fire(impulses, high, config.decay)
        thresholds.append(float(high))
    return tuple(thresholds)


def variation(inputs: torch.Tensor, mean: Array) -> float:
    """Return the mean squared distance of inputs from a mean, relative to the squared norm of that mean.

    Args:
        inputs: Inputs of the head from the current experience, shape (n, n_0).
        mean: Mean of the head's inputs over all that was seen, shape (n_0,), not all 0.
    """
    centre = torch.from_numpy(mean)
    single = centre.float()
    total = 0.0
    for chunk in inputs.split(256):  # small enough for the cache
        total += float((chunk - single).square_().sum(1).sum(dtype=torch.float64))
    return total / len(inputs) / float(centre.square().sum())


def measured_depth(varies: float, measuring: Measuring = Measuring()) -> float:  # noqa: B008 - frozen
    """Return the depth of sleep for inputs of a variation.

    Args:
        varies: See `variation`.
        measuring: `depth_per_variation` and `depth_most`.
    """
    return min(measuring.depth_most, measuring.depth_per_variation * varies)


def depth_of(
    config: Simulation, mean: Array, inputs: torch.Tensor | None
) -> tuple[float, float | None, dict[str, str]]:
    """Return the depth of a night, the variation it was measured from, and what could not be done, with the reason.

    Args:
        config: What is asked for.
        mean: Mean of the head's inputs over all that was seen, shape (n_0,).
        inputs: Inputs of the head from the current experience, shape (n, n_0), or None.
    """
    unmeasured = config.measuring.depth_unmeasured
    if config.has_given_steps:
        return unmeasured, None, {}
    if config.depth is not None:
        return config.depth, None, {}
    if inputs is None or len(inputs) < 2:
        why = f"no inputs of the current experience were given; it is {unmeasured}"
        return unmeasured, None, {"depth by inputs": why}
    varies = variation(inputs, mean)
    return measured_depth(varies, config.measuring), varies, {}
