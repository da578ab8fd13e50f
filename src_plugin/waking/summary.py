"""TrainingSummary: what a night is told of the training before it; and which mean input can drive one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from src_plugin.errors import StimulusError
from src_plugin.head.state import HeadState
from src_plugin.waking.classes import Classes
from src_plugin.waking.samples import Samples


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """What training showed since the last sleep.

    Attributes:
        mean: Mean of the head's inputs over all that was ever seen, shape (n_0,), 0 or more.
        inputs: Inputs of the head from the current experience, shape (n, n_0), in random order; or None.
        before: The head's parameters before the experience, or None.
        classes: Which classes are new, old and returned, their images, and how well old ones are recalled.
        samples: Inputs of the head from old (rehearsed) and new classes, with their classes; or None.
        exemplars: How many different ones of an old class were rehearsed, on average; None counts those in `samples`.
        iterations: How many training had; None where that is not known. Only binary noise asks.
        index: How many sleeps came before.
        protector: Name of a plugin that protects what earlier inputs evoke, so that the sleep itself is left out.
        backbone_trained: Whether parameters or buffers below the head moved; only reported.
    """

    mean: NDArray[np.float64]
    inputs: Tensor | None = None
    before: HeadState | None = None
    classes: Classes = field(default_factory=Classes)
    samples: Samples | None = None
    exemplars: float | None = None
    iterations: int | None = None
    index: int = 0
    protector: str | None = None
    backbone_trained: bool = False


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
