"""For the tests of what is kept: the digits, learnt with SRC, in one process or in another."""

import torch

from loop_samples import TASKS, adam, batches, network, train
from src_plugin import SRC


def learn(model, src, optimizer, tasks):
    for number in tasks:
        with src.task():
            for parts in batches(TASKS[number], epochs=3, seed=number):
                train(model, optimizer, parts)


def go_on(path):
    """The last three of five tasks, in a process that knows what is in a file."""
    saved = torch.load(path, weights_only=True)
    model = network(seed=1)
    src, optimizer = SRC(model), adam(model)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    src.load_state_dict(saved["src"])
    learn(model, src, optimizer, range(2, 5))
    torch.save({"model": model.state_dict(), "summary": src.summary()}, path)
