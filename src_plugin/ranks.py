"""Several processes that train one model: what they saw is put together, one sleeps, and all have its network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch.distributed as dist
from torch import Tensor

from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError
from src_plugin.sleeper import Sleeper
from src_plugin.waking.merge import merge
from src_plugin.waking.observer import Waking
from src_plugin.waking.snapshot import absorb, snapshot


def sleep_once(sleeper: Sleeper, night: Callable[[], None], tensors: Callable[[], Iterable[Tensor]]) -> bool:
    """Have one process pass the night of all; afterwards all are alike, bit for bit.

    Each process calls this. It is the first one that saw a batch that sleeps, as a rule rank 0.

    Args:
        sleeper: Of this process.
        night: Sleeps, and forgets the experience.
        tensors: Return those that the night may have changed, in one order everywhere.

    Returns:
        Whether this process is the one that slept; always, where there is only one.

    Raises:
        SRCError: As the night; in all processes.
    """
    if n_ranks() == 1:
        night()
        return True
    seen = _gather(snapshot(sleeper.waking)["now"])
    lead = next((rank for rank, now in enumerate(seen) if now["n"]), 0)
    sleeps = dist.get_rank() == lead
    told: list[Any] = [None, None]
    if sleeps:
        try:
            head = sleeper.waking.head
            if head is not None:
                absorb(sleeper.waking, merge(seen), next(head.entry.parameters()).device)
            night()
            told = [sleeper.state_dict(), None]
        except Exception as error:  # or the others would wait for ever
            told = [None, error]
    dist.broadcast_object_list(told, src=lead)
    state, failure = told
    if failure is not None:
        raise failure
    for tensor in tensors():
        dist.broadcast(tensor.detach(), src=lead)
    if not sleeps:
        sleeper.load_state_dict(state)
    return sleeps


def check_ranks(config: SleepConfig) -> None:
    """Refuse what several processes cannot put together.

    Raises:
        ConfigError: They train, and class means are to be kept.
    """
    if n_ranks() > 1 and config.refits:
        raise ConfigError(
            f"{n_ranks()} processes train, and keep='class_means' adds up inputs in each of them for itself: train in "
            "one process, in Lightning Trainer(devices=1), or take keep='mean'"
        )


def of_all_ranks(waking: Waking) -> dict[str, Any]:
    """Return what each process has seen of an experience, for a state that one of them writes for all."""
    return {} if n_ranks() == 1 else {"ranks": _gather(snapshot(waking)["now"])}


def of_this_rank(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of this process of a state that was written for all.

    Where there is another number of processes now, the first one takes all that was seen.
    """
    seen = state.get("ranks") or [state["waking"]["now"]]
    rank = dist.get_rank() if n_ranks() > 1 else 0
    if len(seen) == n_ranks():
        now = seen[rank]
    elif rank == 0 and any(part["n"] for part in seen):
        now = merge(seen)
    else:
        now = None
    waking = {name: value for name, value in state["waking"].items() if name != "now"}
    return {**state, "waking": waking if now is None else waking | {"now": now}}


def n_ranks() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _gather(value: Any) -> list[Any]:
    values: list[Any] = [None] * n_ranks()
    dist.all_gather_object(values, value)
    return values
