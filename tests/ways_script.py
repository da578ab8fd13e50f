"""Every way in and every way out, on the digits: `python tests/ways_script.py [ROW ...] [--tasks 5] [--epochs 5]`.

One row for each way to train, one column for what a user keeps; in each cell the accuracy on ten digits of that, or why
there is none. Batches are the same everywhere, so that cells can be compared with that of the plain loop.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, SequentialSampler, TensorDataset

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("in memory", "last file", "best file", "after EMA", "after SWA", "resumed midway", "two processes")
BATCH = 16


class Digits:
    """The digits, 1347 to train on, in one order for all."""

    def __init__(self) -> None:
        digits = load_digits()
        self.images = torch.tensor(digits.data / 16, dtype=torch.float32)
        self.labels = torch.tensor(digits.target)

    def task(self, number: int) -> TensorDataset:
        rows = torch.isin(self.labels[:1347], torch.tensor([2 * number, 2 * number + 1])).nonzero()[:, 0]
        return TensorDataset(self.images[rows], self.labels[rows])

    def accuracy(self, network: nn.Module) -> float:
        mode = network.training
        with torch.no_grad():
            right = network.eval()(self.images[1347:]).argmax(1) == self.labels[1347:]
        network.train(mode)
        return 100 * float(right.float().mean())


DIGITS = Digits()


def new_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10))


def adam(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=0.001)


def from_file(state: dict, prefix: str = "") -> float:
    network = new_network()
    network.load_state_dict({name.removeprefix(prefix): value for name, value in state.items()})
    return DIGITS.accuracy(network)


def plain(tasks: int, epochs: int) -> dict:
    from src_plugin import SRC

    network = new_network()
    src = SRC(network)
    for number in range(tasks):
        optimizer = adam(network)
        with src.task():
            for _ in range(epochs):
                src.begin_epoch()
                for x, y in DataLoader(DIGITS.task(number), batch_size=BATCH):
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(network(x), y).backward()
                    optimizer.step()
    return {"in memory": DIGITS.accuracy(network), **dict.fromkeys(COLUMNS[1:], "the loop is the user's")}


def avalanche(tasks: int, epochs: int) -> dict:
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils import as_classification_dataset
    from avalanche.core import SupervisedPlugin
    from avalanche.training import Naive
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    from src_plugin import SRCPlugin

    class EMA(SupervisedPlugin):
        """Holds an average of the weights, with the decay of the other ways."""

        average = None

        def before_training_exp(self, strategy, **kwargs):
            if self.average is None:
                self.average = AveragedModel(strategy.model, multi_avg_fn=get_ema_multi_avg_fn(0.9))

        def after_update(self, strategy, **kwargs):
            self.average.update_parameters(strategy.model)

    sets = []
    for number in range(tasks):
        task = DIGITS.task(number)
        task.targets = task.tensors[1].tolist()
        sets.append(as_classification_dataset(task))
    network, ema = new_network(), EMA()
    strategy = Naive(
        model=network, optimizer=adam(network), train_mb_size=BATCH, train_epochs=epochs, plugins=[SRCPlugin(), ema],
        evaluator=None,
    )  # fmt: skip
    for experience in benchmark_from_datasets(train=sets).train_stream:
        strategy.optimizer = adam(network)  # as in the other ways
        strategy.train(experience, shuffle=False)
    cells = dict.fromkeys(COLUMNS, "Avalanche writes no files itself")
    return cells | {"in memory": DIGITS.accuracy(network), "after EMA": DIGITS.accuracy(ema.average)}


class Lightning:
    """The fits of a sequence of tasks in one of the packages of Lightning."""

    def __init__(self, package: str, tasks: int, epochs: int) -> None:
        self.package, self.tasks, self.epochs = package, tasks, epochs
        self.L, self.more = import_module(package), import_module(f"{package}.callbacks")

        class Module(self.L.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.net = new_network()

            def forward(self, x):
                return self.net(x)

            def training_step(self, batch, batch_idx):
                loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
                self.log("loss", loss, on_epoch=True, on_step=False, sync_dist=True)
                return loss

            def configure_optimizers(self):
                return adam(self)

        self.Module = Module

    def fits(self, folder, *, beside=lambda: [], processes=1, resume=False):
        """Fit all tasks, and return the module with the folders' checkpoint callback of the last one."""
        from src_plugin import SRCCallback

        module, src = self.Module(), SRCCallback()
        for number in range(self.tasks):
            saves = self.more.ModelCheckpoint(
                f"{folder}/{number}", monitor="loss", save_last=True, save_top_k=1 if not resume else -1
            )
            trainer = self.trainer([src, saves, *beside()], processes)
            trainer.fit(module, self.loader(number, processes))
            if resume and number == self.tasks - 1:  # once more from the middle, in new objects
                path = sorted(Path(f"{folder}/{number}").glob("epoch=1-*.ckpt"))[0]
                module, src = self.Module(), SRCCallback()
                self.trainer([src, self.more.ModelCheckpoint(f"{folder}/again")], 1).fit(
                    module, self.loader(number, 1), ckpt_path=path
                )
        return module, saves, trainer

    def trainer(self, callbacks, processes):
        return self.L.Trainer(
            max_epochs=self.epochs, accelerator="cpu", devices=processes, callbacks=callbacks, logger=False,
            strategy="ddp" if processes > 1 else "auto", use_distributed_sampler=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip

    def loader(self, number, processes):
        task, rank = DIGITS.task(number), int(os.environ.get("LOCAL_RANK", 0))
        dealt = DistributedSampler(task, num_replicas=processes, rank=rank, shuffle=False)
        return DataLoader(task, batch_size=BATCH // processes, sampler=dealt)

    def row(self) -> dict:
        cells = {}
        with tempfile.TemporaryDirectory() as folder:
            module, saves, _ = self.fits(f"{folder}/plain")
            cells["in memory"] = DIGITS.accuracy(module)
            for name, path in (("last file", saves.last_model_path), ("best file", saves.best_model_path)):
                cells[name] = from_file(torch.load(path, weights_only=True)["state_dict"], "net.")
            averages = {
                "after EMA": lambda: [self.more.EMAWeightAveraging(decay=0.9)],
                "after SWA": lambda: [
                    self.more.StochasticWeightAveraging(swa_lrs=0.001, swa_epoch_start=max(1, self.epochs - 2))
                ],
            }
            for name, beside in averages.items():
                module, saves, _ = self.fits(f"{folder}/{name}", beside=beside)
                cells[name] = DIGITS.accuracy(module)
            module, *_ = self.fits(f"{folder}/resumed", resume=True)
            cells["resumed midway"] = DIGITS.accuracy(module)
            command = [
                sys.executable,
                __file__,
                "two-processes",
                self.package,
                str(self.tasks),
                str(self.epochs),
                folder,
            ]
            places = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            done = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": places}, capture_output=True, text=True, check=False
            )
            answers = re.findall(r"accuracy (\d+\.\d+)", done.stdout)  # of both, in any order, perhaps in one line
            alike = len(answers) == 2 and len(set(answers)) == 1
            cells["two processes"] = float(answers[0]) if alike else f"{answers} {done.stderr[-2000:]}"
        return cells


def two_processes(package: str, tasks: str, epochs: str, folder: str) -> None:
    """Run in each of two processes."""
    module, *_ = Lightning(package, int(tasks), int(epochs)).fits(f"{folder}/two", processes=2)
    print(f"accuracy {DIGITS.accuracy(module)}", flush=True)


def cli(package: str, tasks: int, epochs: int) -> dict:
    """The same by LightningCLI, the callback from a YAML file: one run for each task, from the file of the last."""
    ways = Lightning(package, tasks, epochs)

    class Anew(ways.Module):
        """Each task begins with a new optimizer, as in the other ways."""

        def on_load_checkpoint(self, checkpoint):
            checkpoint["optimizer_states"] = [adam(self).state_dict()]

    LightningCLI = import_module(f"{package}.cli").LightningCLI
    with tempfile.TemporaryDirectory() as folder:
        path, weights = Path(folder, "sleep.yaml"), None
        path.write_text(
            "trainer:\n  accelerator: cpu\n  logger: false\n  enable_progress_bar: false\n"
            "  enable_model_summary: false\n"
            "  callbacks:\n    - class_path: src_plugin.SRCCallback\n    - class_path: ModelCheckpoint\n"
            f"      init_args: {{dirpath: {folder}/out}}\n",
            "utf-8",
        )
        for number in range(tasks):

            class Task(import_module(package).LightningDataModule):
                number_now = number

                def train_dataloader(self):
                    return ways.loader(self.number_now, 1)

            args = ["fit", "--config", str(path), f"--trainer.max_epochs={(number + 1) * epochs}"]
            done = LightningCLI(
                Anew, Task, args=[*args, *([f"--ckpt_path={weights}"] if weights else [])],
                save_config_callback=None, seed_everything_default=False,
            )  # fmt: skip
            weights = done.trainer.checkpoint_callback.best_model_path
        cells = {"in memory": DIGITS.accuracy(done.model)}
        cells["last file"] = cells["best file"] = from_file(
            torch.load(weights, weights_only=True)["state_dict"], "net."
        )
    return cells | dict.fromkeys(COLUMNS[3:], "as the Trainer that it makes")


def hugging_face(tasks: int, epochs: int) -> dict:
    from transformers import Trainer, TrainingArguments

    from src_plugin import SRCTrainerCallback

    class InOrder(Trainer):
        def _get_train_sampler(self, *args):
            return SequentialSampler(self.train_dataset)

        def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
            outputs = model(inputs["x"])
            loss = nn.functional.cross_entropy(outputs, inputs["labels"])
            return (loss, {"logits": outputs}) if return_outputs else loss

    def fits(folder, resume=False, **settings):
        network, src = new_network(), SRCTrainerCallback()
        for number in range(tasks):
            data = [{"x": x, "labels": y} for x, y in DIGITS.task(number)]
            args = TrainingArguments(
                f"{folder}/{number}", num_train_epochs=epochs, per_device_train_batch_size=BATCH, report_to=[],
                save_strategy="epoch", use_cpu=True, disable_tqdm=True, max_grad_norm=0, remove_unused_columns=False,
                label_names=["labels"], logging_strategy="no", **settings,
            )  # fmt: skip

            def train(network, src, path=None, args=args, data=data):
                optimizer = adam(network)
                constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
                given = {"train_dataset": data, "eval_dataset": data, "optimizers": (optimizer, constant)}
                trainer = InOrder(network, args, callbacks=[src], **given)
                trainer.train(resume_from_checkpoint=path)
                return trainer

            trainer = train(network, src)
            if resume and number == tasks - 1:
                network, src = new_network(), SRCTrainerCallback()
                middle = sorted(Path(folder, str(number)).glob("checkpoint-*"), key=lambda p: int(p.name[11:]))[1]
                train(network, src, str(middle))
        trainer.save_model(f"{folder}/saved")
        return network, trainer

    from safetensors.torch import load_file

    cells = {}
    with tempfile.TemporaryDirectory() as folder:
        network, trainer = fits(f"{folder}/plain")
        cells["in memory"] = DIGITS.accuracy(network)
        last = f"{folder}/plain/{tasks - 1}/checkpoint-{trainer.state.global_step}"
        cells["last file"] = from_file(load_file(f"{last}/model.safetensors"))
        best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "eval_strategy": "epoch"}
        network, trainer = fits(f"{folder}/best", **best)
        cells["best file"] = from_file(load_file(f"{trainer.state.best_model_checkpoint}/model.safetensors"))
        network, _ = fits(f"{folder}/resumed", resume=True)
        cells["resumed midway"] = DIGITS.accuracy(network)
    return cells | {
        "after EMA": "the Trainer has none",
        "after SWA": "the Trainer has none",
        "two processes": "refused: one process alone",
    }


