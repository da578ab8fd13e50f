"""Checkpoint files: read, changed and written back, so that at any time the old file is there or the new one."""

from __future__ import annotations

import inspect
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

Checkpoint = dict[str, Any]


class Storage(Protocol):
    """What reads and writes the checkpoints of a Trainer, Lightning's `CheckpointIO`."""

    def load_checkpoint(self, path: str) -> Checkpoint:
        """Read a file."""

    def save_checkpoint(self, checkpoint: Checkpoint, path: str) -> None:
        """Write a file."""

    def teardown(self) -> None:
        """Wait for what is still being written."""


def rewrite(path: str, change: Callable[[Checkpoint], bool], storage: Storage) -> None:
    """Change a checkpoint where it lies; a link stays one.

    Args:
        path: A file, or the address of a remote one.
        change: Changes a checkpoint, and says whether there is anything to write.
        storage: Reads and writes.

    Raises:
        OSError: The file is not there, is read-only or cannot be written.
    """
    is_remote = "://" in path
    if not is_remote:
        path = os.path.realpath(path)
        if not os.stat(path).st_mode & stat.S_IWUSR:  # os.replace would not mind, nor would root
            raise PermissionError("it is read-only")
    checkpoint = _load(path, storage)
    if not change(checkpoint):
        return
    if is_remote:
        storage.save_checkpoint(checkpoint, path)
        return
    new = f"{path}.sleeping"
    try:
        storage.save_checkpoint(checkpoint, new)
        storage.teardown()  # some write in a thread
        shutil.copymode(path, new)
        os.replace(new, path)
    finally:
        Path(new).unlink(missing_ok=True)


def _load(path: str, storage: Storage) -> Checkpoint:
    """Read a checkpoint that this very process has written, so that whatever is in it may be trusted."""
    takes = inspect.signature(storage.load_checkpoint).parameters
    if "weights_only" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        return storage.load_checkpoint(path, weights_only=False)  # type: ignore[call-arg]
    return storage.load_checkpoint(path)
