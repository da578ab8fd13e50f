"""Recent: the last inputs of the head in an experience, and the last rehearsed ones, held until its sleep.

How many different exemplars were rehearsed is told by a number for each, over the whole experience.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import TypeVar

import torch
from torch import Tensor

from src_plugin.waking.samples import count_exemplars, fingerprints

RECENT = 1000
"""Inputs of the head held until the sleep; of a rehearsing network, as many of old and of new classes beside them."""


Held = TypeVar("Held")


class Recent:
    """Holds the last inputs of the head, and the last of earlier classes, with their classes where those are known."""

    def __init__(self) -> None:
        self._inputs: deque[Tensor] = deque()
        self._fresh: deque[tuple[Tensor, Tensor]] = deque()
        self._rehearsed: deque[tuple[Tensor, Tensor]] = deque()
        self._prints: list[tuple[Tensor, Tensor]] = []  # of all rehearsed inputs, and their classes

    def note(self, x: Tensor, classes: Tensor | None, *, seen: Collection[int]) -> None:
        """Take in a batch.

        Args:
            x: Inputs of the head, shape (n, n_0).
            classes: Of each, shape (n,); None where they are not class numbers.
            seen: Classes of earlier experiences.
        """
        _hold(self._inputs, x, len)
        if classes is None or not seen or classes.shape != x.shape[:1]:
            return
        old = torch.isin(classes, torch.tensor(sorted(seen), device=classes.device))
        if bool(old.any()):
            self._prints.append((fingerprints(x[old.to(x.device)]), classes[old]))
        for where, rows in ((self._rehearsed, old), (self._fresh, ~old)):
            if bool(rows.all()):  # as without rehearsal: the batch itself is held already, no copy is needed
                _hold(where, (x, classes), lambda pair: len(pair[1]))
            elif bool(rows.any()):
                _hold(where, (x[rows.to(x.device)], classes[rows]), lambda pair: len(pair[1]))

    @property
    def inputs(self) -> Tensor | None:
        """The last inputs, about `RECENT` of them, shape (n, n_0)."""
        return torch.cat(list(self._inputs)) if self._inputs else None

    @property
    def fresh(self) -> tuple[Tensor, Tensor] | None:
        """The last inputs of new classes, about `RECENT`, and their classes; None in a first experience."""
        if not self._fresh:
            return None
        inputs, classes = zip(*self._fresh, strict=True)
        return torch.cat(inputs), torch.cat(classes)

    def exemplars(self, old: Collection[int]) -> float | None:
        """How many different inputs of an old class there were, on average; None if none was rehearsed.

        Inputs that are augmented, or that a backbone in training made, are taken for different ones each time.
        """
        if not self._prints:
            return None
        prints, classes = (torch.cat(parts).cpu() for parts in zip(*self._prints, strict=True))
        return count_exemplars(prints, classes, old=tuple(old))

    @property
    def samples(self) -> tuple[Tensor, Tensor] | None:
        """The last inputs of old and of new classes, about `RECENT` each, and their classes; None if one is missing."""
        if not (self._rehearsed and self._fresh):
            return None
        inputs, classes = zip(*self._rehearsed, *self._fresh, strict=True)
        return torch.cat(inputs), torch.cat(classes)


def _hold(held: deque[Held], item: Held, size: Callable[[Held], int]) -> None:
    """Append an item, and drop the oldest ones that `RECENT` does without."""
    held.append(item)
    while sum(map(size, held)) - size(held[0]) >= RECENT:
        held.popleft()
