"""Class means that answer: the class whose mean is nearest to the features, by angle or by distance."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class NearestMean(nn.Module):
    """Scores classes by the cosine between features and class means: the largest is that of the nearest mean.

    Args:
        n_classes: Scores that it gives; a class without a mean scores -2, below every cosine.
        n_features: Length of a mean.
    """

    means: Tensor
    known: Tensor

    def __init__(self, n_classes: int, n_features: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(n_classes, n_features))
        self.register_buffer("known", torch.zeros(n_classes, dtype=torch.bool))

    def learn(self, label: int, features: Tensor) -> None:
        """Take the mean of features of length 1, shape (n, n_features), itself brought to length 1."""
        self.means[label] = functional.normalize(features.mean(dim=0), dim=0).to(self.means)
        self.known[label] = True

    def forward(self, features: Tensor) -> Tensor:
        """Return scores, shape (n, n_classes), of features of any length, shape (n, n_features)."""
        cosines = functional.normalize(features) @ self.means.to(features).T
        return cosines.masked_fill(~self.known.to(features.device), -2.0)


class NearestByDistance(nn.Module):
    """Scores classes by minus the Euclidean distance between inputs and class means.

    Args:
        n_classes: Scores that it gives; a class without a mean scores minus infinity.
        n_features: Length of a mean.
    """

    means: Tensor
    known: Tensor

    def __init__(self, n_classes: int, n_features: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(n_classes, n_features))
        self.register_buffer("known", torch.zeros(n_classes, dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        """Return scores, shape (n, n_classes), of inputs, shape (n, n_features)."""
        scores = torch.stack([-torch.linalg.vector_norm(x - mean, dim=1) for mean in self.means], dim=1)
        return scores.masked_fill(~self.known, -torch.inf)
