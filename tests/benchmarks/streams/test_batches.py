"""Whole batches: nothing is different but the time they take."""

from __future__ import annotations

import random
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks.utils.data_loader import ReplayDataLoader, TaskBalancedDataLoader
from avalanche.core import SupervisedPlugin
from torch.utils.data import DataLoader

from benchmarks.configs.run import ModelConfig, StreamConfig
from benchmarks.data.dataset import Dataset
from benchmarks.runs.models import build_model
from benchmarks.streams.batches import LabelledImages, WholeBatches, WholeBatchLoader, as_avalanche
from benchmarks.streams.stream import build_stream
from strategies import Settings, TrainingSetup, build_strategy

STREAMS: dict[str, dict[str, Any]] = {
    "classes": {"classes_per_experience": [2, 8]},
    "task labels": {"classes_per_experience": [4, 6], "task_labels": True},
    "classes that come back": {"experiences": [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 0]]},
    "permutations": {"permutations": 2},
}


def train(strategy: str, stream: dict[str, Any], digits: Dataset, *, whole: bool) -> tuple[list[torch.Tensor], Any]:
    """Return what training leaves: weights, the state of the global generator, and each experience's kind of loader."""
    config = StreamConfig.model_validate({"dataset": "digits", "samples_per_experience": 110, **stream})
    built = build_stream(config, data=digits, seed=0)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    network = ModelConfig(hidden=[20], dropout=0.2)  # dropout draws from the same generator as the loaders
    model = build_model(network, n_inputs=64, n_classes=None if config.task_labels else 10)
    learner = build_strategy(
        strategy,
        TrainingSetup(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            criterion=torch.nn.CrossEntropyLoss(),
            batch_size=16,  # does not divide 110
            epochs=2,
            n_images=len(built.train_images),
            settings=Settings(memory_fraction=0.1),
        ),
    )
    kinds: list[type] = []

    class Witness(SupervisedPlugin):  # type: ignore[misc]
        def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            kinds.append(type(strategy.dataloader))

    if whole:
        learner.plugins.append(WholeBatches(built.train_images))
    learner.plugins.append(Witness())
    for experience in built.train_stream:
        learner.train(experience)
    return [*(p.detach() for p in learner.model.parameters()), torch.get_rng_state()], kinds


CASES = [*product(["naive", "replay", "lwf"], STREAMS), ("naive+src", "classes")]


@pytest.mark.parametrize(("strategy", "stream"), CASES)
def test_training_is_bit_identical(strategy: str, stream: str, digits: Dataset) -> None:
    plain, stock = train(strategy, STREAMS[stream], digits, whole=False)
    whole, ours = train(strategy, STREAMS[stream], digits, whole=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, whole, strict=True))
    assert ours == [WholeBatchLoader] * 4  # two experiences of two epochs, those with exemplars included
    assert stock[2:] == [ReplayDataLoader if strategy == "replay" else TaskBalancedDataLoader] * 2


def test_batches_are_those_of_the_stock_loader(digits: Dataset) -> None:
    images = LabelledImages(digits.train_images, digits.train_labels, tasks=digits.train_labels % 3)
    data = as_avalanche(images).subset(range(500, 600))
    memory = as_avalanche(images).subset([5, 700, 3])
    stock = ReplayDataLoader(
        data, memory, batch_size=30, batch_size_mem=2, oversample_small_tasks=True, shuffle=True, drop_last=False
    )
    ours = WholeBatchLoader(images, stock)
    assert len(ours) == len(stock) == 4  # 30 + 30 + 30 + 10
    for _ in range(2):  # epochs
        state = torch.get_rng_state()
        wanted = list(stock)
        after = torch.get_rng_state()
        torch.set_rng_state(state)
        got = list(ours)
        assert torch.equal(torch.get_rng_state(), after)
        assert [len(batch[1]) for batch in got] == [32, 31, 32, 11]  # three exemplars come as 2, 1, 2, 1
        for a, b in zip(wanted, got, strict=True):
            assert isinstance(b, list)
            assert all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def test_rows_of_orders_lie_one_behind_the_other() -> None:
    images = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])  # two images of 2 x 2
    orders = torch.tensor([[0, 1, 2, 3], [3, 0, 1, 2]])
    rows = LabelledImages(images, torch.tensor([0, 1]), orders=orders)
    assert len(rows) == 4
    assert rows.targets == [0, 1, 0, 1]
    batch, labels, tasks = rows.take(torch.tensor([2, 0, 3]))
    assert batch.tolist() == [[[4.0, 1.0], [2.0, 3.0]], [[1.0, 2.0], [3.0, 4.0]], [[8.0, 5.0], [6.0, 7.0]]]
    assert (labels.tolist(), tasks.tolist()) == ([0, 0, 1], [0, 0, 0])
    assert all(torch.equal(rows[k][0], rows.take(torch.tensor([k]))[0][0]) for k in range(4))


def test_other_loaders_are_left_alone() -> None:
    images = LabelledImages(torch.zeros(2, 3), torch.tensor([0, 1]))
    loader = DataLoader(images)
    strategy = SimpleNamespace(dataloader=loader)
    WholeBatches(images).before_training_exp(strategy)
    assert strategy.dataloader is loader
