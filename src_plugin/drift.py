"""What training did to parameters: whether all are still finite, and which moved outside the head.

The mean input of the head is a mean over features; where a layer below the head was trained, features of earlier
experiences were others. A parameter is told to have moved by a checksum, so no copy of a backbone is held.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from src_plugin.errors import WeightsError
from src_plugin.head import Head


def checksums(model: nn.Module, *, apart_from: Iterable[nn.Module]) -> dict[str, int]:
    """Return a checksum of every trainable parameter of the model that is not in the layers named, by its name."""
    known = {id(p) for layer in apart_from for p in layer.parameters()}
    return {
        name: zlib.crc32(p.detach().reshape(-1).cpu().view(torch.uint8).numpy().data)
        for name, p in _trainable(model)
        if id(p) not in known
    }


def moved(before: Mapping[str, int], now: Mapping[str, int]) -> list[str]:
    """Return the names of parameters whose checksum is not that of before, or that have none of that time.

    Measured, and not read off gradients: an optimizer may never step a parameter that has one, or have cleared it.
    """
    return [name for name, checksum in now.items() if before.get(name) != checksum]


def drift_message(names: Sequence[str], head: Head) -> str:
    """Return what a user should know of parameters that moved below a head, and the cure."""
    return (
        f"{len(names)} parameters below the head were trained in this experience (first: {names[0]!r}), so the mean "
        "input of earlier experiences no longer fits the features. Freeze the backbone with requires_grad_(False), or "
        f"expect sleep to help less ({head.describe()})"
    )


def check_trained(model: nn.Module) -> None:
    """Refuse parameters that training left NaN or infinite, by their names in the model.

    Raises:
        WeightsError: A trainable parameter, in the head or not, is not finite.
    """
    for name, parameter in _trainable(model):
        bad = int((~torch.isfinite(parameter)).sum())
        if bad:
            raise WeightsError(
                f"{name!r} has {bad} of {parameter.numel()} values that are NaN or infinite: training diverged before "
                "the sleep. Lower the learning rate or clip gradients; nothing was changed"
            )


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad and not is_lazy(p))
