"""How deep a simulated sleep is: as deep as inputs of the head differ from the mean that its stimulus is drawn from.

Sleep changes a unit's answer along the mean input. Where every input resembles the mean, as small grey images do, that
is a large part of the answer to each of them; where inputs hardly resemble it, as features of a deep network do, it is
a small one, and the same change spares what was learnt. So the depth is proportional to the variance of the inputs
relative to their squared mean, which takes no label and no stored example.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_plugin.config import SleepConfig

PER_VARIATION = 0.3
"""Depth of sleep per unit of variation."""

DEEPEST = 1.0
"""A unit firing at its target rate all night moves its synapses by what `potentiation` and `depression` say."""

UNMEASURED = 0.2
"""Depth where no inputs can be looked at: about what grey images of clothes get, the shallow side of what is common."""


def variation(inputs: Tensor, mean: NDArray[np.float64]) -> float:
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


def measured_depth(varies: float) -> float:
    """Return the depth of sleep for inputs of a variation.

    Args:
        varies: See `variation`.
    """
    return min(DEEPEST, PER_VARIATION * varies)


def depth_of(
    config: SleepConfig, mean: NDArray[np.float64], inputs: Tensor | None
) -> tuple[float, float | None, dict[str, str]]:
    """Return the depth of a night, the variation it was measured from, and what could not be done, with the reason.

    Args:
        config: What is asked for.
        mean: Mean of the head's inputs over all that was seen, shape (n_0,).
        inputs: Inputs of the head from the current experience, shape (n, n_0), or None.
    """
    if config.inc is not None and config.dec is not None:  # then nothing reads the depth
        return UNMEASURED, None, {}
    if config.depth is not None:
        return config.depth, None, {}
    if inputs is None or len(inputs) < 2:
        why = f"no inputs of the current experience were given; it is {UNMEASURED}"
        return UNMEASURED, None, {"depth by inputs": why}
    varies = variation(inputs, mean)
    return measured_depth(varies), varies, {}
