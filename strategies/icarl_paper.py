"""iCaRL for heads of Linear layers, as Tadros et al. combine it with sleep.

New images and exemplars are shuffled together and trained with one loss; the target of a new image is its label, that
of an exemplar is what the network answered before the experience, over the classes it knew.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.models.utils import is_multi_task_module
from torch import Tensor, nn
from torch.nn import functional

from src_plugin.errors import ConfigError, HeadNotFoundError
from src_plugin.head.find import find_head, named_head
from src_plugin.head.watch import head_inputs
from strategies.herding import HerdingPlugin, Teacher, icarl_with
from strategies.icarl import split_network
from strategies.nearest import NearestMean
from strategies.setup import TrainingSetup


class PaperICaRL(HerdingPlugin):
    """Exemplars and class means in the last hidden layer of any network whose outputs come from a Linear layer.

    Source:
        Tadros et al. 2022, Nat. Commun. 13:7742, Methods and Table 2; authors' code, MNIST/run_icarl_sleep.m. Differs:
        features are those in use (there, with dropout masks on) and of length 1 (there, as they are), the first
        exemplar is the nearest to the class mean (there, the one with the smallest dot product), shares are rounded
        down (there, to the nearest), and batches are not filled up with repeated images.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._last = ""  # name of the layer that makes the outputs

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Find the layer that makes the outputs.

        Raises:
            HeadNotFoundError: It is no Linear layer.
        """
        image = strategy.experience.dataset.eval()[0][0]
        try:
            head = find_head(strategy.model, image[None].to(strategy.device))
            last = head.output_layer
        except HeadNotFoundError as error:
            raise HeadNotFoundError(
                f"icarl_mlp compares what enters the Linear layer that makes the outputs, and in "
                f"{type(strategy.model).__name__} there is none: end the model in one, or choose another strategy"
            ) from error
        self._last = head.names[-1]
        if self.nearest is None or self.nearest.means.shape != last.weight.shape:
            self.nearest = NearestMean(last.out_features, last.in_features)

    def features(self, strategy: Any, images: Tensor) -> Tensor:
        """Return what enters the last layer."""
        return head_inputs(strategy.model, named_head(strategy.model, self._last), images, device=strategy.device)

    def below(self, strategy: Any) -> nn.Module:
        """Return the layers below the last one."""
        return split_network(strategy.model)[0]


@dataclass(frozen=True)
class SoftLoss:
    """A loss that takes targets which are no labels.

    Attributes:
        of: Loss of outputs and targets, both of shape (n, n_classes); a mean over the batch.
        answers: From a teacher's outputs for the classes it knows to targets for them.
    """

    of: Callable[[Tensor, Tensor], Tensor]
    answers: Callable[[Tensor], Tensor]


def softmax(outputs: Tensor) -> Tensor:
    """Return probabilities of classes, shape as given."""
    return functional.softmax(outputs, dim=1)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 0.5 * sum over outputs of (target - output)^2, mean over the batch."""
    return 0.5 * (targets - outputs).square().sum(dim=1).mean()


def as_they_are(outputs: Tensor) -> Tensor:
    """Return outputs trained by squared error, which estimate probabilities without a softmax."""
    return outputs


SOFT_LOSSES = (SoftLoss(functional.cross_entropy, softmax), SoftLoss(squared_error, as_they_are))


def soften(criterion: Callable[[Tensor, Tensor], Tensor]) -> SoftLoss:
    """Return the loss that equals a criterion where targets are labels.

    Args:
        criterion: Loss of outputs and labels; known by what it returns, whatever class it is.

    Raises:
        ConfigError: None of SOFT_LOSSES does.
    """
    outputs, labels = torch.tensor([[0.3, 1.2, -0.7], [2.0, 0.1, 0.4]]), torch.tensor([2, 0])
    one_hot = functional.one_hot(labels, 3).to(outputs.dtype)
    try:
        with warnings.catch_warnings(action="ignore"):  # of shapes that do not fit
            asked = criterion(outputs, labels)
        for soft in SOFT_LOSSES:
            if asked.shape == () and torch.allclose(asked, soft.of(outputs, one_hot)):
                return soft
    except (RuntimeError, ValueError, IndexError):
        pass  # it takes no labels, or has weights for another number of classes
    raise ConfigError(
        f"icarl_mlp: it is not known what {type(criterion).__name__} would be for the answers of a teacher, which are "
        "no labels; use nn.CrossEntropyLoss() without weights or smoothing, or 0.5 * the sum over outputs of squared "
        "errors to one-hot labels, each as a mean over the batch"
    )


class PaperLoss(Teacher):
    """The setup's loss, with targets of exemplars given by the teacher: its answers over the classes it knows.

    Args:
        soft: The loss.

    Source:
        Tadros et al. 2022, authors' code: labels of stored exemplars are replaced by the network's answers; there is no
        separate term of distillation. Differs: classes the teacher does not know get the target 0.
    """

    def __init__(self, soft: SoftLoss) -> None:
        super().__init__()
        self.soft = soft

    def ask(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return what the teacher answers to the exemplars of a batch, shape (n_exemplars, classes it knows)."""
        assert self.network is not None
        return self.soft.answers(self.network(images[self._are_old(labels)])[:, self.old_classes])

    def _are_old(self, labels: Tensor) -> Tensor:
        return torch.isin(labels, torch.tensor(self.old_classes, device=labels.device))

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of outputs, shape (n, n_classes), for labels, shape (n,)."""
        targets = functional.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
        if self.answers is not None:
            answers = torch.zeros_like(targets[: len(self.answers)])
            answers[:, self.old_classes] = self.answers
            targets[self._are_old(labels)] = answers
        return self.soft.of(outputs, targets)


def build_icarl_mlp(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build iCaRL as Tadros et al. have it; `setup.criterion` is the loss.

    Raises:
        ConfigError: The model has one head per task, the criterion takes labels only, or the memory cannot hold every
            class.
    """
    if is_multi_task_module(setup.model):
        raise ConfigError(
            f"icarl_mlp: {type(setup.model).__name__} has one head per task, and class means answer for all classes "
            "together; use one head for all classes, or leave icarl_mlp out"
        )
    size = setup.memory(of="icarl_mlp")
    return icarl_with(PaperICaRL(size), PaperLoss(soften(setup.criterion)), setup, plugins)
