"""FeatureRows: the features of one split, read from disk by rows, as float32 tensors; memory holds what was asked for.

Shards are mapped into memory when a row of theirs is first read. A map keeps no file open, so there may be thousands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from benchmarks.errors import DataError

ROWS_AT_ONCE = 4096
"""So many rows are in memory at a time where all are gone through."""

REPAIR = "`python -m benchmarks features <the config> --repair`"
"""What makes damaged features anew; which config they are of is not known where they are read."""


class FeatureRows:
    """Rows of features on disk. Indexed as a tensor of shape (n, n_features); every answer is a new float32 tensor.

    Rows are given by a number, a slice, integers (a tensor of any shape, or a list), or one bool per row. What is
    pickled are the names of the files: another process maps them anew.

    Args:
        paths: The shards in order: .npy files, float16 or float32, shape (rows of the shard, n_features).
        n_rows: Rows of each shard.
        n_features: Features of each row.
    """

    ndim = 2
    dtype = torch.float32

    def __init__(self, paths: Sequence[Path], *, n_rows: Sequence[int], n_features: int) -> None:
        self._paths = tuple(paths)
        self._starts = np.cumsum([0, *n_rows])  # row at which each shard begins, and the end of the last
        self._n_features = n_features
        self._maps: list[np.ndarray | None] = [None] * len(self._paths)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> torch.Size:
        """(n, n_features)."""
        return torch.Size((len(self), self._n_features))

    def __getitem__(self, rows: int | slice | Tensor | Sequence[int]) -> Tensor:
        """Read some rows: shape (n_features,) for one number, else (..., n_features)."""
        return self._read(self._numbers(rows))

    def maximum(self, rows: Tensor | None = None) -> float:
        """Return the largest feature of some rows, or of all; not more than `ROWS_AT_ONCE` are in memory at a time.

        Raises:
            IndexError: There is no such row, or no row at all.
        """
        chosen = torch.arange(len(self)) if rows is None else self._numbers(rows)
        if not chosen.numel():
            raise IndexError("the largest feature of no rows was asked for")
        return max(float(self[part].max()) for part in chosen.flatten().split(ROWS_AT_ONCE))

    def _numbers(self, rows: int | slice | Tensor | Sequence[int]) -> Tensor:
        """Return rows as numbers from 0 to n - 1, int64, as torch understands them."""
        n = len(self)
        if isinstance(rows, slice):
            return torch.arange(*rows.indices(n))
        numbers = torch.as_tensor(rows)
        if not numbers.numel() and not isinstance(rows, Tensor):
            numbers = numbers.long()  # an empty list has no type of its own
        if numbers.dtype == torch.bool:
            if numbers.shape != (n,):
                raise IndexError(f"a mask over {n} rows has the shape ({n},), not {tuple(numbers.shape)}")
            return numbers.nonzero().squeeze(1)
        if numbers.is_floating_point() or numbers.is_complex():
            raise IndexError(f"rows are whole numbers or bool; got {numbers.dtype}")
        numbers = numbers.long().cpu()
        if numbers.numel() and not (-n <= int(numbers.min()) and int(numbers.max()) < n):
            raise IndexError(f"rows {int(numbers.min())} to {int(numbers.max())} were asked for, and there are {n}")
        return torch.where(numbers < 0, numbers + n, numbers)

    def _read(self, numbers: Tensor) -> Tensor:
        flat = numbers.flatten().numpy()
        shards = np.searchsorted(self._starts, flat, side="right") - 1
        local = flat - self._starts[shards]
        used = {int(shard): self._map(int(shard)) for shard in np.unique(shards)}
        stored = next(iter(used.values())).dtype if used else np.float32
        taken = np.empty((len(flat), self._n_features), dtype=stored)
        # Row by row: for the batches of training twice as fast as sorting and taking the rows of each shard together.
        for i, (shard, row) in enumerate(zip(shards.tolist(), local.tolist(), strict=True)):
            taken[i] = used[shard][row]
        return torch.from_numpy(taken).float().reshape(*numbers.shape, self._n_features)

    def _map(self, shard: int) -> np.ndarray:
        found = self._maps[shard]
        if found is None:
            n_rows = int(self._starts[shard + 1] - self._starts[shard])
            found = self._maps[shard] = map_array(self._paths[shard], shape=(n_rows, self._n_features))
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": [None] * len(self._paths)}


def map_array(path: Path, *, shape: tuple[int, int]) -> np.ndarray:
    """Map a .npy file of float16 or float32 into memory; what is written to the array stays out of the file.

    By torch, which closes the file again: each map of NumPy's would hold one open, and systems allow few.

    Raises:
        DataError: The file is not there, is cut short, or holds something else than an array of this shape.
    """
    try:
        with path.open("rb") as file:
            npy.read_magic(file)
            found, by_column, dtype = npy.read_array_header_1_0(file)
            start = file.tell()
        if found != shape or by_column or dtype not in (np.float16, np.float32):
            raise ValueError(f"it holds {found} of {dtype}{', by columns' if by_column else ''}")
        size = start + shape[0] * shape[1] * dtype.itemsize
        mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{path} should hold features of shape {shape}, and does not: {error}. {REPAIR} makes it again"
        ) from error
    return mapped[start:].numpy().view(dtype).reshape(shape)


@dataclass(frozen=True)
class FeatureSet:
    """A data set as features of a frozen backbone.

    Attributes:
        train: Shape (n_train, n_features), on disk.
        train_labels: int64, shape (n_train,).
        test: Shape (n_test, n_features), on disk.
        test_labels: int64, shape (n_test,).
        class_names: One per label.
        n_skipped: Images of each split that could not be read and were left out.
        provenance: Where the features come from, as plain JSON; see `benchmarks.features.extract.features_for`.
    """

    train: FeatureRows
    train_labels: Tensor
    test: FeatureRows
    test_labels: Tensor
    class_names: tuple[str, ...]
    n_skipped: dict[str, int]
    provenance: dict[str, Any]
