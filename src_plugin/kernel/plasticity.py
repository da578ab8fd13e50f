"""The rule of one sleep: its numbers, and the gate by which a weight decides how much of a step it takes.

The gate is 2 / (1 + exp(w / gate_width)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

Array: TypeAlias = Any
"""A NumPy array or a torch tensor: the arithmetic of both is written the same."""

GATE_WIDTH = 0.001
"""Width of the gate in weight units, as in every published experiment."""

DECAY = 0.999
"""Factor on the membrane potential per step, as in every published experiment: about 1000 steps of memory."""


@dataclass(frozen=True)
class Rule:
    """The checked numbers of a sleep of L weight layers, as plain floats so that the weights' float type decides.

    Attributes:
        scales: Gain on the synaptic impulse of each layer, the paper's alpha; length L.
        thresholds: Membrane potential at which a unit fires, the paper's beta; length L, may be 0 or infinite.
        inc: Step of a potentiation before the gate, in weight units; length L.
        dec: Step of a depression before the gate, in weight units; length L.
        decay: Factor on the membrane potential per step, in (0, 1].
        gate_width: Width of the gate in weight units; `None` switches the gate off.
        inhibition: Share of a layer's mean impulse taken from each of its units.
    """

    scales: tuple[float, ...]
    thresholds: tuple[float, ...]
    inc: tuple[float, ...]
    dec: tuple[float, ...]
    decay: float
    gate_width: float | None
    inhibition: float


def gate(weights: Array, gate_width: float | None) -> Array:
    """Return by how much a weight of this size may move: 2 far below zero, 1 at zero, 0 far above.

    Args:
        weights: NumPy array or torch tensor of any shape, in weight units.
        gate_width: Width g of the gate in weight units; `None` is the ungated rule.

    Returns:
        Factors in [0, 2], of the shape and type of `weights`; the number 1.0 if `gate_width` is None.

    Source:
        The authors' code (algorithm as published with Tadros et al. 2022, Nat. Commun. 13:7742).
        Differs: Algorithm 1 of the article has no gate; that is `gate_width=None`.
    """
    if gate_width is None:
        return 1.0
    exp = torch.exp if isinstance(weights, torch.Tensor) else np.exp
    with np.errstate(over="ignore"):  # exp overflows for large positive weights, and 2 / inf = 0 is the right limit
        return 2.0 / (1.0 + exp(weights / gate_width))
