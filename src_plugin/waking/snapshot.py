"""The state of Waking within an experience, as plain numbers and tensors: what a checkpoint needs to go on from there.

Between experiences `Waking.state_dict` says everything. Within one there are also the weights before, the sums so far,
and the last inputs of the head, about a thousand (with rehearsal, three thousand), which are dropped when it ends.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import torch
from torch import Tensor

from src_plugin.errors import HeadNotFoundError
from src_plugin.head.state import HeadState
from src_plugin.waking.observer import Waking

COUNTERS = ("_epoch", "_most")
QUEUES = ("_inputs", "_fresh", "_rehearsed")


def snapshot(waking: Waking) -> dict[str, Any]:
    """Return all that `waking` knows, the experience so far included; tensors lie on the CPU."""
    ledger, recent, before = waking.ledger, waking._recent, waking.before
    now = {
        "head": list(waking._before_names),
        "before": None if before is None else _cpu([list(before.weights), list(before.biases)]),
        "sum": _cpu(waking._sum),
        "least": _cpu(waking._least_now),
        "first": _cpu(waking._first),
        "refusal": waking.refusal,
        "n": waking._n,
        "iterations": waking._iterations,
        "below": waking._below,
        "buffers": waking._buffers,
        "has_classes": ledger.has_classes,
        "new": sorted(ledger.new),
        "shown": sorted(ledger.shown),
        "recalled": _cpu(list(ledger._rehearsed)),
        "counters": {name: dict(getattr(ledger, name)) for name in COUNTERS},
        "recent": {name: _cpu(list(getattr(recent, name))) for name in (*QUEUES, "_prints")},
        "norms": {name: moments.now for name, moments in waking._norms.items()},
    }
    return waking.state_dict() | {"now": now}


def restore(waking: Waking, state: dict[str, Any], device: torch.device | str = "cpu") -> None:
    """Go on from a `snapshot`.

    Args:
        waking: What is watched; it forgets everything else.
        state: What `snapshot` returned; of an earlier version of this package without an experience.
        device: Where the head is going to be.
    """
    waking.load_state_dict(state)
    waking._start()
    if "now" in state:
        absorb(waking, state["now"], device)


def absorb(waking: Waking, now: dict[str, Any], device: torch.device | str = "cpu") -> None:
    """Take what a snapshot knows of the experience so far instead of what `waking` does; its head stays."""
    ledger, recent = waking.ledger, waking._recent
    waking._before_names = tuple(now["head"])
    before = _to(now["before"], device)
    waking.before = None if before is None else HeadState(tuple(before[0]), tuple(before[1]))
    waking._sum, waking._least_now = _to(now["sum"], device), _to(now["least"], device)
    waking._first, waking.refusal = _to(now.get("first"), device), now.get("refusal", "")
    waking._n, waking._iterations = now["n"], now["iterations"]
    waking._below, waking._buffers = now["below"], now["buffers"]
    ledger.has_classes, ledger.new, ledger.shown = now["has_classes"], set(now["new"]), set(now["shown"])
    ledger._rehearsed = list(now["recalled"])
    for name in COUNTERS:
        setattr(ledger, name, Counter(now["counters"][name]))
    for name in QUEUES:
        setattr(recent, name, deque(_to(now["recent"][name], device)))
    recent._prints = _to(now["recent"]["_prints"], device)
    for name, count in now["norms"].items():
        waking._norms[name].now = count


def check_same_head(waking: Waking) -> None:
    """Refuse a head other than the one that this experience began with, as a checkpoint of another one has it.

    Raises:
        HeadNotFoundError: The layers that were named, or that have been found by now, have other names.
    """
    began, named = waking._before_names, waking.head_names
    if not waking.has_seen_input or not began:
        return
    if waking.head is not None:
        names = waking.head.names
    elif named is not None:
        names = (named,) if isinstance(named, str) else tuple(named)
    else:
        return
    if names != began:
        raise HeadNotFoundError(
            f"this experience began with the head {', '.join(began)}, and goes on with {', '.join(names)}: name the "
            f"same one, head={list(began)}, or take the weights of the checkpoint alone"
        )


def _cpu(value: Any) -> Any:
    return _to(value, "cpu")


def _to(value: Any, device: torch.device | str) -> Any:
    """Return tensors within lists and tuples on a device; everything else stays as it is."""
    if isinstance(value, Tensor):
        return value.detach().to(device)
    if isinstance(value, (list, tuple)):
        return type(value)(_to(part, device) for part in value)
    return value
