"""The mean input of the head, that a sleep is driven by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from src_plugin.errors import StimulusError


def check_mean_input(mean_input: NDArray[np.floating], *, n_inputs: int | None = None) -> None:
    """Refuse a mean input that cannot drive a sleep.

    Args:
        mean_input: Mean input of the head per unit, shape (n_0,), of any unit but not negative.
        n_inputs: Inputs of the head's first layer, if known.

    Raises:
        StimulusError: Wrong shape, not finite, negative, or silent.
    """
    if mean_input.ndim != 1 or (n_inputs is not None and len(mean_input) != n_inputs):
        wanted = "(n_inputs,)" if n_inputs is None else f"({n_inputs},), the inputs of the head's first layer"
        cure = "; take the mean over samples, x.mean(0)" if mean_input.ndim == 2 else ""
        raise StimulusError(
            f"mean_input has shape {mean_input.shape}; it must be {wanted}: the mean of what reaches the head, "
            f"not of the model's input{cure}"
        )
    bad = np.flatnonzero(~np.isfinite(mean_input))
    if len(bad):
        raise StimulusError(
            f"mean_input is {mean_input[bad[0]]} at input {bad[0]} ({len(bad)} of {len(mean_input)} are not finite): "
            "look for NaN or infinite values in the data or in the layers below the head"
        )
    bad = np.flatnonzero(mean_input < 0)
    if len(bad):
        raise StimulusError(
            f"mean_input is negative at {len(bad)} of {len(mean_input)} inputs (first: input {bad[0]}, "
            f"{mean_input[bad[0]]:.4g}); spikes need inputs of the head to be 0 or more. Scale the features to [0, 1], "
            "(x - min) / (max - min), instead of standardising them (images: ToTensor without Normalize), or let the "
            "layer below the head end in a ReLU; a Tanh, LeakyReLU or BatchNorm there does not"
        )
    if not np.any(mean_input > 0):
        raise StimulusError("mean_input is 0 everywhere: no input would ever spike. Was the head given any data?")
