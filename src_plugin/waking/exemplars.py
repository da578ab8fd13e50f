"""Exemplars that a strategy keeps but never trains on, so that no batch can tell how well they are recalled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from avalanche.training.plugins import AGEMPlugin, GEMPlugin
from torch import Tensor, nn
from torch.utils.data import DataLoader

from src_plugin.head.modes import eval_mode


def exemplars_of(strategy: Any, *, old: Sequence[int]) -> tuple[Tensor, Tensor] | None:
    """Return the exemplars of old classes that GEM and A-GEM keep (Avalanche's plugins, and what derives from them).

    They use exemplars only to turn gradients. Nothing is drawn from global random states.

    Args:
        strategy: An Avalanche strategy.
        old: The classes whose exemplars count.

    Returns:
        Inputs of the model, shape (n, ...), and their classes, shape (n,), on the CPU; None if there are none.
    """
    inputs, classes = [], []
    for x, y in _exemplars(strategy.plugins):
        rows = torch.isin(y, torch.tensor(list(old), dtype=y.dtype, device=y.device))
        if bool(rows.any()):
            inputs.append(x[rows].cpu())
            classes.append(y[rows].cpu())
    return (torch.cat(inputs), torch.cat(classes)) if inputs else None


def recall_of(model: nn.Module, exemplars: tuple[Tensor, Tensor], *, known: Sequence[int], device: Any) -> float:
    """Return the share of exemplars that a model classifies rightly among all known classes.

    Args:
        model: The model; it answers in eval mode, and its modes are restored.
        exemplars: See `exemplars_of`.
        known: The classes among which is chosen.
        device: Where the model is.
    """
    right = 0
    columns = torch.tensor(sorted(known), device=device)
    with eval_mode(model), torch.no_grad():
        for x, y in zip(*(part.split(512) for part in exemplars), strict=True):
            outputs = model(x.to(device))
            usable = columns[columns < outputs.shape[1]]
            right += int((usable[outputs[:, usable].argmax(1)] == y.to(device)).sum())
    return right / len(exemplars[1])


def _exemplars(plugins: Sequence[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    for plugin in plugins:
        if isinstance(plugin, GEMPlugin):
            yield from ((plugin.memory_x[task], plugin.memory_y[task]) for task in plugin.memory_x)
        elif isinstance(plugin, AGEMPlugin):
            for dataset in plugin.buffers:
                # A generator of its own: a DataLoader draws its base seed even where it does not shuffle.
                for x, y, *_ in DataLoader(dataset, batch_size=512, generator=torch.Generator()):
                    yield x, y
