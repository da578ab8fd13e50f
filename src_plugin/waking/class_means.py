"""ClassMeans: the mean input of the head for each class seen, where a config keeps them; no input is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class ClassMeans:
    """Adds up inputs of the head, class by class, over all experiences.

    A class that comes back goes on with its sum: its mean is one over all that was shown of it.

    Example:
        >>> means = ClassMeans()
        >>> means.note(torch.tensor([[1.0, 0.0], [3.0, 2.0]]), torch.tensor([4, 4]), n_classes=5)
        >>> means.mapping()
        {4: tensor([2., 1.])}
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None  # (classes, n_0)
        self._counts: Tensor | None = None  # (classes)
        self._closed: tuple[Tensor | None, Tensor | None] = None, None  # the same when the last experience ended

    def note(self, x: Tensor, classes: Tensor, *, n_classes: int) -> None:
        """Take in a batch.

        Args:
            x: Inputs of the head, shape (n, n_0).
            classes: Of each, shape (n,), from 0 to n_classes - 1.
            n_classes: How many outputs the head has.
        """
        if classes.shape != x.shape[:1]:
            return
        sums, counts = self._room(x, n_classes)
        classes = classes.to(x.device)
        sums.index_add_(0, classes, x.to(sums.dtype))
        counts.index_add_(0, classes, torch.ones_like(classes, dtype=counts.dtype))

    def _room(self, x: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
        """Return sums and counts with a row for each class; a head may grow."""
        if self._sums is None or self._counts is None:
            self._sums, self._counts = x.new_zeros((0, x.shape[1]), dtype=torch.float32), x.new_zeros(0).float()
        self._sums, self._counts = self._sums.to(x.device), self._counts.to(x.device)  # they may come from a file
        missing = n_classes - len(self._sums)
        if missing > 0:
            self._sums = torch.cat([self._sums, x.new_zeros((missing, x.shape[1]), dtype=torch.float32)])
            self._counts = torch.cat([self._counts, x.new_zeros(missing, dtype=torch.float32)])
        return self._sums, self._counts

    def close(self, *, is_in_doubt: bool) -> None:
        """End an experience; of one that is in doubt nothing stays."""
        if is_in_doubt:
            self._sums, self._counts = self._closed
        self._closed = _copy(self._sums), _copy(self._counts)

    def mapping(self) -> dict[int, Tensor]:
        """Return the mean of each class that was seen, shape (n_0,)."""
        if self._sums is None or self._counts is None:
            return {}
        seen = self._counts.nonzero()[:, 0].tolist()
        return {c: self._sums[c] / self._counts[c] for c in seen}

    @property
    def nbytes(self) -> int:
        """Bytes kept: of the classes that were seen."""
        return sum(mean.nbytes + 4 for mean in self.mapping().values())

    def state_dict(self) -> dict[str, Any]:
        """Return copies of sums and counts, now and when the last experience ended."""
        return {"sums": _copy(self._sums), "counts": _copy(self._counts), "closed": list(map(_copy, self._closed))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._sums, self._counts = _copy(state["sums"]), _copy(state["counts"])
        sums, counts = state["closed"]
        self._closed = sums, counts


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()
