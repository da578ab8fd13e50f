"""Bar: how many images have gone through the backbone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.features.opening import Batch
from benchmarks.features.shards import Part

REFRESH = 0.1  # s, at least, from one picture of the bar to the next


class Bar(Callback):
    """A bar that counts images; in a process that others were started beside, the first one's."""

    def __init__(self, console: Console, title: str, parts: Sequence[Part]) -> None:
        self._console: Console | None = console
        self._title = title
        self._parts = list(parts)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._shown = 0.0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
        if not trainer.is_global_zero:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        # Refreshed by each batch: the thread that rich would start does not go well with workers that are forked.
        self._progress = Progress(
            *columns, TimeRemainingColumn(), console=self._console or Console(), auto_refresh=False, transient=True
        )
        n_images = sum(len(part.numbers(n_ranks=trainer.world_size)) for part in self._parts)
        self._task = self._progress.add_task(self._title, total=n_images)
        self._progress.start()

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any, **__: Any
    ) -> None:
        """Count."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, len(batch.pixels) + len(batch.unreadable))
            if time.monotonic() - self._shown > REFRESH:
                self._progress.refresh()
                self._shown = time.monotonic()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the bar away."""
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_console": None, "_progress": None}  # locks and streams stay in their process
