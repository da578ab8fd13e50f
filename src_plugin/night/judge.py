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

from src_plugin.head.probe import Probe
from src_plugin.head.state import HeadState
from src_plugin.waking.samples import count_exemplars, fingerprints

DOUBT = 0.5
"""Of an accuracy that is told by one exemplar; 0.5 / sqrt(n) is the largest standard error that n samples can have."""

GAIN = 0.01
"""By how much the mean accuracy over classes has to rise where nothing is known by heart."""

HEART = 0.75
"""Recall from which on exemplars may be known by heart."""


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
