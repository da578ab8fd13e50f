"""Results: the files that a checkpoint callback names as its results, and that have slept when a fit is over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from src_plugin.errors import SRCError, Warner
from src_plugin.files.checkpoint import Checkpoint, Storage, rewrite
from src_plugin.files.night import NightOfCopies

SLEPT = "src_plugin"
"""Key of a checkpoint that has slept; it says after how many sleeps."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Puts to sleep what a fit leaves behind.

    Attributes:
        night: The night that the network had; None if nothing was to be done, e.g. with zero steps.
        key: Under which a checkpoint has the state of the callback that sleeps.
        state: That state, after the sleep.
        warn: Warns of each file that could not sleep.
    """

    night: NightOfCopies | None
    key: str
    state: dict[str, Any]
    warn: Warner

    def sleep_files(self, callbacks: Iterable[Any], storage: Storage) -> list[Any]:
        """Put files to sleep, each once; of one that cannot, warn by its name.

        Args:
            callbacks: Checkpoint callbacks.
            storage: Reads and writes files.

        Returns:
            The callbacks of which a file has changed.
        """
        storage.teardown()  # some write in a thread
        done: set[str] = set()
        told = []
        for callback in callbacks:
            fresh = [path for path in result_files(callback) if os.path.realpath(path) not in done]
            for path in fresh:
                done.add(os.path.realpath(path))
                try:
                    rewrite(path, self._change, storage)
                except Exception as error:  # a fit that went well must not fail for a file
                    self.warn(path, _message(path, error))
            if fresh:
                told.append(callback)
        return told

    def _change(self, checkpoint: Checkpoint) -> bool:
        if SLEPT in checkpoint:
            return False
        states = checkpoint.get("callbacks", {})
        if self.key in states and len(states[self.key]["reports"]) != len(self.state["reports"]) - 1:
            raise SRCError("it is of an earlier fit, which did not end")
        if self.night is not None:
            self.night.sleep(checkpoint["state_dict"])
        if "current_model_state" in checkpoint:  # beside an average; in memory the network has become that average
            checkpoint["current_model_state"] = checkpoint["state_dict"]
        if self.key in states:
            states[self.key] = self.state
        checkpoint[SLEPT] = len(self.state["reports"])
        return True


def tensors_of(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Return all parameters and buffers of modules, in one order everywhere."""
    return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]


def result_files(callback: Any) -> Iterator[str]:
    """Yield the files that a user of a checkpoint callback takes for the result: the last one and the best ones.

    Of a callback that keeps every file there ever was (`save_top_k=-1`), the best one alone.
    """
    named = [getattr(callback, name, "") for name in ("last_model_path", "best_model_path")]
    if getattr(callback, "save_top_k", 0) > 0:
        named += getattr(callback, "best_k_models", {})
    yield from dict.fromkeys(str(path) for path in named if path)


def _message(path: str, error: Exception) -> str:
    why = "it is no longer there" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__
    return (
        f"{path!r} holds a network that has not slept: {why}. The network in memory has slept; write it to another "
        "file by trainer.save_checkpoint(path)"
    )
