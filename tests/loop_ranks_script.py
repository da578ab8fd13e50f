"""Run by tests/test_loop_ranks.py: a plain loop in one process or, by torchrun, in two; each writes what it has."""

import sys

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from src_plugin import SRC, SleepConfig

torch.set_num_threads(1)


def main(folder, processes):
    if processes > 1:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if processes > 1 else 0
    digits = load_digits()
    images, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    trained = DistributedDataParallel(model) if processes > 1 else model
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)  # Adam makes much of rounding errors
    src = SRC(model, SleepConfig.preset("auto", balance_gate=False))
    for task in ((0, 1), (2, 3), (4, 5)):
        rows = torch.isin(labels, torch.tensor(task)).nonzero()[:128, 0]
        with src.task():
            for batch in rows.split(32) * 2:
                own = batch[rank::processes]
                sgd.zero_grad()
                nn.functional.cross_entropy(trained(images[own]), labels[own]).backward()
                sgd.step()
    state = src.state_dict()["waking"]
    known = {name: state[name] for name in ("count", "seen", "counts")}
    told = {"weights": model.state_dict(), "known": known, "total": state["total"], "nights": src.summary()}
    torch.save(told, f"{folder}/rank{rank}of{processes}.pt")
    if processes > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
