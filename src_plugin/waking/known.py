"""Known: what a model knew before it was watched, as its user tells it."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from src_plugin.errors import ConfigError
from src_plugin.waking.mean import check_mean_input

Seen = Sequence[int] | Mapping[int, int] | None
"""Classes that a model knows already, or the number of images of each."""


@dataclass(frozen=True)
class Known:
    """Classes learnt before, and what reached the head then.

    Attributes:
        counts: Images of each class; 0 where that is not known.
        mean: Mean input of the head, shape (n_0,); None if it is not known.

    Example:
        >>> Known.of([0, 2], [0.5, 0.25]).counts
        {0: 0, 2: 0}
    """

    counts: dict[int, int] = field(default_factory=dict)
    mean: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, seen: Seen, mean_input: ArrayLike | Tensor | None, *, as_rates: bool = False) -> Known:
        """Read what a user tells.

        Args:
            seen: Class numbers, or the number of images of each.
            mean_input: Mean input of the head over them, shape (n_0,).
            as_rates: Whether it gives rates, and must not be negative.

        Raises:
            ConfigError: Those are no class numbers or no numbers of images, or a mean is given alone.
            StimulusError: The mean cannot drive a sleep.
        """
        counts = _counts(seen)
        if mean_input is None:
            return cls(counts)
        if not counts:
            raise ConfigError("mean_input is given without seen: give the classes that it is the mean of, seen=[0, 1]")
        given = mean_input.detach().cpu().numpy() if isinstance(mean_input, Tensor) else mean_input
        mean = np.array(given, np.float64)
        check_mean_input(mean, as_rates=as_rates)
        return cls(counts, mean)

    def weight(self, now: Mapping[int, int]) -> float:
        """Return how much the mean counts beside that of an experience: by images, or by classes.

        Args:
            now: Images of each class of the experience; empty if that is not known.
        """
        if not now:
            return 1.0
        if all(self.counts.values()) and all(now.values()):
            return sum(self.counts.values()) / sum(now.values())
        return len(self.counts) / len(now)


def _counts(seen: Seen) -> dict[int, int]:
    """Return the number of images of each class, 0 if it is not known.

    Raises:
        ConfigError: As `Known.of`.
    """
    if seen is None:
        return {}
    try:
        if isinstance(seen, Mapping):
            counts = {operator.index(c): operator.index(n) for c, n in seen.items()}
        else:
            counts = {operator.index(c): 0 for c in seen}
    except TypeError:
        counts = {}
    if not counts or min(counts) < 0 or (isinstance(seen, Mapping) and min(counts.values()) < 1):
        raise ConfigError(
            f"seen={seen!r}: give class numbers from 0, seen=[0, 1], or how many images of each there were, "
            "seen={0: 500, 1: 480}"
        )
    return counts
