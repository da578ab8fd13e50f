"""For the tests of strategies: four clusters of points in two experiences, and what trains on them in a moment."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.core import SupervisedPlugin
from torch import nn
from torch.utils.data import TensorDataset

from strategies import Settings, TrainingSetup, build_strategy, find_row
from strategies.prediction import classifiers

N_CLASSES = 4
N_WEIGHTS = 12 * 16 + 16 * N_CLASSES


class Points(TensorDataset):
    """Four clusters, apart but on a background that all share, so that new classes crowd out old ones.

    All in the positive orthant: sleep needs inputs that are not negative.
    """

    def __init__(self, per_class: int, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        labels = torch.arange(N_CLASSES).repeat_interleave(per_class)
        centres = torch.eye(N_CLASSES).repeat_interleave(3, dim=1)  # (4, 12)
        super().__init__(0.6 + centres[labels] + 0.1 * torch.rand(len(labels), 12, generator=rng), labels)
        self.targets = labels.tolist()


def experiences(*, at_once: bool) -> Any:
    return nc_benchmark(
        Points(40, 0),
        Points(20, 1),
        n_experiences=1 if at_once else 2,
        task_labels=False,
        shuffle=False,
        fixed_class_order=list(range(N_CLASSES)),
    ).train_stream


def setup(seed: int = 0, **changes: Any) -> TrainingSetup:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 16, bias=False), nn.ReLU(), nn.Linear(16, N_CLASSES, bias=False))
    given = TrainingSetup(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.2),
        criterion=nn.CrossEntropyLoss(),
        batch_size=10,
        epochs=5,
        n_images=len(Points(40, 0)),
        n_classes=N_CLASSES,
        n_experiences=2,
        settings=Settings(memory_fraction=0.1),  # 16 exemplars
        seed=seed,
    )
    return replace(given, **changes)


def train(name: str, given: TrainingSetup) -> Iterator[Any]:
    """Train on one experience after the other, yielding the strategy after each."""
    strategy = build_strategy(name, given)
    for experience in experiences(at_once=find_row(name)[0].at_once):
        strategy.train(experience)
        yield strategy


def accuracy(strategy: Any, classes: set[int]) -> float:
    labels = Points(20, 1).tensors[1]
    rows = torch.isin(labels, torch.tensor(sorted(classes)))
    return float((answers(strategy)[0][rows].argmax(1) == labels[rows]).float().mean())


def answers(strategy: Any) -> list[torch.Tensor]:
    """Return the scores of the test points in every way the strategy answers, the one that counts first."""
    strategy.model.eval()
    with torch.no_grad():
        return [scores(Points(20, 1).tensors[0]) for scores in classifiers(strategy).values()]


def weights(name: str, given: TrainingSetup) -> list[torch.Tensor]:
    *_, strategy = train(name, given)
    return [parameter.detach().clone() for parameter in strategy.model.parameters()]


def learnt(name: str, given: TrainingSetup) -> list[torch.Tensor]:
    """Train on both experiences, and return the weights and what is answered by them or by what stands for them."""
    *_, strategy = train(name, given)
    return results(strategy)


def results(strategy: Any) -> list[torch.Tensor]:
    """Return the weights of a strategy, and what is answered by them or by what stands for them."""
    return [*(parameter.detach().clone() for parameter in strategy.model.parameters()), *answers(strategy)]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def plugin(strategy: Any, kind: type) -> Any:
    """Return the one plugin of a kind."""
    (found,) = (p for p in strategy.plugins if isinstance(p, kind))
    return found


def witnessed(name: str, witness: Any) -> Any:
    """Train on both experiences with a last plugin that looks on, and return the strategy."""
    strategy = build_strategy(name, setup())
    strategy.plugins.append(witness)
    for experience in experiences(at_once=False):
        strategy.train(experience)
    return strategy


class Penalty(SupervisedPlugin):  # type: ignore[misc]
    """Notes by how much the loss that is minimised exceeds that of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.seen.append((strategy.loss - strategy.criterion()).item())
