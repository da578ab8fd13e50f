"""Why an experience cannot be slept on, where only its later batches could show that: then the network stays awake."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from src_plugin.errors import StimulusError
from src_plugin.waking.mean import check_mean_input

GROWTH = 1000.0
"""Inputs that are so many times larger at the end of an experience than in its first batch have no scale."""


def doubts(
    mean: NDArray[np.float64], recent: Tensor | None, first: Tensor | None, *, n_inputs: int, as_rates: bool
) -> str:
    """Return why the inputs of a head cannot be slept on; "" if they can.

    Args:
        mean: Their mean over all that was seen, shape (n_0,).
        recent: The last ones, shape (n, n_0).
        first: Mean magnitude in the first batch of the experience, shape ().
        n_inputs: Inputs of the head.
        as_rates: Whether they give rates, so that no mean may be negative.

    Example:
        >>> import torch
        >>> doubts(np.ones(2), torch.ones(3, 2), None, n_inputs=2, as_rates=False)[:40]
        'all 3 last inputs of the head are the sa'
    """
    try:
        check_mean_input(mean, n_inputs=n_inputs, as_rates=as_rates)
    except StimulusError as error:
        return str(error)
    if recent is None or len(recent) < 2:
        return ""
    if bool((recent == recent[0]).all()):
        return (
            f"all {len(recent)} last inputs of the head are the same, so nothing tells classes apart: look for a layer "
            "below the head that answers everything alike, or for data that are constant"
        )
    growth = 0.0 if first is None else float(recent.abs().float().mean()) / max(float(first), 1e-30)
    if growth > GROWTH:
        return (
            f"inputs of the head are {growth:.0f} times larger at the end of the experience than in its first batch, "
            "so there is no mean that tells what they are like: look for data that are not scaled, or for layers below "
            "the head that diverge"
        )
    return ""
