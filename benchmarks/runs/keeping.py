"""From a run to the model file that it leaves: what answers in the end, as plain layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from avalanche.models import SimpleMLP
from torch import nn

from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.data.sets import DATA_SETS
from benchmarks.runs.image_model import Pixels
from benchmarks.runs.layers import Divide, Multiply, count_outputs
from benchmarks.runs.models import PlainDropout, StraightThroughReLU
from benchmarks.runs.saved import save_model
from strategies.prediction import answering_network

Save = Callable[[Path, Mapping[str, Any]], None]
"""Writes a model file: path, and what is to be said of the run."""


def prepare_saving(strategy: Any, *, config: RunConfig, data: Dataset, scales: list[float] | None) -> Save:
    """Return what writes the model of a strategy; nothing is copied before.

    Args:
        strategy: At the end of its run.
        config: What was run.
        data: The images.
        scales: What inputs were divided by after each experience, see `benchmarks.streams.stream.Stream`.
    """
    network = answering_network(strategy)
    estimates = network is strategy.model and config.training.loss == "squared_error"
    if data.backbone is not None and isinstance(network, nn.Sequential):
        network = network[1:]  # the backbone is named, and built anew
    head = nn.Sequential(*([] if scales is None else [Divide(scales[-1])]), *_plain(network))
    pixels = {"pixels": Pixels(data.train_images.shape[1:], _sides(data, config.stream.dataset))}
    features: dict[str, Any] = {"backbone": config.backbone, "provenance": (data.provenance or {}).get("backbone")}

    def save(path: Path, run: Mapping[str, Any]) -> None:
        save_model(
            path,
            head,
            class_names=data.class_names[: count_outputs(head)],  # some methods know no class after the last seen
            probabilities="shares" if estimates else "softmax",
            run=run,
            **(pixels if config.backbone is None else features),
        )

    return save


def _sides(data: Dataset, name: str) -> tuple[int, int] | None:
    """Return width and height of the images of a data set; None of a table."""
    shape = data.train_images.shape[1:]
    if len(shape) == 3 and shape[0] in (1, 3):
        return shape[2], shape[1]
    return DATA_SETS[name].flat_sides if name in DATA_SETS else None


def _plain(network: nn.Module) -> Iterator[nn.Module]:
    """Yield layers that do in use what those of `benchmarks.runs.models` do."""
    match network:
        case SimpleMLP():
            yield nn.Flatten()
            yield from _plain(network.features)
            yield network.classifier
        case nn.Sequential():
            for part in network:
                yield from _plain(part)
        case PlainDropout():
            yield Multiply(1.0 - network.p)
        case StraightThroughReLU():
            yield nn.ReLU()
        case _:
            yield network
