"""pretrain(): trains the article's backbone on labelled images, by Lightning, and writes its trunk to a file.

The state after each epoch is on disk, and a run that was interrupted, or killed, goes on from there to the same
numbers. Which epoch's weights are kept is decided on training images that were held out; test images are looked at
once, in the end.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.console import say
from benchmarks.pretrain.config import PretrainConfig
from benchmarks.pretrain.data import ImageDataModule
from benchmarks.pretrain.files import WEIGHTS, WholeFiles, forget, is_done, keepers, state_file, write_backbone
from benchmarks.pretrain.mirror import mirror
from benchmarks.pretrain.module import Budget, VGGModule
from benchmarks.tracking.settings import WandbSettings
from src_plugin.errors import ConfigError

try:
    from pytorch_lightning import Trainer
    from pytorch_lightning.plugins.environments import LightningEnvironment
except ImportError as error:
    raise ImportError("pretraining needs the 'lightning' extra: pip install 'src-plugin[lightning]'") from error

QUIETED = (
    "The '.*_dataloader' does not have many workers",  # the images are in memory
    "Checkpoint directory .* exists and is not empty",  # of course: training goes on from there
    "GPU available but not used",  # as was asked for
    "`isinstance.treespec, LeafSpec.` is deprecated",  # pytorch-lightning 2.6 under a later torch
)
"""Warnings of Lightning about what is meant as it is."""


def pretrain(
    config: PretrainConfig,
    *,
    data_root: Path | None = None,
    out: Path,
    download: bool = False,
    accelerator: str = "auto",
    devices: int | str | Sequence[int] = 1,
    strategy: str = "auto",
    num_nodes: int = 1,
    workers: int = 0,
    threads: int | None = None,
    max_seconds: float | None = None,
    resume: bool = True,
    wandb: WandbSettings | None = None,
    console: Console | None = None,
) -> Path:
    """Train a backbone and write `<out>/<name>/backbone.safetensors`, and `<name>.json`, which says what it is.

    A backbone of the same config and images that is there already is not trained again. Where several processes train,
    as with "ddp", each opens all the images.

    Args:
        config: On which images, and how.
        data_root: Folder with the files of data sets; None is `data` in the current folder.
        out: Folder of backbones; all files go to `<out>/<name>`.
        download: Fetch missing images.
        accelerator: Lightning's: "cpu", "cuda", "mps", or "auto" for the best there is.
        devices: Lightning's: how many, or which. They share each batch.
        strategy: Lightning's: "auto", "ddp", ...
        num_nodes: Machines; on several, the command is started on each by SLURM, torchrun or alike.
        workers: Processes that open images before training; 0 opens them here.
        threads: Threads of torch; None leaves them as they are.
        max_seconds: End training after so many seconds, those before an interruption included; the learning rate comes
            to the end of its schedule by then. Opening and testing are not counted.
        resume: Go on from what is there; otherwise forget it, once the images are found, and begin anew.
        wandb: Where training is mirrored in Weights & Biases; None for nowhere.
        console: Where a line for each epoch goes; None for nowhere.

    Returns:
        The file of weights: the trunk's state dict, for `PaperVGG`.

    Raises:
        ConfigError: Unknown data set, a missing extra, or a batch that the devices cannot share.
        DataError: Images are missing or cannot be read.
        TrainingError: Training diverged, or what is on disk is of another config or other images.
        KeyboardInterrupt: Ctrl-C, or SIGTERM: the epochs done are on disk.
    """
    if max_seconds is not None and max_seconds <= 0:
        raise ConfigError(f"max_seconds must be above 0, or None for no end; got {max_seconds}")
    console = console or Console(quiet=True)
    folder = out / config.name
    data = ImageDataModule(config, data_root=data_root, download=download, workers=workers)
    if resume and is_done(folder, data):
        say(console, f"already done: {folder / WEIGHTS}")
        return folder / WEIGHTS
    if threads is not None:
        torch.set_num_threads(threads)
    with _as_it_was(), mirror(wandb or WandbSettings(mode="disabled"), config, folder=folder) as logger:
        budget = Budget(max_seconds)
        alone = str(devices) == "1" and num_nodes == 1  # also where SLURM has started others, for something else
        trainer = Trainer(
            accelerator=accelerator,
            devices=devices if isinstance(devices, (int, str)) else list(devices),
            strategy=strategy,
            num_nodes=num_nodes,
            precision=config.precision,
            max_epochs=config.epochs,
            callbacks=[budget, *keepers(folder)],
            plugins=[WholeFiles(), *([LightningEnvironment()] if alone else [])],
            logger=logger or False,
            log_every_n_steps=1,
            default_root_dir=folder,
            use_distributed_sampler=False,  # `Draws` shares batches out itself
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        if trainer.is_global_zero and not resume:
            data.prepare_data()
            data.setup()  # before anything is deleted: there may be no images to begin anew with
            forget(folder)
        module = VGGModule(config, budget=budget, console=console)
        accuracies = _train(trainer, module, data, folder=folder, resume=resume)
        if trainer.is_global_zero:
            device = str(trainer.strategy.root_device)
            write_backbone(folder, data, accuracies, device=device, max_seconds=max_seconds)
            shown = ", ".join(f"{name.replace('_', ' ')} {100 * value:.2f} %" for name, value in accuracies.items())
            say(console, f"{config.name}: {shown}: {folder / WEIGHTS}")
        trainer.strategy.barrier("written")
    return folder / WEIGHTS


def _train(
    trainer: Trainer, module: VGGModule, data: ImageDataModule, *, folder: Path, resume: bool
) -> dict[str, float]:
    """Train, and return the accuracies of the best state on held-out and test images."""
    last, best = state_file(folder, "last"), str(state_file(folder, "best"))
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(last) if resume and last.is_file() else None)
        [held_out] = trainer.validate(module, datamodule=data, ckpt_path=best, verbose=False)
        [test] = trainer.test(module, datamodule=data, ckpt_path=best, verbose=False)
    except SystemExit as end:  # Lightning's answer to Ctrl-C and SIGTERM
        raise KeyboardInterrupt from end
    return {"held_out": held_out["held_out_accuracy"], "test": test["test_accuracy"]}


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Keep Lightning quiet, and put back what it and W&B change: generator, Ctrl-C, log levels, environment."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels, environment = [logger.level for logger in loggers], dict(os.environ)
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            for message in QUIETED:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        os.environ.clear()
        os.environ.update(environment)
        if is_main:
            signal.signal(signal.SIGINT, handler)  # which Lightning leaves ignored
