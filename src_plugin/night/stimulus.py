"""The input of a sleep: noise drawn from the mean of all inputs seen, and nothing else.

Input i spikes in a step with probability p_i, independently: p_i = min(1, 2 dt r x_i) at a given rate r, or
p_i = min(1, n x_i / sum(x)) for n expected spikes, n at most a small share of the inputs. Randomness comes from a
private generator only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from src_plugin.config.engines import Simulation
from src_plugin.errors import ConfigError

CHUNK = 4096
"""Steps drawn at once: bounds the memory of a long sleep."""


def as_generator(seed: int | np.random.Generator | torch.Generator | None) -> np.random.Generator:
    """Return a NumPy generator from a seed, a NumPy generator (itself) or a torch generator (one draw seeds it).

    The global generators of torch, NumPy and Python are never touched; None takes fresh entropy.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, torch.Generator):
        seed = int(torch.randint(2**62, (1,), generator=seed, device=seed.device).item())
    return np.random.default_rng(seed)


def spike_probability(mean_input: NDArray[np.floating], config: Simulation) -> NDArray[np.float64]:
    """Return the probability that each input spikes in a step, before any patch.

    Args:
        mean_input: Shape (n_0,), checked.
        config: `max_rate` and `dt`, or `input_spikes` and `input_share`.

    Returns:
        Probabilities, shape (n_0,).

    Source:
        Tadros et al. 2022, Methods; the factor 2 is that of the authors' sleep/sleepnn_old.m (algorithm: an input of
        value x spikes if a uniform number is below 2 dt r x), not of the text.
    """
    x = np.asarray(mean_input, dtype=np.float64)
    rate = config.max_rate
    n_spikes = min(config.input_spikes, config.input_share * len(x))
    factor = n_spikes / float(x.sum()) if rate is None else 2.0 * config.dt * rate
    probability: NDArray[np.float64] = np.minimum(1.0, factor * x)
    return probability


def draw_spikes(
    probability: NDArray[np.float64], *, n_steps: int, generator: np.random.Generator, patch: int | None = None
) -> NDArray[np.bool_]:
    """Draw independent input spikes, one Bernoulli trial per input and step.

    Args:
        probability: Of a spike, shape (n_0,).
        n_steps: Number of steps.
        generator: The only source of randomness.
        patch: Side in pixels of the square window outside which inputs are silent, placed anew at each step,
            uniformly over the places where it fits; None for no window.

    Returns:
        Spikes, bool, shape (n_steps, n_0).

    Raises:
        ConfigError: A patch is asked for, but the inputs are not a square image, or the patch is larger than it.
    """
    p = probability.astype(np.float32)
    spikes = generator.random((n_steps, len(p)), dtype=np.float32) < p
    if patch is not None:
        side = image_side(len(p), patch=patch)
        corner = generator.integers(0, side - patch + 1, size=(2, n_steps, 1))
        inside = (np.arange(side) >= corner) & (np.arange(side) < corner + patch)  # (2, n_steps, side)
        spikes &= (inside[0, :, :, None] & inside[1, :, None, :]).reshape(n_steps, -1)
    return spikes


def image_side(n_inputs: int, *, patch: int) -> int:
    """Return the side of the square image that `n_inputs` pixels make, or refuse the patch."""
    side = math.isqrt(n_inputs)
    if side * side != n_inputs or patch > side:
        raise ConfigError(
            f"patch={patch} needs a square mean image of at least {patch} x {patch} pixels, but the head has "
            f"{n_inputs} inputs; use patch=None for features and for images that are not square"
        )
    return side


def stimulus_chunks(
    probability: NDArray[np.float64], *, n_steps: int, generator: np.random.Generator, patch: int | None = None
) -> Iterator[NDArray[np.bool_]]:
    """Yield the spikes of a whole sleep in chunks of at most `CHUNK` steps, shape (<= CHUNK, n_0)."""
    for start in range(0, n_steps, CHUNK):
        yield draw_spikes(probability, n_steps=min(CHUNK, n_steps - start), generator=generator, patch=patch)
