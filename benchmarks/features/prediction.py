"""Features of the shards that are missing, by Lightning's `Trainer.predict`, on one device or many.

Every rank computes whole shards: of those missing, rank r of n takes the r-th, the (r + n)-th and so on. A shard holds
whole batches, none of which reaches into the next shard, so a batch is the same on every rank and after every
interruption. (Lightning's own DistributedSampler would deal out single images and repeat some.) Which are missing, the
first rank says: the others may look at the disk before or after another process has written there.
"""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import BasePredictionWriter
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.filesize import decimal
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.data.images import CURE
from benchmarks.errors import DataError, FullDiskError, ImageError
from benchmarks.features.backbones import Backbone, check_features
from benchmarks.features.bar import Bar
from benchmarks.features.opening import Batch, make_loader
from benchmarks.features.shards import DTYPES, Part, Skipped
from src_plugin.errors import ConfigError

HALF_MAXIMUM = torch.finfo(torch.float16).max
TERMINATED = 128 + signal.SIGTERM
LOGGERS = ("pytorch_lightning", "lightning_fabric")
QUIETED = (
    "The 'predict_dataloader' does not have many workers",  # so many as were asked for
    "Consider setting `persistent_workers=True`",  # each loader is gone through once
    "Total length of `DataLoader` across ranks is zero",  # of one split; or there are fewer shards than ranks
    "`isinstance.treespec, LeafSpec.` is deprecated",  # pytorch-lightning 2.6 under a later torch
)
"""Warnings of Lightning about what is meant as it is."""

RAISED = {
    f"{kind.__module__}.{kind.__qualname__}": kind for kind in (ConfigError, DataError, FullDiskError, ImageError)
}
"""What other processes raise, by the name that stands in the text of it that comes back."""


class Extraction(LightningModule):
    """The backbone, and the images of every split that this rank is to open.

    Attributes:
        parts: What all ranks compute together; once it has begun, that of the first rank, on every rank.
    """

    def __init__(self, backbone: Backbone, parts: Sequence[Part], *, batch_size: int, workers: int) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # there may be fewer shards than ranks
        self.network: nn.Module = backbone.module
        self._transform = backbone.transform
        self._n_features = backbone.n_features
        self.parts = list(parts)
        self._batch_size = batch_size
        self._workers = workers

    def setup(self, stage: str) -> None:
        """Take the first rank's list of shards."""
        todo = self.trainer.strategy.broadcast([part.todo for part in self.parts])
        self.parts = [replace(part, todo=shards) for part, shards in zip(self.parts, todo, strict=True)]

    def predict_dataloader(self) -> list[DataLoader[Tensor | str]]:
        """Return a loader for each split."""
        return [
            make_loader(
                part.images,
                self._transform,
                numbers=part.numbers(rank=self.trainer.global_rank, n_ranks=self.trainer.world_size),
                batch_size=self._batch_size,
                workers=self._workers,
                device=self.device,
            )
            for part in self.parts
        ]

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return features, shape (readable images, n_features)."""
        if not len(batch.pixels):
            return torch.empty(0, self._n_features)
        features: Tensor = self.network(batch.pixels)
        return features


class ShardWriter(BasePredictionWriter):
    """Checks features as they come, and writes each shard when its last batch is there.

    Args:
        refuse: Whether an image that cannot be read is an error; otherwise it is left out and named in its shard.
    """

    def __init__(self, *, refuse: bool) -> None:
        super().__init__("batch")
        self._refuse = refuse
        self._features: np.ndarray | None = None  # of the shard that is being computed, as far as it has come
        self._n_rows = 0
        self._skipped: list[Skipped] = []

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Take the features of one batch."""
        if trainer.received_sigterm:  # which Lightning notes and, while predicting, does not heed
            raise SystemExit(TERMINATED)
        assert isinstance(pl_module, Extraction)
        part, numbers = pl_module.parts[dataloader_idx], list(batch_indices or ())
        check_batch(part, numbers, batch, prediction, refuse=self._refuse)
        self._skipped += [Skipped(image=numbers[place], why=why.removesuffix(CURE)) for place, why in batch.unreadable]
        shard = numbers[0] // part.shards.images_per_shard
        images = part.shards.images(shard)
        if self._features is None:
            shape = len(images), part.shards.n_features
            self._features, self._n_rows = np.empty(shape, dtype=DTYPES[part.shards.precision]), 0
        rows = slice(self._n_rows, self._n_rows + len(prediction))
        torch.from_numpy(self._features[rows]).copy_(prediction)
        self._n_rows = rows.stop
        if numbers[-1] + 1 < images.stop:
            return
        made_by = {"torch": torch.__version__, "device": pl_module.device.type}
        features, skipped = self._features[: self._n_rows], self._skipped
        self._features, self._skipped = None, []
        try:
            part.shards.write(shard, features, skipped=skipped, made_by=made_by)
        except FullDiskError as error:
            raise FullDiskError(f"{error}. {room_needed(pl_module.parts)}") from error

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        be_quiet()  # this is a process that was started for one rank


