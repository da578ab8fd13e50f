"""For the tests of heads: inputs, and a model whose forward pass is given."""

import torch
import torch.nn.functional as F
from torch import nn

X = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    """Layers fc1 (6, 5) and fc2 (5, 4) in a forward pass of the test's own."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 5), nn.Linear(5, 4)
        for name, module in modules.items():
            setattr(self, name, module)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


def tied(model, a, b):
    model[b].weight = model[a].weight
    return model


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Cosine(nn.Module):
    """Scores that are the cosines of inputs and weights, times ten."""

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(n_outputs, n_inputs))

    def forward(self, x):
        return 10 * F.linear(F.normalize(x), F.normalize(self.weight))
