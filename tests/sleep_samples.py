"""For the tests of sleep(): a head that learnt two classes and then two others, and a sleep after that."""

from functools import partial

import numpy as np
import torch
from torch import nn

from models import mlp
from src_plugin.config import SleepConfig
from src_plugin.head.find import find_head
from src_plugin.night.sleep import sleep

MEAN = np.linspace(0.05, 0.9, 12)
SIZES = (12, 16, 10, 4)
OLD, NEW = (0, 1), (2, 3)
QUICK = SleepConfig()
simulated = partial(SleepConfig.preset, "simulated")
SIMULATED = simulated(steps=120)
PURE = SleepConfig.preset("src_only", steps=120)


def trained(*, dtype=torch.float32, bias=True):
    """A head that learnt classes 0, 1 and then 2, 3: under noise the old win nearly all before, the new after.

    Returns:
        The model, and the state of its head before classes 2 and 3.
    """
    model = mlp(*SIZES, bias=bias, dtype=dtype)
    head = find_head(model, head="")
    with torch.no_grad():
        head.layers[-1].weight[:2] += 0.3
        head.layers[-1].weight[2:] -= 0.8
        before = head.read()
        for layer in head.layers:
            for parameter in layer.parameters():
                parameter += 0.05
        head.layers[-1].weight[2:] += 1.4
    return model, before


CURRENT = torch.rand((50, 12), generator=torch.Generator().manual_seed(0))


def night(model, before=None, config=QUICK, **changes):
    """A sleep after classes 2 and 3, with 0 and 1 known."""
    arguments = {"before": before, "new_classes": NEW, "old_classes": OLD, "inputs": CURRENT, **changes}
    return sleep(model, MEAN, config, **arguments)


class Seeing(nn.Module):
    """A small image network: a convolution with BatchNorm, and a head of two layers."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
        self.classifier = nn.Sequential(nn.Dropout(), *mlp(12, 10, 4))

    def forward(self, x):
        return self.classifier(self.features(x))
