"""How well a network recalls exemplars that a strategy keeps but never trains on, so that no batch can tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from avalanche.training.plugins import AGEMPlugin, GEMPlugin
from torch import Tensor
from torch.utils.data import DataLoader

from src_plugin.tracing import eval_mode


def recall_of_memory(strategy: Any, *, old: Sequence[int], known: Sequence[int]) -> float | None:
    """Return the share of the exemplars of old classes that the network classifies rightly among all known classes.

    GEM and A-GEM (Avalanche's plugins, and what derives from them) use exemplars only to turn gradients. Nothing is
    drawn from global random states.

    Args:
        strategy: An Avalanche strategy.
        old: The classes whose exemplars count.
        known: The classes among which is chosen.

    Returns:
        A fraction; None if no plugin keeps exemplars in this way, or none of old classes.
    """
    right = n = 0
    columns = torch.tensor(sorted(known), device=strategy.device)
    with eval_mode(strategy.model), torch.no_grad():
        for x, y in _exemplars(strategy.plugins):
            rows = torch.isin(y, torch.tensor(list(old), dtype=y.dtype, device=y.device))
            if bool(rows.any()):
                outputs = strategy.model(x[rows].to(strategy.device))
                usable = columns[columns < outputs.shape[1]]
                answers = usable[outputs[:, usable].argmax(1)]
                right += int((answers == y[rows].to(strategy.device)).sum())
                n += int(rows.sum())
    return right / n if n else None


def _exemplars(plugins: Sequence[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    for plugin in plugins:
        if isinstance(plugin, GEMPlugin):
            yield from ((plugin.memory_x[task], plugin.memory_y[task]) for task in plugin.memory_x)
        elif isinstance(plugin, AGEMPlugin):
            for dataset in plugin.buffers:
                # A generator of its own: a DataLoader draws its base seed even where it does not shuffle.
                for x, y, *_ in DataLoader(dataset, batch_size=512, generator=torch.Generator()):
                    yield x, y
