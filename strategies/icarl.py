"""iCaRL: each output is a classifier of its own, old ones are taught by the old network, and class means answer.

With outputs z, sigmoid s, and targets q = s(z of the teacher) for old classes, 0 or 1 for new ones, the loss of an
image is the sum over classes of -q log s(z) - (1 - q) log(1 - s(z)).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from avalanche.models import SimpleMLP, TrainEvalModel
from torch import Tensor, nn
from torch.nn import functional

from src_plugin.errors import ConfigError
from src_plugin.head.modes import eval_mode
from strategies.herding import HerdingPlugin, Teacher, icarl_with
from strategies.nearest import NearestMean
from strategies.prediction import Scores
from strategies.setup import TrainingSetup


class ICaRL(HerdingPlugin):
    """Exemplars and class means in the feature extractor of a `TrainEvalModel`.

    Source:
        Rebuffi et al. 2017, CVPR; Avalanche, ICaRL and its plugin, in which (0.6.0) shares are rounded up, so that the
        memory is overrun, images with three axes are mirrored when means are computed, a class that is still to come
        can be the answer because its mean is 0, features that are all 0 give means that are no numbers, and exemplars
        are copied as tensors. Differs in these, and in that exemplars are distinct and chosen before a sleep.
    """

    def features(self, strategy: Any, images: Tensor) -> Tensor:
        """Return what the feature extractor makes of images."""
        extractor = strategy.model.feature_extractor
        with eval_mode(extractor), torch.no_grad():
            return torch.cat([extractor(part.to(strategy.device)).flatten(1).cpu() for part in images.split(512)])

    def below(self, strategy: Any) -> nn.Module:
        """Return the feature extractor."""
        extractor: nn.Module = strategy.model.feature_extractor
        return extractor

    def outputs(self, strategy: Any) -> Scores:
        """Return what gives the outputs that are trained; the model itself answers by class means in eval mode."""
        return nn.Sequential(strategy.model.feature_extractor, strategy.model.train_classifier)


class ICaRLLoss(Teacher):
    """Binary cross-entropy, summed over classes; the teacher gives the targets of old classes, for all images.

    Source:
        Rebuffi et al. 2017, Algorithm 3; Avalanche, ICaRLLossPlugin, in which (0.6.0) the teacher is in training mode,
        so that dropout makes what it teaches random. Differs: Avalanche's mean over classes asks for a learning rate
        that is larger by their number. With the sum, as in the paper, the gradient at an output is prediction minus
        target, as that of cross-entropy is, so one learning rate is as fair to both.
    """

    def taught(self, model: Any) -> nn.Module:
        """Return the part that is trained."""
        return nn.Sequential(model.feature_extractor, model.train_classifier)

    def ask(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the teacher's answers as probabilities, shape (n, n_classes)."""
        assert self.network is not None
        return torch.sigmoid(self.network(images))

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of outputs, shape (n, n_classes), for labels, shape (n,)."""
        targets = functional.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
        if self.answers is not None:
            targets[:, self.old_classes] = self.answers[:, self.old_classes]
        return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="sum") / len(labels)


def split_network(model: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """Return what lies below the last Linear layer, and that layer; parameters are the model's own.

    What follows the last layer without parameters, such as rectified outputs, is left out: the sigmoid of the loss
    takes its place.

    Args:
        model: An `nn.Sequential` with a last Linear layer, or Avalanche's SimpleMLP.

    Raises:
        ConfigError: It is something else.
    """
    if isinstance(model, SimpleMLP):
        return nn.Sequential(nn.Flatten(), model.features), model.classifier
    layers: list[Any] = list(model) if isinstance(model, nn.Sequential) else []
    while layers and not any(True for _ in layers[-1].parameters()):
        layers.pop()
    if not layers or type(layers[-1]) is not nn.Linear:
        raise ConfigError(
            f"icarl: {type(model).__name__} cannot be split into features and a classifier; give an nn.Sequential "
            "whose last layer with weights is nn.Linear, or Avalanche's SimpleMLP"
        )
    return nn.Sequential(*layers[:-1]), layers[-1]


def build_icarl(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build iCaRL, with a loss of its own: `setup.criterion` is not used.

    The model of the strategy is a `TrainEvalModel` around the layers of `setup.model`, which answers by the nearest
    class mean in eval mode.

    Raises:
        ConfigError: The model cannot be split, or the memory cannot hold every class.
    """
    features, last = split_network(setup.model)
    nearest = NearestMean(last.out_features, last.in_features).to(setup.device)
    model = TrainEvalModel(features, train_classifier=last, eval_classifier=nearest)
    plugin = ICaRL(setup.memory(of="icarl"), nearest)
    return icarl_with(plugin, ICaRLLoss(), replace(setup, model=model), plugins)
