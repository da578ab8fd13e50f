"""What SRCPlugin and SRCCallback do alike at the end of an experience: stay awake, or say what training showed."""

from __future__ import annotations

from torch import Tensor, nn

from src_plugin.config import SleepConfig
from src_plugin.errors import Warner, WeightsError
from src_plugin.head.state import Head
from src_plugin.report import SleepReport
from src_plugin.waking.drift import buffer_message, check_trained, drift_message
from src_plugin.waking.observer import ONE_HEAD_PER_TASK, Waking, task_heads_message
from src_plugin.waking.summary import TrainingSummary


def stay_awake(
    waking: Waking, model: nn.Module, config: SleepConfig, *, index: int, warn: Warner, has_task_heads: bool = False
) -> SleepReport | None:
    """Return the report of a night that is not even planned, or None; see `src_plugin.night.plan` for all others.

    Args:
        waking: What was watched.
        model: The model, for the warning.
        config: How to sleep.
        index: How many sleeps came before.
        warn: Warns of a head for each task, and of what was not seen to be wrong before training.
        has_task_heads: Whether the model is known to have one.
    """
    if (off := config.why_off(index)) is not None:
        reason = off
    elif has_task_heads or waking.has_other_end:
        warn("task heads", task_heads_message(model))
        reason = ONE_HEAD_PER_TASK
    else:
        reason = waking.doubts() or _diverged(model)
        if not reason:
            return None
        warn(reason, f"no sleep after this experience: {reason}")
    head = waking.head
    layers, sizes = ([], []) if head is None else (list(head.names), list(head.sizes))
    return SleepReport("awake", reason, layers, sizes)


def _diverged(model: nn.Module) -> str:
    """Return which parameters are not finite; "" if all are."""
    try:
        check_trained(model)
    except WeightsError as error:
        return str(error)
    return ""


def sum_up(
    waking: Waking, model: nn.Module, head: Head, *, index: int, warn: Warner | None, inputs: Tensor | None = None
) -> TrainingSummary:
    """Return what training showed, and warn of what moved below the head.

    Args:
        waking: What was watched.
        model: The model.
        head: Its head.
        index: How many sleeps came before.
        warn: Warns; None where what moved makes no difference.
        inputs: Inputs of the head, shape (n, n_0), to be taken instead of those that were seen.

    Raises:
        StimulusError: Nothing was seen, or the head has other inputs than earlier.
    """
    below, buffers = waking.trained_below(model, head), waking.changed_below(model)
    if warn is not None and below:
        warn("backbone", drift_message(below, head))
    elif warn is not None and buffers:
        warn("buffers", buffer_message(buffers, model, head))
    return waking.summary(index=index, inputs=inputs, backbone_trained=bool(below or buffers))
