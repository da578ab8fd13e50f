"""Samples of a rehearsing network: inputs of the head with their classes, the different ones told apart."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from src_plugin.errors import ConfigError

Samples = tuple[Tensor, Tensor]
"""Inputs of the head, shape (n, n_0), and their classes, shape (n,)."""


def fingerprints(inputs: Tensor) -> Tensor:
    """Return a number for each row of inputs, shape (n,), that tells different rows apart and equal ones not.

    Rows are rounded to eight bits first, so that a backbone's rounding errors do not make two of one image.
    """
    inputs = inputs.cpu() if inputs.device.type == "mps" else inputs  # it has no float64
    return (inputs.to(torch.bfloat16).double() @ _print_weights(inputs.shape[1]).to(inputs.device)).float()


@lru_cache(maxsize=8)
def _print_weights(n: int) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def merge_repeated(inputs: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each different sample once: few exemplars fill many batches, and one answer tells for all of its copies.

    Args:
        inputs: Inputs of the head, shape (n, n_0).
        classes: Their classes, shape (n,).

    Returns:
        Inputs, shape (m, n_0), and classes, shape (m,), in the order in which they came first, and how often each was
        among the samples, shape (m,).
    """
    pairs = torch.stack([classes.double(), fingerprints(inputs).double()], dim=1)
    _, group = pairs.unique(dim=0, return_inverse=True)
    n = len(classes)
    first = torch.full((n,), n).scatter_reduce(0, group, torch.arange(n), "amin")[group]  # of each sample's likes
    alike = (inputs == inputs[first]).all(dim=1)  # a fingerprint may err
    first = torch.where(alike, first, torch.arange(n))
    kept, times = first.unique(return_counts=True)
    return inputs[kept], classes[kept], times


def count_exemplars(prints: Tensor, classes: Tensor, *, old: tuple[int, ...]) -> float:
    """Return how many different exemplars an old class has, on average.

    Args:
        prints: `fingerprints` of samples, shape (n,).
        classes: Their classes, shape (n,).
        old: The old classes; samples of others do not count.
    """
    rows = torch.isin(classes, torch.tensor(old, dtype=classes.dtype, device=classes.device))
    pairs = torch.stack([classes[rows].double(), prints[rows].double()], dim=1)
    return len(pairs.unique(dim=0)) / max(1, len(old))


def check_samples(samples: object, *, n_inputs: int, old: tuple[int, ...], new: tuple[int, ...]) -> Samples:
    """Return samples as tensors on the CPU.

    Args:
        samples: Two arrays or tensors.
        n_inputs: Of the head.
        old: Classes learnt earlier.
        new: Classes learnt now.

    Raises:
        ConfigError: They are not inputs of the head with a class each, are not finite, or are not of old and new
            classes.
    """
    if not isinstance(samples, (tuple, list)) or len(samples) != 2:
        raise ConfigError(
            f"samples are a {type(samples).__name__}; give two arrays, inputs of the head and their classes: "
            "samples=(x, y)"
        )
    try:
        inputs, classes = (torch.as_tensor(part).detach().to("cpu") for part in samples)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"samples cannot be read as two arrays, inputs of the head and their classes: {error}"
        ) from None
    if inputs.ndim != 2 or inputs.shape[1] != n_inputs or classes.shape != inputs.shape[:1] or not len(classes):
        raise ConfigError(
            f"samples have shapes {tuple(inputs.shape)} and {tuple(classes.shape)}; they must be inputs of the head, "
            f"(n, {n_inputs}), and their classes, (n,), at least one"
        )
    if not bool(inputs.sum().isfinite()) and not bool(inputs.isfinite().all()):  # a sum may overflow
        raise ConfigError("samples are not finite, so nothing can be judged by them")
    shown = set(classes.unique().tolist())
    if shown - {*old, *new} or not shown & set(old) or not shown & set(new):
        raise ConfigError(
            f"samples are of classes {sorted(shown)}; they must be of old classes, {list(old)}, and of new ones, "
            f"{list(new)}, some of each and no others"
        )
    return inputs, classes
