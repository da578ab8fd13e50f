"""Recent: the last inputs of the head in an experience, and the last rehearsed ones, held until its sleep.

How many different exemplars were rehearsed is told by a number for each, over the whole experience.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from src_plugin.waking.samples import Samples, count_exemplars, fingerprints

RECENT = 1000
"""Inputs of the head held until the sleep; of a rehearsing network, as many of old and of new classes beside them."""


QUEUES = ("inputs", "fresh", "rehearsed")
"""Lists of batches in what `Recent.now` returns, oldest first: inputs, and twice inputs with their classes."""

Held = TypeVar("Held")


class _Last(Generic[Held]):
    """The last items, without those of which the later ones hold `RECENT` samples."""

    def __init__(self) -> None:
        self.items: deque[tuple[Held, int]] = deque()
        self._n = 0

    def add(self, item: Held, n: int) -> None:
        """Append an item of n samples, and drop the oldest ones that `RECENT` does without."""
        self.items.append((item, n))
        self._n += n
        while self._n - self.items[0][1] >= RECENT:
            self._n -= self.items.popleft()[1]

    def all(self) -> list[Held]:
        """Return the items, oldest first."""
        return [item for item, _ in self.items]


class _Part:
    """Some rows of a batch, that are only copied where they are few of it: the batch is held already.

    Args:
        x: Inputs of the head, shape (n, n_0).
        classes: Of each, shape (n,).
        rows: Which of them, shape (k,); None takes all.
    """

    def __init__(self, x: Tensor, classes: Tensor, rows: Tensor | None = None) -> None:
        self._x, self._classes = x, classes
        self._rows = None if rows is None or len(rows) == len(x) else rows

    def light(self) -> _Part:
        """Return the same rows, without the others if these are more."""
        if self._rows is not None and 2 * len(self._rows) < len(self._x):
            (self._x, self._classes), self._rows = self.pair(), None
        return self

    def pair(self) -> Samples:
        """Return the rows, and their classes."""
        if self._rows is None:
            return self._x, self._classes
        rows = self._rows
        return self._x.index_select(0, rows.to(self._x.device)), self._classes[rows.to(self._classes.device)]


class Recent:
    """Holds the last inputs of the head, and the last of earlier classes, with their classes where those are known."""

    def __init__(self) -> None:
        self._inputs: _Last[Tensor] = _Last()
        self._fresh: _Last[_Part] = _Last()
        self._rehearsed: _Last[_Part] = _Last()
        self._prints: list[Samples] = []  # of all rehearsed inputs, and their classes

    def note(self, batches: Sequence[tuple[Tensor, Tensor | None]], *, seen: Collection[int]) -> None:
        """Take in some batches, which are looked at together.

        Args:
            batches: Inputs of the head, shape (n, n_0), and the class of each, shape (n,); None where classes are not
                class numbers.
            seen: Classes of earlier experiences.
        """
        for x, _ in batches:
            self._inputs.add(x, x.shape[0])
        known = [(x, classes) for x, classes in batches if classes is not None and classes.shape == x.shape[:1]]
        if seen and known:
            self._tell_apart(known, seen)

    def _tell_apart(self, batches: Sequence[Samples], seen: Collection[int]) -> None:
        """Hold old and new samples, each for themselves."""
        classes = torch.cat([c for _, c in batches])
        is_old = torch.isin(classes, torch.tensor(sorted(seen), device=classes.device))
        told = is_old.tolist()
        places = [
            which.nonzero()[:, 0].split(sizes) for which, sizes in _sizes(is_old, told, [len(c) for _, c in batches])
        ]
        start = 0
        for (x, c), old, new in zip(batches, *places, strict=True):
            if len(old):
                mine = _Part(x, c, old - start)
                inputs, its = mine.pair()
                self._prints.append((fingerprints(inputs), its))
                self._rehearsed.add(mine.light(), len(old))
            if len(new):
                self._fresh.add(_Part(x, c, new - start).light(), len(new))
            start += len(c)

    @property
    def inputs(self) -> Tensor | None:
        """The last inputs, about `RECENT` of them, shape (n, n_0)."""
        inputs = self._inputs.all()
        return torch.cat(inputs) if inputs else None

    @property
    def fresh(self) -> Samples | None:
        """The last inputs of new classes, about `RECENT`, and their classes; None in a first experience."""
        return _together(self._fresh.all())

    @property
    def samples(self) -> Samples | None:
        """The last inputs of old and of new classes, about `RECENT` each, and their classes; None if one is missing."""
        rehearsed, fresh = self._rehearsed.all(), self._fresh.all()
        return _together([*rehearsed, *fresh]) if rehearsed and fresh else None

    def exemplars(self, old: Collection[int]) -> float | None:
        """How many different inputs of an old class there were, on average; None if none was rehearsed.

        Inputs that are augmented, or that a backbone in training made, are taken for different ones each time.
        """
        if not self._prints:
            return None
        prints, classes = (torch.cat(parts).cpu() for parts in zip(*self._prints, strict=True))
        return count_exemplars(prints, classes, old=tuple(old))

    def now(self) -> dict[str, Any]:
        """Return what is held, as tensors in lists; see `QUEUES`."""
        return {
            "inputs": self._inputs.all(),
            "fresh": [part.pair() for part in self._fresh.all()],
            "rehearsed": [part.pair() for part in self._rehearsed.all()],
            "prints": list(self._prints),
        }

    def absorb(self, now: Mapping[str, Any]) -> None:
        """Hold what `now` returned instead."""
        self._inputs, self._fresh, self._rehearsed = _Last(), _Last(), _Last()
        for x in now["inputs"]:
            self._inputs.add(x, len(x))
        for last, name in ((self._fresh, "fresh"), (self._rehearsed, "rehearsed")):
            for x, c in now[name]:
                last.add(_Part(x, c), len(c))
        self._prints = [(prints, classes) for prints, classes in now["prints"]]


def _sizes(is_old: Tensor, told: list[bool], lengths: list[int]) -> list[tuple[Tensor, list[int]]]:
    """Return which samples are old, and which are new, each with their numbers in batches of these lengths."""
    ends = [0, *accumulate(lengths)]
    old = [sum(told[a:b]) for a, b in pairwise(ends)]
    return [(is_old, old), (~is_old, [n - k for n, k in zip(lengths, old, strict=True)])]


def _together(parts: Sequence[_Part]) -> Samples | None:
    if not parts:
        return None
    inputs, classes = zip(*(part.pair() for part in parts), strict=True)
    return torch.cat(inputs), torch.cat(classes)
