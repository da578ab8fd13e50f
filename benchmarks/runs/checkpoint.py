"""A run between two experiences, in one file: strategy, what was measured, random generators. A run goes on from it.

Avalanche's own checkpoints fail with current torch (0.6.0 under 2.15: `save_checkpoint` raises PicklingError for every
optimizer) and would hold the images too. Here images are named in the file and not copied. A file is only good for the
code that wrote it, so its key holds versions and commit; one with another key is not used.

The file is a pickle: read only those that this laboratory wrote.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dill  # type: ignore[import-untyped]
import numpy as np
import torch

from benchmarks.files import write_whole


class _Pickler(dill.Pickler):  # type: ignore[misc]
    """Writes a name where a shared object stands."""

    def __init__(self, file: io.BytesIO, shared: Mapping[str, Any]) -> None:
        super().__init__(file, recurse=False)
        self._names = {id(thing): name for name, thing in shared.items()}

    def persistent_id(self, thing: Any) -> str | None:
        return self._names.get(id(thing))


class _Unpickler(dill.Unpickler):  # type: ignore[misc]
    """Puts shared objects where their names stand."""

    def __init__(self, file: io.BytesIO, shared: Mapping[str, Any]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, name: str) -> Any:
        return self._shared[name]


def pack(state: Any, *, shared: Mapping[str, Any]) -> bytes:
    """Return a state, and those of the global random generators, as bytes.

    Args:
        state: Anything, e.g. a strategy between two experiences.
        shared: Objects that are not copied but known by their names, e.g. images.
    """
    _name_optimizers()
    generators = (random.getstate(), np.random.get_state(), torch.get_rng_state(), _cuda_states())
    file = io.BytesIO()
    _Pickler(file, shared).dump((generators, state))
    return file.getvalue()


def unpack(packed: bytes, *, shared: Mapping[str, Any]) -> Any:
    """Return what `pack` was given, all of it new but what is shared, and set the random generators as they were."""
    with contextlib.redirect_stdout(io.StringIO()):  # Avalanche prints a line for every device it meets
        (python, numpy, cpu, cuda), state = _Unpickler(io.BytesIO(packed), shared).load()
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)
    return state


def save(path: Path, state: Any, *, key: Mapping[str, Any], shared: Mapping[str, Any]) -> None:
    """Write a state so that a reader finds all of the new one or all of the old one.

    Args:
        path: The file.
        state: See `pack`.
        key: What the reader must be to use it: plain values.
        shared: See `pack`.
    """
    write_whole(path, pickle.dumps((dict(key), pack(state, shared=shared))))


def load(path: Path, *, key: Mapping[str, Any], shared: Mapping[str, Any]) -> Any | None:
    """Return the state in a file and set the random generators; None if there is no file, or one of another key."""
    if not path.is_file():
        return None
    try:
        found, packed = pickle.loads(path.read_bytes())
        return unpack(packed, shared=shared) if found == dict(key) else None
    except (pickle.UnpicklingError, EOFError, ValueError, AttributeError, ImportError, KeyError):
        return None  # torn, or of other code: the run begins again


def _cuda_states() -> list[torch.Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _name_optimizers() -> None:
    """Let torch's optimizer modules be found by their names again; without, dill copies the classes and fails."""
    for name, module in list(sys.modules.items()):
        package, _, own = name.rpartition(".")
        if package == "torch.optim" and not hasattr(torch.optim, own):
            setattr(torch.optim, own, module)
