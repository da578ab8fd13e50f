"""Mean-IMM: after experience k, the average of the weights of all experiences so far, as a running mean at 1/k."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor

from strategies.setup import TrainingSetup, naive_with


class MeanIMMPlugin(SupervisedPlugin):  # type: ignore[misc]
    """Moves all parameters to `before + (trained - before) / k` when experience k ends; nothing at k = 1.

    The fixed coefficient is what settling chooses by noise instead, so this is the plainest rival of sleep. Keeps
    nothing between experiences but their number; while one lasts, a copy of the parameters from its beginning.

    Source:
        Lee et al., "Overcoming catastrophic forgetting by incremental moment matching", NeurIPS 2017: mean-IMM, with
        equal weights and no search. Differs: neither weight transfer by L2 nor drop-transfer is used.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, Tensor] = {}
        self._experiences = 0

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Copy the parameters; heads have grown already."""
        self._before = {name: p.detach().clone() for name, p in strategy.model.named_parameters()}

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Average."""
        self._experiences += 1
        with torch.no_grad():
            for name, p in strategy.model.named_parameters():
                before = self._before.get(name)
                if before is not None and before.shape == p.shape:
                    p.copy_(torch.lerp(before, p, 1.0 / self._experiences))
        self._before = {}

    @property
    def kept_bytes(self) -> int:
        """Bytes kept between experiences: one number."""
        return 8


def build_average(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build plain fine-tuning with averaged weights."""
    return naive_with(MeanIMMPlugin(), setup, plugins)
