"""Weight aligning: after an experience, new outputs are scaled down to the size of the old ones.

W_new becomes W_new * (mean norm of the rows of W_old) / (mean norm of the rows of W_new).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.models.utils import is_multi_task_module
from torch import Tensor, nn

from src_plugin.errors import ConfigError, HeadNotFoundError
from src_plugin.head.find import find_head
from strategies.setup import TrainingSetup, naive_with


def align(weight: Tensor, *, old: Iterable[int], new: Iterable[int]) -> None:
    """Scale the rows of new classes by one factor, in place, so that their mean norm is that of the old ones.

    Args:
        weight: Of the output layer, shape (n_classes, n_inputs).
        old: Classes seen before.
        new: Classes seen for the first time.
    """
    rows = sorted(new)
    norms = weight.norm(dim=1)
    smallest = torch.finfo(weight.dtype).eps  # rows of zeros stay zeros
    weight[rows] *= norms[sorted(old)].mean() / norms[rows].mean().clamp_min(smallest)


class AligningPlugin(SupervisedPlugin):  # type: ignore[misc]
    """Aligns the output layer when an experience has brought new classes; nothing after the first.

    Keeps nothing between experiences but the numbers of the classes seen. Outputs of classes that are still to come are
    neither old nor new.

    Source:
        Zhao et al. 2020, CVPR, "Maintaining discrimination and fairness in class incremental learning", weight
        aligning. Differs: without the distillation and the exemplars that it is combined with there, and without
        clipping output weights at 0 during training. In the paper's equations an output has no bias; where a network
        has one, it stays as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[int] = set()

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Refuse a model without an output layer before it is trained."""
        _output_layer(strategy)

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Align."""
        classes = {int(label) for label in strategy.experience.dataset.targets}
        new = classes - self._seen
        if self._seen and new:
            with torch.no_grad():
                align(_output_layer(strategy).weight, old=self._seen, new=new)
        self._seen |= classes

    @property
    def kept_bytes(self) -> int:
        """Bytes of the numbers of the classes seen, 8 each."""
        return 8 * len(self._seen)


def _output_layer(strategy: Any) -> nn.Linear:
    """Return the layer that makes the outputs; a forward pass shows which, as evaluation may have replaced it.

    Raises:
        HeadNotFoundError: The outputs are not those of a Linear layer.
    """
    image = strategy.experience.dataset[0][0]
    try:
        return find_head(strategy.model, image[None].to(strategy.device)).output_layer
    except HeadNotFoundError as error:
        raise HeadNotFoundError(
            f"weight aligning scales the rows of the Linear layer that makes the outputs, and in "
            f"{type(strategy.model).__name__} there is none that could be changed alone: end the model in one, or "
            "choose another strategy"
        ) from error


def build_align(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build weight aligning.

    Raises:
        ConfigError: The model has one head per task, and classes of different tasks never compete.
    """
    if is_multi_task_module(setup.model):
        raise ConfigError(
            f"align: {type(setup.model).__name__} has one head per task, and only outputs that compete can be aligned; "
            "use one head for all classes, or leave align out"
        )
    return naive_with(AligningPlugin(), setup, plugins)
