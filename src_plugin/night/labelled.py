"""Labelled noise: Gaussian noise around the mean of each class, which stands in for its examples. None is kept.

    z_ci = clip(a_ci + CLASS_SPREAD * d_i * g_i, low_i, top_i),      E[z_ci] = m_ci

m_c is the mean input of class c over all that was shown of it. d and the correlations of g are those of current inputs
around their own class means, since nothing is known of how earlier classes spread.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_plugin.config.constants import DEFAULT, Constants
from src_plugin.night.noise import clipped_gaussian, normal
from src_plugin.waking.samples import Samples


def draw_labelled(
    means: Mapping[int, Tensor],
    current: Samples,
    *,
    generator: np.random.Generator,
    lowest: NDArray[np.float64],
    constants: Constants = DEFAULT,
) -> Samples:
    """Draw labelled inputs of the head.

    Args:
        means: Mean input of each class, shape (n_0,).
        current: Inputs of the head in the current experience, shape (m, n_0), and their classes; the last
            `noise_inputs` count. A class with one of them tells of no spread.
        generator: The only source of randomness.
        lowest: The least value that each input ever had, or 0 if that is less, shape (n_0,).
        constants: `noise_inputs`, `class_vectors` and `class_spread`.

    Returns:
        Inputs, float32, shape (k * class_vectors, n_0), on the device of `current`, and their classes.
    """
    inputs, labels = (part[-constants.noise_inputs :] for part in current)
    low = torch.from_numpy(lowest).to(inputs.device, torch.float32)
    inputs = inputs.float() - low
    centred = inputs.clone()
    for c in labels.unique():
        rows = labels == c
        centred[rows] -= inputs[rows].mean(0)
    deviation = (centred.square().sum(0) / max(1, len(centred) - 1)).sqrt()
    width = (constants.class_spread * deviation).clamp(min=1e-6)
    n, top = constants.class_vectors, inputs.amax(0)
    drawn = []
    for mean in means.values():
        mixed = normal((n, len(centred)), generator, inputs.device) @ centred / max(1, len(centred) - 1) ** 0.5
        wanted = (mean.to(inputs.device, torch.float32) - low).clamp(min=0.0)
        drawn.append(clipped_gaussian(wanted, width, torch.maximum(top, wanted), constants.class_spread * mixed))
    classes = torch.tensor(list(means), device=inputs.device).repeat_interleave(n)
    return torch.cat(drawn) + low, classes
