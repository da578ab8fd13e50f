"""A tiny stream, networks and strategies for the tests of SRCPlugin."""

import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.core import SupervisedPlugin
from avalanche.logging import BaseLogger
from avalanche.training import (
    Naive,
)
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from models import N_CLASSES, N_INPUTS, Blobs, mlp
from src_plugin.config import SleepConfig
from src_plugin.plugin import SRCPlugin

QUICK = SleepConfig(steps=60)
PURE = SleepConfig.preset("src_only", steps=60)
NO_SLEEP = SleepConfig(steps=0)


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


def network(seed=0):
    return mlp(N_INPUTS, 16, N_CLASSES, seed=seed)


def build(*plugins, method=Naive, model=None, metrics=(), lr=0.1, **settings):
    torch.manual_seed(0)
    model = network() if model is None else model
    return method(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5),
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
