"""The mean input of the head, that a sleep is driven by, and the least value of each input."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from src_plugin.errors import ConfigError, StimulusError


def check_mean_input(mean_input: NDArray[np.floating], *, n_inputs: int | None = None, as_rates: bool = False) -> None:
    """Refuse a mean input that cannot drive a sleep.

    Args:
        mean_input: Mean input of the head per unit, shape (n_0,).
        n_inputs: Inputs of the head's first layer, if known.
        as_rates: Whether inputs spike at rates in proportion to it, so that it must not be negative.

    Raises:
        StimulusError: Wrong shape, not finite, 0 everywhere, or negative where it gives rates.
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
    if as_rates and len(bad):
        raise StimulusError(
            f"mean_input is negative at {len(bad)} of {len(mean_input)} inputs (first: input {bad[0]}, "
            f"{mean_input[bad[0]]:.4g}), and a simulated sleep or binary noise spikes at rates in proportion to it. "
            "Take the default, SleepConfig(), which needs no sign, or give the head inputs of 0 or more"
        )
    if not np.any(mean_input):
        raise StimulusError("mean_input is 0 everywhere: no input would ever spike. Was the head given any data?")


def lowest_input(
    lowest: ArrayLike | Tensor | None, mean_input: NDArray[np.float64], inputs: Tensor | None
) -> NDArray[np.float64]:
    """Return the least value of each input, or 0 where that is less, shape (n_0,).

    Args:
        lowest: Least value of each input in all that was seen, shape (n_0,). None takes `inputs`, or 0 where no mean is
            negative.
        mean_input: Mean input of the head, shape (n_0,).
        inputs: Inputs of the head from the current experience, shape (n, n_0), or None.

    Raises:
        ConfigError: It has another shape, is not finite or above the mean; or it is None, a mean is negative, and there
            are no inputs.
    """
    if lowest is None:
        if inputs is not None and len(inputs):
            lowest = np.minimum(inputs.amin(0).cpu().double().numpy(), mean_input)
        elif bool((mean_input < 0).any()):
            raise ConfigError(
                "mean_input has negative entries, so noise needs to know how low inputs can be: give lowest=x.amin(0), "
                "the least value of each input of the head in all that was seen, or inputs=x, some of them"
            )
        else:
            lowest = np.zeros_like(mean_input)
    value = lowest.detach().cpu().double().numpy() if isinstance(lowest, Tensor) else np.array(lowest, np.float64)
    slack = 1e-5 * (1.0 + np.abs(mean_input))  # both are sums and minima of float32
    if value.shape != mean_input.shape or not np.isfinite(value).all() or bool((value > mean_input + slack).any()):
        raise ConfigError(
            f"lowest has shape {value.shape}, between {value.min(initial=0):.4g} and {value.max(initial=0):.4g}; give "
            f"x.amin(0), the least value of each of the {len(mean_input)} inputs of the head, not above its mean"
        )
    least: NDArray[np.float64] = np.minimum(value, 0.0)
    return least
