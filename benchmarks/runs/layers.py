"""A network as a chain of plain layers, each known by a name and what its constructor was given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from src_plugin.errors import ConfigError
from strategies.nearest import NearestByDistance, NearestMean


class Divide(nn.Module):
    """Divides by a number.

    Args:
        scale: The number.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Return x / scale, shape as given."""
        return x / self.scale


class Multiply(nn.Module):
    """Multiplies by a number.

    Args:
        factor: The number.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return x * factor, shape as given."""
        return x * self.factor


def _sizes(layer: NearestMean | NearestByDistance) -> dict[str, int]:
    return {"n_classes": layer.means.shape[0], "n_features": layer.means.shape[1]}


LAYERS: dict[str, tuple[type[nn.Module], Callable[[Any], dict[str, Any]]]] = {
    "flatten": (nn.Flatten, lambda layer: {"start_dim": layer.start_dim, "end_dim": layer.end_dim}),
    "linear": (
        nn.Linear,
        lambda layer: {
            "in_features": layer.in_features,
            "out_features": layer.out_features,
            "bias": layer.bias is not None,
        },
    ),
    "relu": (nn.ReLU, lambda layer: {}),
    "divide": (Divide, lambda layer: {"scale": layer.scale}),
    "multiply": (Multiply, lambda layer: {"factor": layer.factor}),
    "nearest_mean": (NearestMean, _sizes),
    "nearest_by_distance": (NearestByDistance, _sizes),
}
"""Name in the file -> class, and what its constructor was given."""


def count_outputs(chain: nn.Sequential) -> int:
    """Return how many scores a chain of layers gives."""
    for layer in reversed(list(chain)):
        if isinstance(layer, nn.Linear):
            return layer.out_features
        if isinstance(layer, (NearestMean, NearestByDistance)):
            return len(layer.means)
    return 0


def plain_layers(network: nn.Module) -> list[nn.Module]:
    """Return the layers of nested Sequentials in a row, without those that do nothing in use.

    Raises:
        ConfigError: A layer that is not in `LAYERS`.
    """
    if isinstance(network, nn.Sequential):
        return [layer for part in network for layer in plain_layers(part)]
    if type(network) in (nn.Dropout, nn.Identity):
        return []
    if type(network) not in [kind for kind, _ in LAYERS.values()]:
        names = ", ".join(kind.__name__ for kind, _ in LAYERS.values())
        raise ConfigError(
            f"a model file cannot hold {type(network).__name__}; give an nn.Sequential of {names}, Dropout and "
            "Identity, without the backbone"
        )
    return [network]


def describe(layer: nn.Module) -> dict[str, Any]:
    """Return the name of a layer and what its constructor was given."""
    name, options = next((name, options) for name, (kind, options) in LAYERS.items() if type(layer) is kind)
    return {"kind": name, **options(layer)}


def build_layers(described: Sequence[Mapping[str, Any]]) -> nn.Sequential:
    """Return the chain that `describe` described layer by layer; its weights are still to be loaded."""
    options = [dict(layer) for layer in described]
    return nn.Sequential(*(LAYERS[layer.pop("kind")][0](**layer) for layer in options))
