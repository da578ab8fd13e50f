"""The state of Waking within an experience, as plain numbers and tensors: what a checkpoint needs to go on from there.

Between experiences `Waking.state_dict` says everything. Within one there are also the weights before, the sums so far,
and the last inputs of the head, about a thousand (with rehearsal, three thousand), which are dropped when it ends.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from src_plugin.errors import HeadNotFoundError
from src_plugin.head.state import HeadState
from src_plugin.waking.observer import Waking


def snapshot(waking: Waking) -> dict[str, Any]:
    """Return all that `waking` knows, the experience so far included; tensors lie on the CPU."""
    before = waking.before
    now = {
        "head": list(waking._before_names),
        "before": None if before is None else _cpu([list(before.weights), list(before.biases)]),
        "sum": _cpu(waking._inputs.sum),
        "least": _cpu(waking._inputs.least),
        "first": _cpu(waking._inputs.first),
        "refusal": waking.refusal,
        "n": waking._inputs.n,
        "iterations": waking._iterations,
        "below": waking._below,
        "buffers": waking._buffers,
        **waking.ledger.now(),
        "recent": _cpu(waking._recent.now()),
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
    waking._inputs.start()
    waking._start()
    if "now" in state:
        absorb(waking, state["now"], device)


def absorb(waking: Waking, now: dict[str, Any], device: torch.device | str = "cpu") -> None:
    """Take what a snapshot knows of the experience so far instead of what `waking` does; its head stays."""
    waking._before_names = tuple(now["head"])
    before = _to(now["before"], device)
    waking.before = None if before is None else HeadState(tuple(before[0]), tuple(before[1]))
    inputs = waking._inputs
    inputs.sum, inputs.least, inputs.first = (_to(now.get(key), device) for key in ("sum", "least", "first"))
    inputs.n, waking._iterations, waking.refusal = now["n"], now["iterations"], now.get("refusal", "")
    waking._below, waking._buffers = now["below"], now["buffers"]
    waking.ledger.absorb({**now, "counters": _plain(now["counters"])})
    waking._recent.absorb(_plain(_to(now["recent"], device)))
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


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    """Return the same under today's names: earlier versions of this package began them with an underscore."""
    return {name.removeprefix("_"): value for name, value in told.items()}


def _cpu(value: Any) -> Any:
    return _to(value, "cpu")


def _to(value: Any, device: torch.device | str) -> Any:
    """Return tensors within dicts, lists and tuples on a device; everything else stays as it is."""
    if isinstance(value, Tensor):
        return value.detach().to(device)
    if isinstance(value, dict):
        return {name: _to(part, device) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to(part, device) for part in value)
    return value
