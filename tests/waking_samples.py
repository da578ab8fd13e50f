"""For the tests of Waking: a network, batches, and a training forward pass that is watched."""

import torch
from torch import nn

from models import Opaque, mlp


def backbone(dim=12):
    return nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), Opaque(nn.ReLU()), mlp(dim, 8, 4))


def show(waking, model, x, y, *, step=None):
    """One training forward pass, watched."""
    waking.begin_forward(model)
    out = model(x)
    waking.end_forward(model, out, y)
    if step is not None:
        with torch.no_grad():
            for p in model.parameters():
                p.add_(step)
    return out


def batches(n=3, size=5, seed=0, classes=(0, 1)):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.tensor(classes)
    return [
        (torch.rand(size, 12, generator=rng), labels[torch.randint(len(classes), (size,), generator=rng)])
        for _ in range(n)
    ]


HEADS = {"found": None, "named": ["3.0", "3.2"]}
