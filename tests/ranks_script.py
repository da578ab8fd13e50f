"""Run by tests/test_callback_ranks.py: three fits in as many processes as it is told; each writes what it has then."""

import os
import sys
import warnings

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from src_plugin import SleepConfig, SRCCallback

warnings.simplefilter("ignore")
torch.set_num_threads(1)


class Digits(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)  # Adam makes much of rounding errors


def main(processes, case, folder):
    digits = load_digits()
    images, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    torch.manual_seed(0)
    model, callback = Digits(), SRCCallback(SleepConfig.preset("auto", balance_gate=False))
    tasks = ((0, 1), (2, 3), (4, 5)) if case != "rehearsal" else ((0, 1), (0, 1, 2, 3), (0, 1, 2, 3, 4, 5))
    for task in tasks:
        rows = torch.isin(labels, torch.tensor(task)).nonzero()[:128, 0]
        if case == "classes apart":  # even samples of one class, odd ones of another: each process sees one
            halves = [(labels == c).nonzero()[:64, 0] for c in task]
            rows = torch.stack(halves, 1).flatten()
        saves = [ModelCheckpoint(f"{folder}/{task[-1]}", save_last=True)]
        ema = [EMAWeightAveraging(decay=0.9)] if case == "ema" else []
        trainer = Trainer(
            max_epochs=2, accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
            callbacks=[callback, *saves, *ema], logger=False, use_distributed_sampler=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        data = TensorDataset(images[rows], labels[rows])
        rank = int(os.environ.get("LOCAL_RANK", 0))
        dealt = DistributedSampler(data, num_replicas=processes, rank=rank, shuffle=False)
        trainer.fit(model, DataLoader(data, batch_size=32 // processes, sampler=dealt))
    known = callback.state_dict()
    torch.save(
        {
            "weights": model.state_dict(),
            "known": {name: known["waking"][name] for name in ("count", "seen", "counts")},
            "total": known["waking"]["total"],
            "decisions": [report.decision for report in callback.reports],
            "samples": [report.samples for report in callback.reports],
            "generator": str(known["generator"]),
            "file": torch.load(saves[0].last_model_path, weights_only=True)["state_dict"],
        },
        f"{folder}/rank{trainer.global_rank}.pt",
    )


if __name__ == "__main__":
    for case in sys.argv[3:]:
        main(int(sys.argv[1]), case, f"{sys.argv[2]}/{case}")
