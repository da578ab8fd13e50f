"""For the tests of SRCCallback: modules, data and a fit of a plain Lightning Trainer."""

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from models import N_CLASSES, N_INPUTS, Blobs, mlp
from src_plugin.config import SleepConfig

# Lightning gives advice: to use workers, a GPU, a validation set. Three batches in memory need none of it.
ADVICE = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no:UserWarning"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:GPU available but not used:UserWarning"),
]

QUICK = SleepConfig()
SIMULATED = SleepConfig.preset("auto", engine="simulated", steps=60)
PURE = SleepConfig.preset("src_only", steps=60)


class Whole(LightningModule):
    """A plain module: it is itself what maps inputs to class scores."""

    def __init__(self, net=None):
        super().__init__()
        self.net = mlp(N_INPUTS, 16, N_CLASSES) if net is None else net

    def forward(self, x):
        return self.net(x)

    def scores(self, x):
        return self(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.scores(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.scores(batch[0] + 5.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.5)


class Part(Whole):
    """Its training step calls a part of it, never the whole."""

    def forward(self, x):
        raise AssertionError("never called")

    def scores(self, x):
        return self.net(x)


WAYS = {"the module itself": (Whole, None), "a part of it": (Part, "net")}
ways = pytest.mark.parametrize(("module", "model"), WAYS.values(), ids=WAYS)


def data(classes):
    x, y = Blobs(10, 0).tensors
    rows = torch.isin(y, torch.tensor(classes))
    return TensorDataset(x[rows], y[rows])


def loader(dataset, shuffle=False):
    return DataLoader(dataset, batch_size=8, shuffle=shuffle)


def fit(module, *callbacks, classes=(0, 1), validate=False, dataset=None, shuffle=False, **settings):
    trainer = Trainer(
        **{"max_epochs": 2, **settings}, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip
    dataset = data(list(classes)) if dataset is None else dataset
    trainer.fit(module, loader(dataset, shuffle), loader(data([2])) if validate else None)
    return trainer
