"""Dataset: images or features in memory or on disk, and their labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from benchmarks.data.selection import Source


@dataclass(frozen=True)
class Dataset:
    """Images or features, and their labels.

    Attributes:
        name: Key in DATA_SETS; of an image_folder what its folders are called.
        train_images: float32, shape (n_train, ...): pixels in [0, 1], in memory; or features, read batch by batch.
        train_labels: int64, shape (n_train,).
        test_images: float32, shape (n_test, ...).
        test_labels: int64, shape (n_test,).
        class_names: One per label.
        then: Data sets that follow it in a cross-modal stream.
        provenance: Where features, or pixels of an image set, come from, for the record; else None.
        backbone: A frozen network that images pass through below the head, where features are not computed before.
        n_features: What it gives.
    """

    name: str
    train_images: Source
    train_labels: Tensor
    test_images: Source
    test_labels: Tensor
    class_names: tuple[str, ...]
    then: tuple[Dataset, ...] = ()
    provenance: dict[str, Any] | None = None
    backbone: nn.Module | None = None
    n_features: int | None = None

    @property
    def n_inputs(self) -> int:
        """Inputs of the head: features, or pixels per image."""
        if self.n_features is not None:
            return self.n_features
        return math.prod(self.train_images.shape[1:])

    @property
    def n_classes(self) -> int:
        """Number of labels."""
        return len(self.class_names)
