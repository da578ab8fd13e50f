"""How far the confidence of a network can be believed: calibration error, Brier score, negative log-likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.runs.models import MultiHead
from benchmarks.streams.stream import TestSet
from src_plugin.head.modes import eval_mode
from strategies.prediction import classifiers

N_BINS = 15
"""Of confidence, equally wide, as in Guo et al. 2017."""

Scores = dict[str, float]
"""`ece`, `brier`, `nll` and `class_mean`, see `calibration_of`."""


def calibrate(strategy: Any, tests: Sequence[TestSet], *, device: str = "cpu", batch_size: int = 1000) -> Scores | None:
    """Measure a network on test sets, all outputs taken as logits. Modes are restored, nothing is drawn.

    Args:
        strategy: Any of Avalanche's.
        tests: Those of what was seen so far.
        device: Where its network is.
        batch_size: Images at a time.

    Returns:
        Scores; None where the strategy answers otherwise than by its outputs, or has a head for each task.
    """
    model: nn.Module = strategy.model
    if next(iter(classifiers(strategy).values())) is not model or isinstance(model, MultiHead) or not tests:
        return None
    with eval_mode(model), torch.no_grad():
        batches = ((x, y, test.task) for test in tests for x, y in test.batches(batch_size))
        given = [(avalanche_forward(model, x.to(device), task), y) for x, y, task in batches]
    if not all(isinstance(logits, Tensor) for logits, _ in given):
        return None
    return calibration_of(torch.cat([x.cpu() for x, _ in given]), torch.cat([y for _, y in given]))


def calibration_of(logits: Tensor, labels: Tensor) -> Scores:
    """Return how well softmax probabilities tell the labels, to six decimals.

    Args:
        logits: Shape (n, n_classes).
        labels: int64, shape (n,).

    Returns:
        `ece`: expected calibration error, in [0, 1]. `brier`: mean over images of the squared distance of all
        probabilities to the label's one-hot, in [0, 2]. `nll`: mean negative log-likelihood, in nats. `class_mean`:
        mean over classes of accuracy.

    Example:
        >>> calibration_of(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
        {'ece': 0.0, 'brier': 0.5, 'nll': 0.693147, 'class_mean': 0.5}
    """
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits = logits.double()
    share = logits.softmax(1)
    right = (logits.argmax(1) == labels).double()
    one_hot = functional.one_hot(labels, logits.shape[1])
    found = {
        "ece": multiclass_calibration_error(share, labels, num_classes=logits.shape[1], n_bins=N_BINS),
        "brier": (share - one_hot).square().sum(1).mean(),
        "nll": functional.cross_entropy(logits, labels),
        "class_mean": torch.stack([right[labels == label].mean() for label in labels.unique()]).mean(),
    }
    return {name: round(float(value), 6) for name, value in found.items()}
