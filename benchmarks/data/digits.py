"""scikit-learn's digits: images as float32 in [0, 1], labels as int64, in the order of the file."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.data.dataset import Dataset


def load_digits() -> Dataset:
    """Load scikit-learn's 1,797 digits of 8 x 8 pixels, which lie in its package.

    A quarter is for testing, drawn once and for all: stratified, `random_state=0`, file order kept in both parts.
    Pixels 0 to 16 become [0, 1]; images have the shape (n, 64).
    """
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    bunch = datasets.load_digits()
    train, test = train_test_split(np.arange(len(bunch.target)), test_size=0.25, random_state=0, stratify=bunch.target)
    images = torch.from_numpy(bunch.data).float() / 16
    labels = torch.from_numpy(bunch.target).long()
    train, test = torch.from_numpy(np.sort(train)), torch.from_numpy(np.sort(test))
    return Dataset(
        name="digits",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple("0123456789"),
    )
