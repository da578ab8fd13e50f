"""Small models, small data and small questions that the tests of the library share. Needs torch only."""

import random
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

N_INPUTS, N_CLASSES = 12, 4


class Blobs(TensorDataset):
    """Four well separated clusters, a third of the inputs of each class high; all inputs in [0, 1.2]."""

    def __init__(self, per_class=20, seed=0):
        rng = torch.Generator().manual_seed(seed)
        labels = torch.arange(N_CLASSES).repeat_interleave(per_class)
        centres = torch.eye(N_CLASSES).repeat_interleave(N_INPUTS // N_CLASSES, dim=1)
        super().__init__(centres[labels] + 0.2 * torch.rand(len(labels), N_INPUTS, generator=rng), labels)
        self.targets = labels.tolist()


class Opaque(nn.Sequential):
    """Does what its parts do, one after the other, and no head reaches through it: it ends in an unknown function."""

    def forward(self, x):
        return super().forward(x).roll(0, 1)


def mlp(*sizes, bias=True, seed=0, dtype=torch.float32):
    """Linear layers of the given sizes with ReLU between them, from a generator of their own."""
    layers = []
    for n_pre, n_post in pairwise(sizes):
        layers += [nn.utils.skip_init(nn.Linear, n_pre, n_post, bias=bias), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).to(dtype)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=rng) * (0.1 if p.ndim == 1 else p.shape[1] ** -0.5))
    return model


def copies(model):
    """Every parameter and buffer of a model by name, as it is now."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(model, before):
    """Names of the parameters and buffers that are not bit-identical to `before`, in order."""
    now = model.state_dict()
    assert list(now) == list(before)
    return [name for name in now if not same_bits(now[name], before[name])]


def same_bits(a, b):
    """Equal type, shape and every bit: NaN equals NaN, and 0.0 does not equal -0.0."""
    raw = [t.detach().cpu().contiguous().view(-1).view(torch.uint8) for t in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*raw)


def global_states():
    """The states of all global random generators, as something that can be compared."""
    name, keys, *rest = np.random.get_state()
    return random.getstate(), (name, keys.tobytes(), *rest), torch.get_rng_state().tolist()


def hooks(model):
    """Number of forward hooks, of either kind, on all modules of a model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
