"""Batches of opened images: a loader over some images of a split, in order, that goes on where one cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from benchmarks.data.images import Images
from benchmarks.errors import ImageError


class Opened(TorchDataset["Tensor | str"]):
    """Images, opened and prepared; of one that cannot be read, what is wrong with it."""

    def __init__(self, images: Images, transform: Callable[[Image.Image], Tensor]) -> None:
        self._images = images
        self._transform = transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, i: int) -> Tensor | str:
        try:
            image = self._images.open(i)
        except ImageError as error:
            return str(error)  # as text: what a worker process raises, torch would wrap into its traceback
        return self._transform(image)


class Batch(NamedTuple):
    """Some images one after the other, those that could be read stacked.

    Attributes:
        pixels: Shape (readable images, 3, h, w).
        unreadable: Place in the batch of each other image, and what is wrong with it.
        unequal: Sizes of the images, where they cannot be stacked; then there are no pixels.
    """

    pixels: Tensor
    unreadable: list[tuple[int, str]]
    unequal: str | None = None


def collate(items: Sequence[Tensor | str]) -> Batch:
    """Stack what could be read."""
    pixels = [item for item in items if isinstance(item, Tensor)]
    unreadable = [(place, item) for place, item in enumerate(items) if isinstance(item, str)]
    sizes = sorted({tuple(item.shape) for item in pixels})
    if len(sizes) > 1:
        return Batch(torch.empty(0), unreadable, " and ".join(map(str, sizes[:2])))
    return Batch(torch.stack(pixels) if pixels else torch.empty(0), unreadable)


def make_loader(
    images: Images,
    transform: Callable[[Image.Image], Tensor],
    *,
    numbers: Sequence[int],
    batch_size: int,
    workers: int,
    device: torch.device,
) -> DataLoader[Tensor | str]:
    """Return a loader of `Batch`es of some images, in order; the global random generators are left alone."""
    return DataLoader(
        Opened(images, transform),
        batch_size=batch_size,
        sampler=numbers,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # a loader draws a seed for its workers
    )
