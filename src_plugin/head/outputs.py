"""Which tensor of a model's output holds the scores of the classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

Path = tuple[str | int, ...]
"""Keys and positions that lead to a tensor in an output; () where the output is the tensor itself."""

NAME = "logits"


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in tensors_in(item)]
    return []


def pick(output: Any) -> list[tuple[Path, Tensor]]:
    """Return the tensors of an output that may hold class scores, and where they are.

    It is the output itself, its entry or attribute `logits`, or else a floating-point tensor of shape (n, classes).
    """
    if isinstance(output, Tensor):
        return [((), output)]
    named = output.get(NAME) if isinstance(output, Mapping) else getattr(output, NAME, None)
    if isinstance(named, Tensor):
        return [((NAME,), named)]
    return [(path, t) for path, t in _walk(output) if t.is_floating_point() and t.ndim == 2]


def at(output: Any, path: Path) -> Any:
    """Return what lies at a path of an output; the output itself if there is no such place."""
    for key in path:
        if isinstance(output, Mapping) and key in output:
            output = output[key]
        elif isinstance(key, int) and isinstance(output, (tuple, list)):
            output = output[key] if key < len(output) else output
        elif isinstance(key, str) and hasattr(output, key):
            output = getattr(output, key)
    return output


def _walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, (*path, key))
    elif isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            yield from _walk(item, (*path, i))