def check_batch(part: Part, numbers: Sequence[int], batch: Batch, features: Tensor, *, refuse: bool) -> None:
    """Refuse what cannot be kept.

    Raises:
        DataError: An image cannot be read (with `refuse`), images differ in size, features are of another length than
            the backbone says, not finite, or too large for half precision.
        ConfigError: Features are below zero.
    """
    name = f"the {part.shards.split} images {numbers[0]} to {numbers[-1]} ({part.images.where(numbers[0])} and on)"
    if batch.unreadable and refuse:
        others = len(batch.unreadable) - 1
        more = f" (of the {len(numbers)} images from here on {others} more cannot be read)" if others else ""
        raise DataError(batch.unreadable[0][1] + more)
    if batch.unequal is not None:
        raise DataError(
            f"{name} have different sizes, {batch.unequal}; bring them to one: backbone: {{image_size: 224}}"
        )
    if not len(features):
        return
    if features.shape[1:] != (part.shards.n_features,):
        raise DataError(f"{name}: features have the shape {tuple(features.shape)}, not (n, {part.shards.n_features})")
    check_features(features, where=name)
    if part.shards.precision == "half" and (top := float(features.max())) > HALF_MAXIMUM:
        raise DataError(
            f"{name}: features reach {top:.6g}, and half precision ends at {HALF_MAXIMUM:.0f}; keep them in single: "
            "backbone: {precision: single}"
        )


def room_needed(parts: Sequence[Part]) -> str:
    """Say how many bytes are still to be written, and where."""
    n_bytes = 0
    for part in parts:
        n_bytes += part.shards.n_bytes([shard for shard in part.todo if not part.shards.sidecar(shard).is_file()])
    return (
        f"What is missing needs {decimal(n_bytes)} in {parts[0].shards.folder}; what is finished stays. Make room, "
        "or give another folder for features, and run the same command: it goes on"
    )


