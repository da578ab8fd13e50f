"""Networks and losses by name, those of the paper's own protocol included."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.config import ModelConfig, TrainingConfig


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


def build_model(config: ModelConfig, *, n_inputs: int, n_classes: int) -> nn.Module:
    """Build a network, drawing its weights from torch's global generator.

    Args:
        config: Kind, sizes and initialisation.
        n_inputs: Pixels per image; images of any shape are flattened.
        n_classes: Number of outputs.
    """
    if config.kind == "simple_mlp":
        from avalanche.models import SimpleMLP

        model: nn.Module = SimpleMLP(
            num_classes=n_classes,
            input_size=n_inputs,
            hidden_size=config.hidden[0],
            hidden_layers=len(config.hidden),
            drop_rate=config.dropout,
        )
    else:
        model = _mlp(config, n_inputs=n_inputs, n_classes=n_classes)
    if config.init_half_range is not None:
        for parameter in model.parameters():
            nn.init.uniform_(parameter, -config.init_half_range, config.init_half_range)
    return model


def _mlp(config: ModelConfig, *, n_inputs: int, n_classes: int) -> nn.Sequential:
    dropout = {"inverted": nn.Dropout, "paper": PlainDropout}[config.dropout_style]
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = [n_inputs, *config.hidden]
    for n_pre, n_post in pairwise(sizes):
        layers += [nn.Linear(n_pre, n_post, bias=config.bias), nn.ReLU()]
        if config.dropout:
            layers.append(dropout(config.dropout))
    layers.append(nn.Linear(sizes[-1], n_classes, bias=config.bias))
    if config.output == "relu":
        layers.append(StraightThroughReLU())
    return nn.Sequential(*layers)


def build_optimizer(config: TrainingConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Build the optimizer; its state is carried from one experience to the next, and through sleep."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    kind: type[torch.optim.Adam] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(parameters, lr=config.lr, weight_decay=config.weight_decay)
