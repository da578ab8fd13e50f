"""Networks and losses by name, those of the paper's own protocol included."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from avalanche.models import MultiHeadClassifier, MultiTaskModule, SimpleMLP
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.configs.run import ModelConfig, TrainingConfig
from benchmarks.runs.layers import Divide


class StraightThroughReLU(nn.ReLU):
    """Rectified outputs whose gradient is 1 everywhere, so that an output below zero can still be pulled up.

    Source:
        Tadros et al. 2022, authors' code NN/nnbp.m: the output error of squared error is not multiplied by the
        derivative of the ReLU.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return max(z, 0), shape as given; gradients pass unchanged."""
        return input + (functional.relu(input) - input).detach()


class PlainDropout(nn.Dropout):
    """Dropout without rescaling in training; in use, activations are multiplied by 1 - p.

    Source:
        Tadros et al. 2022, authors' code NN/nnff.m. PyTorch's own ("inverted") scales in training instead.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the masked (training) or scaled (in use) activations, shape as given."""
        if self.training:
            return input * (torch.rand_like(input) >= self.p)
        return input * (1.0 - self.p)


class SquaredError(nn.Module):
    """0.5 * sum over outputs of (one-hot - a)^2, mean over the batch."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of outputs, shape (n, n_classes), for labels, shape (n,)."""
        one_hot = functional.one_hot(target, output.shape[1]).to(output.dtype)
        return 0.5 * (one_hot - output).square().sum(dim=1).mean()


LOSSES: dict[str, Callable[[], nn.Module]] = {"cross_entropy": nn.CrossEntropyLoss, "squared_error": SquaredError}


class MultiHead(MultiTaskModule):  # type: ignore[misc]
    """Hidden layers shared by all tasks, and for each task a Linear layer of its own, made when its training begins.

    As in Avalanche, a task's layer has biases and PyTorch's own initialisation, and at least two outputs.
    """

    def __init__(self, trunk: nn.Module, n_features: int) -> None:
        """Keep the hidden layers, which end in `n_features` units."""
        super().__init__()
        self.trunk = trunk
        self.heads = MultiHeadClassifier(n_features)

    def forward(self, x: Tensor, task_labels: Any) -> Any:
        """Return the outputs of the task with each image, shape (n, classes of a task); for None those of all tasks."""
        return self.heads(self.trunk(x), task_labels)

    def has_head(self, task: int) -> bool:
        """Whether a task has begun to be trained."""
        return task in self.heads.known_train_tasks_labels


def on_backbone(backbone: nn.Module, head: nn.Module, *, scale: float | None = None) -> nn.Sequential:
    """Return one model: a frozen backbone, its features divided by a number if there is one, and a head."""
    return nn.Sequential(backbone, *([] if scale is None else [Divide(scale)]), head)


def build_model(config: ModelConfig, *, n_inputs: int, n_classes: int | None) -> nn.Module:
    """Build a network, drawing its weights from torch's global generator.

    Args:
        config: Kind, sizes and initialisation.
        n_inputs: Pixels per image; images of any shape are flattened.
        n_classes: Number of outputs; None for a `MultiHead`.
    """
    n_features = [n_inputs, *config.hidden][-1]
    if n_classes is None:
        return MultiHead(_hidden(config, n_inputs=n_inputs), n_features)
    if config.kind == "simple_mlp":
        model: nn.Module = _simple_mlp(config, n_inputs=n_inputs, n_classes=n_classes)
    else:
        layers = [*_hidden(config, n_inputs=n_inputs), nn.Linear(n_features, n_classes, bias=config.bias)]
        model = nn.Sequential(*layers, *([StraightThroughReLU()] if config.output == "relu" else []))
    if config.init_half_range is not None:
        for parameter in model.parameters():
            nn.init.uniform_(parameter, -config.init_half_range, config.init_half_range)
    return model


def _hidden(config: ModelConfig, *, n_inputs: int) -> nn.Sequential:
    if config.kind == "simple_mlp":
        return nn.Sequential(nn.Flatten(), *_simple_mlp(config, n_inputs=n_inputs, n_classes=1).features)
    dropout = {"inverted": nn.Dropout, "paper": PlainDropout}[config.dropout_style]
    layers: list[nn.Module] = [nn.Flatten()]
    for n_pre, n_post in pairwise([n_inputs, *config.hidden]):
        layers += [nn.Linear(n_pre, n_post, bias=config.bias), nn.ReLU()]
        if config.dropout:
            layers.append(dropout(config.dropout))
    return nn.Sequential(*layers)


def _simple_mlp(config: ModelConfig, *, n_inputs: int, n_classes: int) -> Any:
    return SimpleMLP(
        num_classes=n_classes,
        input_size=n_inputs,
        hidden_size=config.hidden[0],
        hidden_layers=len(config.hidden),
        drop_rate=config.dropout,
    )


def build_optimizer(config: TrainingConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Build the optimizer of what is not frozen; its state is carried through the stream, and through sleep."""
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    kind: type[torch.optim.Adam] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(parameters, lr=config.lr, weight_decay=config.weight_decay)
