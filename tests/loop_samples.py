"""For the tests of SRC: digits by tasks, a network, and a plain training loop."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from models import mlp

TASKS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))


def digits():
    """Images, (n, 64) in [0, 1], and labels: the first 1347 to train on, and the rest."""
    data = load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    return (x[:1347], y[:1347]), (x[1347:], y[1347:])


def batches(classes, *, epochs=1, size=16, seed=0, old=(), n_old=0):
    """Batches of the digits of some classes, in a seeded order, with so many of old ones in each; a list per epoch."""
    (x, y), _ = digits()
    generator = torch.Generator().manual_seed(seed)
    rows = torch.isin(y, torch.tensor(classes)).nonzero()[:, 0]
    stored = torch.isin(y, torch.tensor(old)).nonzero()[:, 0][: 10 * len(old)] if old else rows[:0]
    found = []
    for _ in range(epochs):
        found.append([])
        for part in rows[torch.randperm(len(rows), generator=generator)].split(size):
            again = stored[torch.randint(len(stored), (n_old,), generator=generator)] if len(stored) else stored
            part = torch.cat([part, again])
            found[-1].append((x[part], y[part]))
    return found


def network(seed=0):
    return mlp(64, 100, 10, seed=seed)


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=0.001)


def train(model, optimizer, parts, loss=F.cross_entropy):
    """The loop that everybody writes."""
    model.train()
    for x, y in parts:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()


def accuracy(model, classes=range(10)):
    _, (x, y) = digits()
    rows = torch.isin(y, torch.tensor(list(classes)))
    model.eval()
    with torch.no_grad():
        return float((model(x[rows]).argmax(1) == y[rows]).float().mean())


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


class Called(nn.Module):
    """A model that hides nothing but calls another one."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)
