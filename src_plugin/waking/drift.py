"""What training did to a model: whether all parameters are still finite, and what moved outside the head.

The mean input of the head is a mean over features; where a layer below the head was trained, or its running statistics
moved, features of earlier experiences were others. That something moved is told by a checksum, so no copy of a backbone
is held.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from src_plugin.errors import WeightsError
from src_plugin.head.state import Head


def checksums(model: nn.Module, *, apart_from: Iterable[nn.Module]) -> dict[str, int]:
    """Return a checksum of every trainable parameter of the model that is not in the layers named, by its name."""
    known = {id(p) for layer in apart_from for p in layer.parameters()}
    return {name: _checksum(p) for name, p in _trainable(model) if id(p) not in known}


def buffer_checksums(model: nn.Module) -> dict[str, int]:
    """Return a checksum of every floating-point buffer of the model, by its name."""
    return {
        name: _checksum(b)
        for name, b in model.named_buffers()
        if b.is_floating_point() and b.layout == torch.strided and not is_lazy(b)
    }


def moved(before: Mapping[str, int], now: Mapping[str, int]) -> list[str]:
    """Return the names of parameters whose checksum is not that of before, or that have none of that time.

    Measured, and not read off gradients: an optimizer may never step a parameter that has one, or have cleared it.
    """
    return [name for name, checksum in now.items() if before.get(name) != checksum]


def changed(before: Mapping[str, int], now: Mapping[str, int]) -> list[str]:
    """Return the names of buffers that are there before and now, with another checksum; a new one is no change."""
    return [name for name, checksum in now.items() if before.get(name, checksum) != checksum]


def drift_message(names: Sequence[str], head: Head) -> str:
    """Return what a user should know of parameters that moved below a head, and the cure."""
    return (
        f"{len(names)} parameters below the head were trained in this experience (first: {names[0]!r}), so the mean "
        "input of earlier experiences no longer fits the features. Freeze the backbone with requires_grad_(False), or "
        f"expect sleep to help less ({head.describe()})"
    )


def buffer_message(names: Sequence[str], model: nn.Module, head: Head) -> str:
    """Return what a user should know of buffers that changed below a head, and the cure."""
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    kind = type(model.get_submodule(modules[0])).__name__
    more = "" if len(modules) == 1 else f" and those of {len(modules) - 1} more modules"
    return (
        f"buffers of {modules[0]!r} ({kind}){more} below the head changed in training (first: {names[0]!r}), so the "
        "mean input of earlier experiences no longer fits the features. Freeze the backbone, and keep it in eval mode "
        "whoever calls train():\n\n"
        "    class Frozen(torch.nn.Sequential):\n"
        "        def train(self, mode=True):\n"
        "            return super().train(False)\n\n"
        "    model = torch.nn.Sequential(Frozen(backbone).requires_grad_(False).eval(), head)\n\n"
        f"({head.describe()})"
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


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.detach().reshape(-1).cpu().view(torch.uint8).numpy().data)