def predict(
    backbone: Backbone,
    parts: Sequence[Part],
    *,
    refuse: bool,
    batch_size: int,
    workers: int,
    device: str,
    n_devices: int = 1,
    n_nodes: int = 1,
    console: Console,
    title: str = "",
) -> None:
    """Compute and write shards; on every rank, return when all are there.

    Args:
        backbone: What computes them.
        parts: The shards of each split. Of processes that were started together, the first one's count.
        refuse: See `ShardWriter`.
        batch_size: Images that go through the backbone together; a divisor of the images of a shard.
        workers: Processes that open images, of each device; 0 opens them in this one.
        device: "cpu", "cuda", "cuda:1", ...
        n_devices: Of each machine.
        n_nodes: Machines; on several, the command is started on each by SLURM, torchrun or alike.
        console: Where a bar is shown, if it is a terminal.
        title: What stands before the bar.

    Raises:
        SRCError: See `check_batch` and `Shards.write`. Shards that were finished before stay.
        KeyboardInterrupt: Ctrl-C; the same. So does SystemExit, at SIGTERM.
    """
    callbacks: list[Callback] = [ShardWriter(refuse=refuse)]
    if console.is_terminal and not console.quiet:
        callbacks.append(Bar(console, title, parts))
    with _quiet(), _exceptions_as_they_are():
        trainer = Trainer(
            **_devices(device, n_devices=n_devices, n_nodes=n_nodes),
            callbacks=callbacks,
            use_distributed_sampler=False,
            benchmark=False,  # what is fastest may differ from run to run, and with it the last bits
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        module = Extraction(backbone, parts, batch_size=batch_size, workers=workers)
        trainer.predict(module, return_predictions=False)
        # Not in a hook of the end: Lightning calls none on a rank that had no shard.
        trainer.strategy.barrier()


def started_together(*, n_devices: int, n_nodes: int) -> bool:
    """Say whether every rank is a process that something else has started; otherwise this one starts those it needs."""
    by_launcher = TorchElasticEnvironment.detect() or SLURMEnvironment.detect()
    return n_nodes > 1 or (n_devices > 1 and by_launcher)


def is_first_rank() -> bool:
    """Say whether this process is the first of those that Lightning, SLURM or torchrun started together."""
    return getattr(rank_zero_only, "rank", None) in (None, 0)


def _devices(device: str, *, n_devices: int, n_nodes: int) -> dict[str, Any]:
    """Return what tells Lightning where to compute."""
    wanted = torch.device(device)
    if wanted.index is not None and n_devices > 1:
        raise ConfigError(f"device {device} is one device, and {n_devices} were asked for; write {wanted.type}")
    chosen: dict[str, Any] = {
        "accelerator": "gpu" if wanted.type == "cuda" else wanted.type,
        "devices": n_devices if wanted.index is None or wanted.type == "cpu" else [wanted.index],
        "num_nodes": n_nodes,
    }
    if n_devices * n_nodes == 1:
        # Alone, also where SLURM has started others beside it that are none of its ranks.
        return {**chosen, "plugins": [LightningEnvironment()]}
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        chosen["plugins"] = [
            SLURMEnvironment(auto_requeue=False)
        ]  # which would leave a checkpoint, and heed no SIGTERM
    # Where nothing else has started the processes, they are started for this and end with it.
    together = started_together(n_devices=n_devices, n_nodes=n_nodes)
    return {**chosen, "strategy": "ddp" if together else "ddp_spawn"}


def be_quiet() -> None:
    """Keep Lightning from telling what it found and what could be better."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in QUIETED:
        warnings.filterwarnings("ignore", message=message)


@contextmanager
def _quiet() -> Iterator[None]:
    """Be quiet, and put back afterwards what this and Lightning set."""
    levels, benchmark = [logging.getLogger(name).level for name in LOGGERS], torch.backends.cudnn.benchmark
    try:
        with warnings.catch_warnings():
            be_quiet()
            yield
    finally:
        for name, level in zip(LOGGERS, levels, strict=True):
            logging.getLogger(name).setLevel(level)
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _exceptions_as_they_are() -> Iterator[None]:
    """Undo what Lightning makes of exceptions: Ctrl-C ends the process, and those of other processes are text."""
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    except torch.multiprocessing.ProcessRaisedException as error:
        lines = str(error).splitlines()
        for i, (name, _, message) in reversed(list(enumerate(line.partition(": ") for line in lines))):
            if name in RAISED:
                raise RAISED[name]("\n".join([message, *lines[i + 1 :]]).strip()) from error
        raise
    finally:
        if is_main:
            signal.signal(signal.SIGINT, handler)  # which Lightning leaves ignored
