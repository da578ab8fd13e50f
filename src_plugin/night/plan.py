"""When `auto` should leave the sleep itself out, or not sleep at all, and how it knows.

A healthy network is left as it is. A gate answers with a verdict that says why, or with None. Only the rehearsal gate
is told of labels: a recall.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from src_plugin.config import SleepConfig
from src_plugin.head.probe import Probe
from src_plugin.head.state import HeadState

RECALLED = 0.5
"""Recall of rehearsed samples above which a network stays awake, where no samples can judge what a night gave."""


@dataclass(frozen=True)
class Verdict:
    """A gate's answer: the sleep itself is left out, and why; if the gate is closed, so is all that would follow.

    `gate` is the field of `SleepConfig` that switches it.
    """

    reason: str
    closed: bool = False
    gate: str = ""


def no_new_classes(config: SleepConfig, new_classes: tuple[int, ...] | None) -> Verdict | None:
    """Stay awake if the experience had all classes and no new one: there is nothing to balance then.

    Only where settling or levelling would follow; a pure sleep does not ask for classes. `new_classes_gate` switches
    this gate.
    """
    if config.is_pure or not config.new_classes_gate or new_classes is None or new_classes:
        return None
    return Verdict("no new classes in this experience", closed=True, gate="new_classes_gate")


def no_hidden_units(config: SleepConfig, *, n_layers: int) -> Verdict | None:
    """Level only where the head is a single layer.

    It has no hidden weights that later classes could have moved: what an output answers changes by its own row alone,
    and a sleep and a way back cost 1 to 12 points of what levelling alone keeps (docs/research_notes.md).

    Args:
        config: `hidden_gate` switches this gate. It is asked where the sleep itself and levelling are both on.
        n_layers: Of the head.
    """
    if n_layers > 1 or not (config.hidden_gate and config.replay and config.level):
        return None
    return Verdict("levels only: a head of one layer has no hidden units to replay with", gate="hidden_gate")


def rehearsed(config: SleepConfig, recall: float | None, *, judged: bool = False) -> Verdict | None:
    """Stay awake if most of what is rehearsed is recalled, where no samples can judge what a night gave.

    Args:
        config: `rehearsal_gate` switches this gate.
        recall: Share of samples of earlier classes in the training batches that were classified rightly in the second
            half of the last epoch; None if there were none.
        judged: Whether samples will judge the outcome (`src_plugin.night.judge`); then a night is tried in any case.
    """
    if not config.rehearsal_gate or recall is None or judged or recall <= RECALLED:
        return None
    reason = f"rehearsal works: {recall:.0%} of rehearsed samples are recalled"
    return Verdict(reason, closed=True, gate="rehearsal_gate")


def protected(config: SleepConfig, protector: str | None) -> Verdict | None:
    """Settle and level only where a plugin protects what earlier inputs evoke: the sleep itself would move just that.

    Under orthogonal weights modification the sleep costs 3 to 5 points, settling and levelling nothing.

    Args:
        config: `rehearsal_gate` switches this gate; a pure sleep does not ask.
        protector: Name of the plugin; see `src_plugin.waking.protecting`.
    """
    if config.is_pure or not config.rehearsal_gate or protector is None:
        return None
    return Verdict(f"settles and levels only: {protector} protects what earlier inputs evoke")


def balanced(config: SleepConfig, *, share: float | None, expected: float | None) -> Verdict | None:
    """Stay awake if noise gives the new classes no more than their share.

    Args:
        config: `balance_gate` switches this gate.
        share: Fraction of noise vectors whose largest output is a new class.
        expected: The share they are to have.
    """
    if not config.balance_gate or share is None or expected is None or share > expected:
        return None
    reason = f"new classes do not dominate: noise gives them {share:.0%}, their share is {expected:.0%}"
    return Verdict(reason, closed=True, gate="balance_gate")


def noise_share(noise: Probe, state: HeadState, *, seen: tuple[int, ...], new: tuple[int, ...]) -> float:
    """Return the fraction of noise vectors whose largest output, among seen classes, is a new class.

    Args:
        noise: The head, and noise to show it.
        state: Its parameters.
        seen: Outputs of the classes seen so far.
        new: Those of them that are new.
    """
    return share_of(noise.logits(state), seen=seen, new=new)


def share_of(logits: Tensor, *, seen: tuple[int, ...], new: tuple[int, ...]) -> float:
    """Return the fraction of rows of logits, shape (n, n_L), whose largest entry among seen classes is a new class."""
    winners = logits[:, list(seen)].argmax(1)
    is_new = torch.tensor([c in new for c in seen], device=logits.device)
    return float(is_new[winners].double().mean())
