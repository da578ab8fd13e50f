"""Exemplars that a strategy keeps and that are in no batch, so that none can tell how well they are recalled.

GEM and A-GEM use them to turn gradients; ER-ACE, MIR and others rehearse them in a forward pass of their own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from avalanche.training.plugins import AGEMPlugin, GEMPlugin, GenerativeReplayPlugin
from avalanche.training.storage_policy import ExemplarsBuffer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from src_plugin.head.modes import eval_mode


def exemplars_of(strategy: Any, *, old: Sequence[int]) -> tuple[Tensor, Tensor] | None:
    """Return the exemplars of old classes that a strategy and its plugins keep.

    Those of GEM and A-GEM (Avalanche's plugins, and what derives from them), and of every `storage_policy` that is an
    `ExemplarsBuffer` of Avalanche's, as ER-ACE, ER-AML and MIR have. Nothing is drawn from global random states.

    Args:
        strategy: An Avalanche strategy.
        old: The classes whose exemplars count.

    Returns:
        Inputs of the model, shape (n, ...), and their classes, shape (n,), on the CPU; None if there are none.
    """
    inputs, classes = [], []
    shape = None if strategy.mbatch is None else strategy.mb_x.shape[1:]
    for x, y in _exemplars(strategy):
        if shape is not None and x.shape[1:] != shape:  # features, or what else is no input of the model
            continue
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


def n_generated(strategy: Any, *, real: int) -> int:
    """Return how many samples of the current batch a generator made: those behind the real ones.

    Their classes are what an older copy of the model took them for, so they tell nothing of how well it recalls.

    Args:
        strategy: An Avalanche strategy, in a training iteration.
        real: Samples in the batch before any plugin added to it.
    """
    generates = any(isinstance(plugin, GenerativeReplayPlugin) for plugin in strategy.plugins)
    return max(0, len(strategy.mb_y) - real) if generates else 0


def _exemplars(strategy: Any) -> Iterator[tuple[Tensor, Tensor]]:
    for owner in (strategy, *strategy.plugins):
        buffer = getattr(owner, "storage_policy", None)
        if isinstance(owner, GEMPlugin):
            yield from ((owner.memory_x[task], owner.memory_y[task]) for task in owner.memory_x)
        elif isinstance(owner, AGEMPlugin):
            for dataset in owner.buffers:
                yield from _batches(dataset)
        elif isinstance(buffer, ExemplarsBuffer):
            yield from _batches(buffer.buffer)


def _batches(dataset: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and classes; transformations may draw, and draw from random states that are put back."""
    with same_states():
        # A generator of its own: a DataLoader draws its base seed even where it does not shuffle.
        pairs = [(x, y) for x, y, *_ in DataLoader(dataset, batch_size=512, generator=torch.Generator())]
    yield from pairs


@contextmanager
def same_states() -> Iterator[None]:
    """Put global random states back afterwards: Python's, NumPy's and torch's on the CPU."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
