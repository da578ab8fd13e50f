"""What several processes saw of one training, put together as if one had seen all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import reduce
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from src_plugin.waking.recent import QUEUES, RECENT

Now = dict[str, Any]


def merge(seen: Sequence[Now]) -> Now:
    """Put together the `now` of a snapshot of each process.

    Args:
        seen: Of each process in the order of ranks; of one that saw no batch too.

    Returns:
        What one process would know that had the batches of all, rank by rank, as one. Parameters are the same in all
        processes, so those of the first that saw anything count.
    """
    having = [now for now in seen if now["n"]]
    refusal = next((now["refusal"] for now in seen if now["refusal"]), "")
    if not having:
        return seen[0] | {"refusal": refusal}
    first = having[0]
    return first | {
        "refusal": refusal,
        "sum": reduce(torch.add, (now["sum"] for now in having)),
        "least": reduce(torch.minimum, (now["least"] for now in having)),
        "n": sum(now["n"] for now in having),
        "iterations": max(now["iterations"] for now in having),
        "has_classes": all(now["has_classes"] for now in having),
        "new": sorted({c for now in having for c in now["new"]}),
        "shown": sorted({c for now in having for c in now["shown"]}),
        "recalled": [
            [sum(numbers) for numbers in zip(*(part for part in parts if part is not None), strict=True)]
            for parts in zip_longest(*(now["recalled"] for now in having))
        ],
        "counters": {
            name: dict(sum((Counter(now["counters"][name]) for now in having), Counter())) for name in first["counters"]
        },
        "recent": {
            **{name: _batches([now["recent"][name] for now in having]) for name in QUEUES},
            "prints": [pair for now in having for pair in now["recent"]["prints"]],
        },
        "norms": {name: sum(now["norms"].get(name, 0) for now in having) for name in first["norms"]},
    }


def _batches(held: Sequence[Sequence[Any]]) -> list[Any]:
    """Put batches of the same step together, the last ones of each process being of the last step."""
    steps = zip_longest(*(reversed(batches) for batches in held))
    joined = [_join([part for part in parts if part is not None]) for parts in steps]
    kept, n = [], 0
    for batch in joined:  # the last step first
        if n >= RECENT:
            break
        kept.append(batch)
        n += len(batch[0] if isinstance(batch, tuple) else batch)
    return kept[::-1]


def _join(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        return _deal(parts)
    return tuple(_deal(tensors) for tensors in zip(*parts, strict=True))


def _deal(parts: Sequence[Tensor]) -> Tensor:
    """Return rows in turn from each part, as samples were dealt out to processes."""
    order = torch.cat([torch.arange(len(part)) for part in parts]).argsort(stable=True)
    return torch.cat(list(parts))[order]
