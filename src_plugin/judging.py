"""A rehearsing network has samples of old classes in its batches; whether a sleep harms it, they can tell.

No sample is kept for that beyond the experience. A night is kept if the mean accuracy over classes rises by GAIN,
which is about what it costs what is learnt next. But where all that is rehearsed is recalled, it is known by heart:
the accuracy on it is above that on other inputs of the same classes, by something of the order of 1 / sqrt(n) with n
different exemplars a class, and a night takes of that, too. So of what has to be gained

    DOUBT / sqrt(n) * (old classes / all classes)

is taken off, times how far the recall is on the way from HEART to 1: a handful of exemplars known by heart forbids
little, thousands or half forgotten ones forbid any loss. If the whole night is not kept, levelling alone is tried, and
if noise was balanced already, only that is; it forgets little that is known by heart, so it has to gain something.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src_plugin.errors import ConfigError
from src_plugin.head import HeadState
from src_plugin.probing import Probe

Samples = tuple[Tensor, Tensor]
"""Inputs of the head, shape (n, n_0), and their classes, shape (n,)."""

DOUBT = 0.5
"""Of an accuracy that is told by one exemplar; 0.5 / sqrt(n) is the largest standard error that n samples can have."""

GAIN = 0.01
"""By how much the mean accuracy over classes has to rise where nothing is known by heart."""

HEART = 0.75
"""Recall from which on exemplars may be known by heart."""


def fingerprints(inputs: Tensor) -> Tensor:
    """Return a number for each row of inputs, shape (n,), that tells different rows apart and equal ones not.

    Rows are rounded to eight bits first, so that a backbone's rounding errors do not make two of one image.
    """
    inputs = inputs.cpu() if inputs.device.type == "mps" else inputs  # it has no float64
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(inputs.shape[1], generator=generator, dtype=torch.float64).to(inputs.device)
    return (inputs.to(torch.bfloat16).double() @ weights).float()


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


def must_rise(exemplars: float, *, recall: float, old: int, new: int) -> float:
    """Return by how much the mean accuracy over classes has to rise in a night, as a fraction; below 0 it may fall.

    Args:
        exemplars: Different exemplars of an old class, on average.
        recall: Share of them that training classified rightly.
        old: Number of old classes.
        new: Number of new classes.
    """
    by_heart = max(0.0, (recall - HEART) / (1.0 - HEART))
    return GAIN - by_heart * DOUBT / math.sqrt(max(exemplars, 1.0)) * old / (old + new)


@dataclass(frozen=True)
class Judge:
    """Tells by samples whether a night is kept.

    Attributes:
        shown: The head, and its inputs from different samples of old and of new classes.
        classes: Of these samples, shape (n,).
        times: How often each was among the samples, shape (n,).
        trained: The head's parameters before the night.
        recall: Share of rehearsed samples that training classified rightly.
        old: Classes learnt earlier.
        new: Classes learnt now.
        exemplars: Different ones of an old class, on average; None counts those among the samples.
    """

    shown: Probe
    classes: Tensor
    times: Tensor
    trained: HeadState
    recall: float
    old: tuple[int, ...]
    new: tuple[int, ...]
    exemplars: float | None = None

    def hear(self, state: HeadState, *, must_gain: bool) -> tuple[bool, dict[str, Any]]:
        """Return whether a night is kept, and what the report says of it.

        Args:
            state: The parameters after the night.
            must_gain: The accuracy has to rise, if ever so little, whatever is known by heart.
        """
        classes, times, exemplars = self.classes, self.times, self.exemplars
        if exemplars is None:
            exemplars = count_exemplars(fingerprints(self.shown.inputs), classes, old=self.old)
        n_old = int(times[torch.isin(classes, torch.tensor(self.old, device=classes.device))].sum())
        among = tuple(sorted({*self.old, *self.new}))
        now, then = (by_class(self.shown, point, classes, times, among=among) for point in (self.trained, state))
        asked = must_rise(exemplars, recall=self.recall, old=len(self.old), new=len(self.new))
        told = {
            "samples": [n_old, int(times.sum()) - n_old],
            "exemplars": exemplars,
            "must_rise": 0.0 if must_gain else asked,
            "samples_trained": now,
            "samples_after": then,
        }
        return then > now if must_gain else then - now >= asked, told


def by_class(shown: Probe, state: HeadState, classes: Tensor, times: Tensor, *, among: tuple[int, ...]) -> float:
    """Return the mean over classes of the share of samples that are classified rightly.

    Args:
        shown: The head, and inputs to show it.
        state: Its parameters.
        classes: Of the inputs, shape (n,).
        times: How often each input counts, shape (n,).
        among: Outputs among which is chosen, ascending.
    """
    columns = torch.tensor(among, device=classes.device)
    answers = columns[shown.logits(state)[:, columns].argmax(1)]
    right = (answers == classes) * times
    rows = [classes == c for c in classes.unique()]
    return float(torch.stack([right[own].sum().double() / times[own].sum() for own in rows]).mean())


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
