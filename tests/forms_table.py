"""Writes the last table of docs/networks.md: forms of inputs and kinds of heads on MNIST and Fashion-MNIST.

.venv/bin/python tests/forms_table.py --mnist DIR --fashion DIR --seeds 2 --rows FILE
"""

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from statistics import mean

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.data.load import load_dataset
from benchmarks.markdown import between_marks, table
from networks_table import PAGE
from src_plugin import SRC, SleepConfig

FORMS: dict[str, Callable] = {
    "raw, in [0, 1]": lambda x, train: x,
    "`Normalize`": lambda x, train: (x - train.mean()) / train.std(),
    "in [-1, 1]": lambda x, train: 2 * x - 1,
    "standardised pixels": lambda x, train: (x - train.mean(0)) / train.std(0).clamp(min=0.05),
}
HEADS: dict[str, Callable[[int], list[nn.Module]]] = {
    "ReLU": lambda n: [nn.ReLU()],
    "GELU": lambda n: [nn.GELU()],
    "batch norm, ReLU": lambda n: [nn.BatchNorm1d(n), nn.ReLU()],
}
OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.05),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.001),
}
WAYS = {"levelled": SleepConfig(sleep=None), "slept": SleepConfig()}


@dataclass(frozen=True)
class Cell:
    """One training: what goes in, what learns it, and how."""

    data: str
    form: str
    head: str
    optimizer: str
    way: str

    @property
    def key(self):
        return "; ".join((self.data, self.form, self.head, self.optimizer, self.way))


def network(head, optimizer):
    """784-600-600-10 without biases under SGD, 784-512-10 under Adam."""
    sizes, bias = ((784, 600, 600), False) if optimizer == "SGD" else ((784, 512), True)
    hidden = [part for n, m in pairwise(sizes) for part in (nn.Linear(n, m, bias=bias), *HEADS[head](m))]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], 10, bias=bias))


def accuracy(one: Cell, dataset, seed):
    """Learn ten classes, two at a time, one epoch each, and return the accuracy on all test images, in percent."""
    train, test = (x.flatten(1) for x in (dataset.train_images, dataset.test_images))
    train, test = (FORMS[one.form](x, train) for x in (train, test))
    torch.manual_seed(seed)
    model = network(one.head, one.optimizer)
    src = SRC(model, WAYS[one.way], seed=seed)
    optimizer = OPTIMIZERS[one.optimizer](model.parameters())
    for first in range(0, 10, 2):
        rows = (dataset.train_labels // 2 == first // 2).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows))]
        model.train()
        with src.task():
            for batch in rows.split(128)[:-1]:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(train[batch]), dataset.train_labels[batch]).backward()
                optimizer.step()
    with torch.no_grad():
        return 100 * float((model.eval()(test).argmax(1) == dataset.test_labels).float().mean())


PLAN = [
    *((form, "ReLU") for form in FORMS),
    *(("raw, in [0, 1]", head) for head in HEADS if head != "ReLU"),
]


def line(rows, form, head):
    """The cells of a row: levelled and slept for each data set and optimizer."""
    values = [[rows.get(Cell(d, form, head, o, w).key, []) for w in WAYS] for d, o in product(DATA, OPTIMIZERS)]
    shown = [" / ".join(f"{mean(accuracies):.1f}" for accuracies in pair if accuracies) for pair in values]
    return [head, form, *shown]


DATA = ("mnist", "fashion_mnist")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path, required=True, help="folder of its four files")
    parser.add_argument("--fashion", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", type=Path, required=True, help="file of accuracies that are there already")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("src_plugin").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    rows = json.loads(options.rows.read_text()) if options.rows.exists() else {}
    sets = {
        name: load_dataset(name, data_root=root)
        for name, root in zip(DATA, (options.mnist, options.fashion), strict=True)
    }
    for seed, (form, head), data, optimizer, way in product(range(options.seeds), PLAN, DATA, OPTIMIZERS, WAYS):
        one = Cell(data, form, head, optimizer, way)
        if len(rows.setdefault(one.key, [])) > seed:
            continue
        rows[one.key].append(round(accuracy(one, sets[data], seed), 2))
        options.rows.write_text(json.dumps(rows))
    title = ["head", "inputs", *(f"{d}, {o}" for d, o in product(("MNIST", "Fashion-MNIST"), OPTIMIZERS))]
    content = table(title, [line(rows, form, head) for form, head in PLAN], align="llr")
    PAGE.write_text(between_marks(PAGE.read_text("utf-8"), content, where=PAGE.name), "utf-8")


if __name__ == "__main__":
    main()
