"""Selection: some rows of images or features that may lie on disk; a batch is read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

BATCH = 4096
"""Rows that are looked at together where all have to be looked at."""


class Source(Protocol):
    """What images are taken from: a Tensor, or anything that reads rows as one does.

    Attributes:
        shape: (n, ...), the shape of all of it.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all of it."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: int | slice | Tensor, /) -> Tensor: ...


class Selection:
    """Rows of a source, in an order of their own; nothing is read before it is asked for.

    Args:
        source: Where the rows are.
        rows: Which, int64, shape (n,).
    """

    def __init__(self, source: Source, rows: Tensor) -> None:
        self._source = source
        self._rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all rows together."""
        return (len(self._rows), *self._source.shape[1:])

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def __getitem__(self, rows: int | slice | Tensor) -> Tensor:
        """Return one row, shape (...), or several, shape (n, ...)."""
        if isinstance(rows, int):
            return self._source[int(self._rows[rows])]
        return self._source[self._rows[rows]]


def select(source: Source, rows: Tensor) -> Source:
    """Return some rows: copied if the source is in memory, else as a `Selection`.

    Args:
        source: Where the rows are.
        rows: Which: int64, shape (n,), or a mask, bool, shape (len(source),).
    """
    if isinstance(source, Tensor):
        return source[rows]
    return Selection(source, rows.nonzero().squeeze(1) if rows.dtype == torch.bool else rows)


def batches(source: Source, *, size: int = BATCH) -> Iterator[Tensor]:
    """Yield all rows in order, so many at a time."""
    for start in range(0, len(source), size):
        yield source[start : start + size]


def maximum(source: Source) -> float:
    """Return the largest value in a source, read batch by batch; -inf if it is empty."""
    return max((float(batch.max()) for batch in batches(source)), default=-torch.inf)
