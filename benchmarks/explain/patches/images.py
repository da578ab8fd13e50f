"""Four binary images with shared and unique pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_plugin.errors import ConfigError

N_IMAGES = 4
"""Images, one of each class."""


@dataclass(frozen=True)
class Patches:
    """Four images, one of each class.

    Attributes:
        images: Zeros and ones, shape (4, side^2).
        is_shared: Pixels that are on in all of them, shape (side^2,).
    """

    images: NDArray[np.float32]
    is_shared: NDArray[np.bool_]

    def is_unique(self, label: int) -> NDArray[np.bool_]:
        """Return the pixels that are on in one image alone, shape (side^2,)."""
        unique: NDArray[np.bool_] = (self.images[label] > 0) & ~self.is_shared
        return unique


def check_overlap(overlap: int, *, pixels: int, side: int) -> None:
    """Refuse an overlap that cannot be made.

    Args:
        overlap: Pixels that all images share.
        pixels: Pixels that are on in each image.
        side: Of an image, in pixels.

    Raises:
        ConfigError: It is below 0, or the images do not fit beside each other.
    """
    if overlap < 0:
        raise ConfigError(f"an overlap of {overlap} pixels cannot be made: give 0 or more")
    needed = overlap + N_IMAGES * max(0, pixels - overlap)
    if needed <= side**2:
        return
    least = -(-(N_IMAGES * pixels - side**2) // (N_IMAGES - 1))
    cure = f"{least} or more" if overlap < pixels else f"{side**2} or fewer"
    raise ConfigError(
        f"{N_IMAGES} images of {pixels} pixels that share {overlap} need {needed} pixels, and an image of "
        f"{side} x {side} has {side**2}: let them share {cure}"
    )


def draw_patches(overlap: int, *, pixels: int, side: int, generator: np.random.Generator) -> Patches:
    """Draw four images; where all pixels of an image and more are shared, all are the same.

    Args:
        overlap: Pixels that all images share.
        pixels: Pixels that are on in each image.
        side: Of an image, in pixels.
        generator: Places them.

    Raises:
        ConfigError: The overlap cannot be made.

    Source:
        Tadros et al. 2022, Fig. 1; the authors' Patches/create_permutations.m, whose images have width^2 / 6 pixels.

    Example:
        >>> patches = draw_patches(12, pixels=16, side=10, generator=np.random.default_rng(0))
        >>> patches.images.sum(1).tolist(), int(patches.is_shared.sum()), int(patches.is_unique(0).sum())
        ([16.0, 16.0, 16.0, 16.0], 12, 4)
    """
    check_overlap(overlap, pixels=pixels, side=side)
    places = generator.permutation(side**2)
    n_unique = max(0, pixels - overlap)
    images = np.zeros((N_IMAGES, side**2), dtype=np.float32)
    images[:, places[:overlap]] = 1.0
    for label in range(N_IMAGES):
        start = overlap + label * n_unique
        images[label, places[start : start + n_unique]] = 1.0
    is_shared = np.zeros(side**2, dtype=bool)
    is_shared[places[:overlap]] = True
    return Patches(images, is_shared)
