"""A tiny stream, networks and strategies for the tests of SRCPlugin."""

import random

import torch
from avalanche.benchmarks import benchmark_from_datasets, nc_benchmark
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.core import SupervisedPlugin
from avalanche.logging import BaseLogger
from avalanche.training import (
    Naive,
)
from avalanche.training.plugins import EvaluationPlugin
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

from models import N_CLASSES, N_INPUTS, Blobs, mlp
from src_plugin.config import SleepConfig
from src_plugin.plugin import SRCPlugin

QUICK = SleepConfig()
SIMULATED = SleepConfig.preset("auto", engine="simulated", steps=60)
PURE = SleepConfig.preset("src_only", steps=60)
NO_SLEEP = SleepConfig.preset("auto", steps=0)


class NoLogger(BaseLogger):
    """Without any logger Avalanche warns."""

    def log_single_metric(self, name, value, x_plot):
        pass


def benchmark(n_experiences=2, per_class=20, **changes):
    return nc_benchmark(
        changes.get("train", Blobs(per_class, 0)),
        Blobs(5, 1),
        n_experiences=n_experiences,
        task_labels=False,
        shuffle=False,
        fixed_class_order=list(range(N_CLASSES)),
    )


def digits(classes, per_class=15, permuted_by=None):
    """Images of some classes of scikit-learn's digits, (n, 64) in [0, 1]; their pixels permuted by a seed."""
    data = load_digits()
    rows = torch.cat([torch.from_numpy(data.target == c).nonzero()[:per_class, 0] for c in classes])
    pixels = torch.arange(64)
    if permuted_by is not None:
        pixels = torch.randperm(64, generator=torch.Generator().manual_seed(permuted_by))
    dataset = TensorDataset(
        torch.tensor(data.data / 16, dtype=torch.float32)[rows][:, pixels], torch.tensor(data.target)[rows]
    )
    dataset.targets = dataset.tensors[1].tolist()
    return dataset


def digits_stream(*experiences):
    """A stream of experiences, each given as the arguments of `digits`."""
    datasets = [as_classification_dataset(digits(**e) if isinstance(e, dict) else digits(e)) for e in experiences]
    return benchmark_from_datasets(train=datasets).train_stream


def digits_by_task(n_tasks, *, from_zero=True, task_labels=True):
    """A stream of two digits per experience, with the label of the task; class numbers may begin anew in each."""
    data = digits(range(2 * n_tasks))
    order = list(range(2 * n_tasks))
    return nc_benchmark(
        data, data, n_experiences=n_tasks, task_labels=task_labels, shuffle=False, fixed_class_order=order,
        class_ids_from_zero_in_each_exp=from_zero,
    ).train_stream  # fmt: skip


def network(seed=0):
    return mlp(N_INPUTS, 16, N_CLASSES, seed=seed)


def build(*plugins, method=Naive, model=None, metrics=(), lr=0.1, **settings):
    torch.manual_seed(0)
    random.seed(0)  # A-GEM draws its exemplars with it, and all six may be of one class
    model = network() if model is None else model
    return method(
        model=model,
        optimizer=settings.pop("optimizer", None) or torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5),
        criterion=settings.pop("criterion", nn.CrossEntropyLoss()),
        train_mb_size=10,
        eval_mb_size=10,
        train_epochs=settings.pop("train_epochs", 2),
        plugins=list(plugins),
        evaluator=EvaluationPlugin(*metrics, loggers=[NoLogger()]),
        **settings,
    )


def train(strategy, stream=None, **settings):
    for experience in benchmark().train_stream if stream is None else stream:
        strategy.train(experience, **settings)
    return strategy


def own(strategy):
    """The SRCPlugin of a strategy: after loading a checkpoint it is another object."""
    (plugin,) = (p for p in strategy.plugins if isinstance(p, SRCPlugin))
    return plugin


def decisions(plugin):
    return [report.decision for report in plugin.reports]


class Watcher(SupervisedPlugin):
    """Runs the functions it is given at hooks of Avalanche's."""

    def __init__(self, **at):
        super().__init__()
        for name, function in at.items():
            setattr(self, name, lambda strategy, function=function, **kwargs: function(strategy))