ROWS = {
    "plain loop": (plain, ()),
    "Avalanche": (avalanche, ("avalanche",)),
    "pytorch_lightning": (lambda *a: Lightning("pytorch_lightning", *a).row(), ("pytorch_lightning",)),
    "lightning": (lambda *a: Lightning("lightning.pytorch", *a).row(), ("lightning",)),
    "its LightningCLI": (lambda *a: cli("lightning.pytorch", *a), ("lightning", "jsonargparse")),
    "LightningCLI": (lambda *a: cli("pytorch_lightning", *a), ("pytorch_lightning", "jsonargparse")),
    "Trainer": (hugging_face, ("transformers", "accelerate")),
}
"""How each row is made, and what must be installed."""


def table(rows: list[str], tasks: int, epochs: int) -> dict:
    cells = {}
    for name in rows:
        make, needs = ROWS[name]
        missing = [package for package in needs if find_spec(package) is None]
        cells[name] = dict.fromkeys(COLUMNS, f"{missing[0]} is not installed") if missing else make(tasks, epochs)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--tasks", type=int, default=5, help="two digits each")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    cells = table(options.rows or list(ROWS), options.tasks, options.epochs)
    print("| way | " + " | ".join(COLUMNS) + " |\n|---" * 1 + "|---" * len(COLUMNS) + "|")
    for name, row in cells.items():
        shown = (f"{row[c]:.1f}" if isinstance(row[c], float) else row[c] for c in COLUMNS)
        print(f"| {name} | " + " | ".join(shown) + " |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["two-processes"]:
        two_processes(*sys.argv[2:])
    else:
        main()
