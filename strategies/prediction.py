"""How a strategy answers: for most it is the largest output of its network, for some it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Scores = Callable[[Tensor], Tensor]
"""From images, shape (n, ...), to a score for every class, shape (n, n_classes); the largest is the answer."""


def classifiers(strategy: Any) -> dict[str, Scores]:
    """Return the ways in which a strategy can answer, by name; the first is the one that counts.

    A strategy or plugin that answers otherwise than by the outputs of `strategy.model` says so with a method
    `classifiers(strategy)` of its own, which returns what this function returns.
    """
    for part in (strategy, *strategy.plugins):
        own = getattr(part, "classifiers", None)
        if own is not None:
            ways: dict[str, Scores] = own(strategy)
            return ways
    return {"outputs": strategy.model}


def answering_network(strategy: Any) -> nn.Module:
    """Return one network from images to scores that answers as a strategy does, by the way that counts.

    Weights are the strategy's own. A strategy or plugin that answers otherwise than by the outputs of `strategy.model`
    says so with a method `answering_network(strategy)` of its own.
    """
    for part in (strategy, *strategy.plugins):
        own = getattr(part, "answering_network", None)
        if own is not None:
            answering: nn.Module = own(strategy)
            return answering
    model: nn.Module = strategy.model
    return model
