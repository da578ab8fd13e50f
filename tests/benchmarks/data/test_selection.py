"""Selections read no more than they are asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.data.selection import Selection, batches, maximum, select


class OnDisk:
    """Ten rows of three numbers that note what is read."""

    def __init__(self) -> None:
        self.values = torch.arange(30.0).reshape(10, 3)
        self.read: list[int] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return (10, 3)

    def __len__(self) -> int:
        return 10

    def __getitem__(self, rows: int | slice | Tensor) -> Tensor:
        found = self.values[rows]
        self.read += (found.reshape(-1, 3)[:, 0] / 3).int().tolist()
        return found


def test_a_selection_reads_the_rows_that_are_asked_for() -> None:
    source = OnDisk()
    chosen = select(source, torch.tensor([7, 2, 5]))
    assert isinstance(chosen, Selection)
    assert (chosen.shape, len(chosen), source.read) == ((3, 3), 3, [])
    assert torch.equal(chosen[torch.tensor([2, 0])], source.values[[5, 7]])
    assert source.read == [5, 7]
    assert torch.equal(chosen[1], source.values[2])
    assert torch.equal(chosen[1:], source.values[[2, 5]])


def test_a_mask_selects_in_order() -> None:
    source = OnDisk()
    assert torch.equal(select(source, source.values[:, 0] > 20)[:], source.values[7:])


def test_what_is_in_memory_is_copied() -> None:
    images = torch.rand(4, 2)
    assert torch.equal(select(images, torch.tensor([3, 1])), images[[3, 1]])


def test_batches_and_the_maximum_look_at_every_row_once() -> None:
    source = OnDisk()
    assert [len(batch) for batch in batches(source, size=4)] == [4, 4, 2]
    assert source.read == list(range(10))
    assert maximum(select(source, torch.tensor([0, 4]))) == 14.0
    assert maximum(torch.zeros(0, 3)) == -torch.inf
