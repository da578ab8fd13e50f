"""What a sleep did to each layer: is it one number per unit, does that follow the answers, which part did it take?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from src_plugin.head.state import HeadState


@dataclass(frozen=True)
class Layer:
    """What a sleep did to one layer; None where it did nothing, or nothing excites the layer.

    Attributes:
        correlation: Over units, between how far their weights fall on average and their rectified answer to the inputs.
        correlation_excited: The same among units with an answer above 0.
        fraction: Part of the answers of excited units that was removed.
        rest: Norm of the update without each unit's mean change, as a share of its norm.
        rising: Share of units whose weights rise on average.
        excited: Share of units with an answer above 0.
        norm: Norm of the update.
    """

    correlation: float | None
    correlation_excited: float | None
    fraction: float | None
    rest: float | None
    rising: float
    excited: float
    norm: float

    def to_dict(self) -> dict[str, Any]:
        """Return all fields for JSON."""
        return asdict(self)


def describe_layers(trained: HeadState, slept: HeadState, inputs: Tensor) -> list[Layer]:
    """Compare a head after a sleep with what it was.

    Args:
        trained: Before it.
        slept: After it.
        inputs: Mean inputs of the first layer, or how often they spike, shape (n_0,). Later layers are asked by what
            those below answered before the sleep.
    """
    x, found = inputs.double(), []
    for before, after in zip(trained.weights, slept.weights, strict=True):
        weight = before.double()
        update = after.double() - weight
        answer = weight @ x
        excited = answer > 0
        fall = -update.mean(1)
        norm, kept = float(update.norm()), float((update + fall[:, None]).norm())
        total = float(answer[excited].sum())
        found.append(
            Layer(
                correlation=correlation(fall, answer.relu()),
                correlation_excited=correlation(fall[excited], answer[excited]),
                fraction=-float((update @ x)[excited].sum()) / total if total > 0 else None,
                rest=kept / norm if norm > 0 else None,
                rising=float((fall < 0).double().mean()),
                excited=float(excited.double().mean()),
                norm=norm,
            )
        )
        x = answer.relu()
    return found


def correlation(a: Tensor, b: Tensor) -> float | None:
    """Return Pearson's correlation of two vectors; None below three entries, or where one does not vary."""
    if len(a) < 3:
        return None
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else None
