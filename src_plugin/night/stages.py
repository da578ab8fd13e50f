"""One night: the stages sleep, settle and level on copies of the head's parameters, and what they did.

A sleep (closed_form, or replaying where it is simulated) -> first gate -> B settle -> C level (settling)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_plugin.config import SleepConfig, by_depth
from src_plugin.head.probe import Probe
from src_plugin.head.state import Head, HeadState
from src_plugin.night import plan as gates
from src_plugin.night import settle as settling
from src_plugin.night.closed_form import DEPTH, inhibit

NOTHING_EXCITED = "no unit that could sleep answers the mean input"

Facts = dict[str, Any]
"""Fields of SleepReport, by name."""


@dataclass(frozen=True)
class Evening:
    """What a night begins with.

    Attributes:
        head: The head; its own parameters stay as they are.
        trained: They, copied.
        mean: Mean of the head's inputs, shape (n_0,).
        config: What is to be done.
        inputs: Inputs of the head from the current experience, shape (n, n_0), or None.
        before: Parameters before the experience, or None.
        new: Outputs of its classes; None where that is not known.
        old: Outputs of the classes they stand against; empty if there are none.
        returned: Those of `new` that came back.
        prior: Share of the noise that each of all seen classes is to win, ascending; their sum is 1.
        why_off: What the report says of stages that the config leaves out.
        some: The head and noise to tell shares by; None where there is nothing to balance.
        rest: The head and as many more, which outputs are levelled on besides.
    """

    head: Head
    trained: HeadState
    mean: NDArray[np.float64]
    config: SleepConfig
    inputs: Tensor | None
    before: HeadState | None
    new: tuple[int, ...] | None
    old: tuple[int, ...]
    returned: tuple[int, ...]
    prior: tuple[float, ...] = ()
    why_off: str = "switched off"
    some: Probe | None = None
    rest: Probe | None = None

    @property
    def seen(self) -> tuple[int, ...]:
        """All classes seen so far."""
        return tuple(sorted({*self.old, *(self.new or ())}))

    @property
    def expected(self) -> float:
        """Share of the noise that the new classes are to win together."""
        return sum(share for c, share in zip(self.seen, self.prior, strict=True) if c in (self.new or ()))


def prepare(config: SleepConfig) -> None:
    """Load the compiled kernel where the config simulates, so that no sleep has to."""
    if config.simulates:
        from src_plugin.kernel import load  # here, because it imports Numba

        load()


def pass_night(
    evening: Evening, *, n_steps: int, sleeps: bool, generator: np.random.Generator
) -> tuple[HeadState, Facts]:
    """Go through the stages that the config leaves on.

    Args:
        evening: What the night begins with.
        n_steps: Length of stage A where it is simulated, in steps.
        sleeps: Whether gates leave stage A in.
        generator: The only source of randomness.

    Returns:
        The parameters in the morning, and what the report says of the night.
    """
    config = evening.config
    facts: Facts = {"skipped": {}}
    state = evening.trained
    if not config.replay:
        facts["skipped"]["replay"] = evening.why_off
    elif not sleeps:
        facts["skipped"]["replay"] = "its depth is 0" if config.depth == 0 else "a gate leaves it out"
    else:
        state = _sleep(evening, facts, n_steps=n_steps, generator=generator)
    if evening.some is not None and evening.new:
        facts["share_slept"] = gates.noise_share(evening.some, state, seen=evening.seen, new=evening.new)
    return _level(evening, _settle(evening, state, facts), facts), facts


def _sleep(evening: Evening, facts: Facts, *, n_steps: int, generator: np.random.Generator) -> HeadState:
    """Stage A; notes in `facts` what it did."""
    head, state, config = evening.head, evening.trained, evening.config
    facts["engine"] = config.engine
    if config.engine == "closed_form":
        depth = DEPTH if config.depth is None else config.depth
        removal = [depth * share for share in by_depth(config.depression, len(head.layers))]
        inhibited = inhibit(state, torch.from_numpy(evening.mean).to(state.weights[0]), removal)
        facts.update(strength=depth, fractions=inhibited.fractions, answers=inhibited.answers)
        if any(inhibited.fractions):
            return inhibited.state
        facts["skipped"]["replay"] = NOTHING_EXCITED if any(removal) else "its depression is 0"
        return state
    from src_plugin.night.replay import replay  # here, because it imports Numba

    slept, spent = replay(
        head, state, evening.mean, config,
        n_steps=n_steps, generator=generator, inputs=evening.inputs, is_first=not evening.old,
    )  # fmt: skip
    facts["skipped"].update(spent.pop("skipped"))
    facts.update(spent)
    return slept


def _settle(evening: Evening, slept: HeadState, facts: Facts) -> HeadState:
    """Stage B; notes in `facts` what it did, or why not."""
    why = _why_not(evening)
    before, trained, some, new = evening.before, evening.trained, evening.some, evening.new
    if not evening.config.settle:
        facts["skipped"]["settle"] = evening.why_off
    elif why or before is None or some is None or new is None:
        facts["skipped"]["settle"] = why or "the weights before the experience were not given"
    else:
        start, lost = settling.align(before, trained)
        if lost:
            facts["skipped"]["settle of grown units"] = f"{lost} weights have no counterpart before the experience"
        past = settling.silence(
            some, before=start, trained=trained, seen=evening.seen, new=new, returned=evening.returned
        )
        facts["silenced"] = past is not start
        settled = settling.settle(
            some, before=past, trained=trained, slept=slept, seen=evening.seen, new=new,
            expected=evening.expected, at_slept=facts["share_slept"],
        )  # fmt: skip
        facts.update(settled_at=settled.position, settled_towards=settled.other_end, share_settled=settled.share)
        return settled.state
    return slept


def _level(evening: Evening, state: HeadState, facts: Facts) -> HeadState:
    """Stage C; notes in `facts` what it did, or why not."""
    why = _why_not(evening)
    if not evening.config.level:
        facts["skipped"]["level"] = "switched off"
    elif why or evening.some is None or evening.rest is None:
        facts["skipped"]["level"] = why or "there is no noise to level with"
    else:
        levelled = settling.level((evening.some, evening.rest), state, seen=evening.seen, prior=evening.prior)
        won = zip(evening.seen, levelled.shares.tolist(), strict=True)
        facts.update(
            gains=levelled.gains.tolist(),
            offsets=levelled.offsets.tolist(),
            share_levelled=sum(share for c, share in won if c in (evening.new or ())),
        )
        return levelled.state
    return state


def _why_not(evening: Evening) -> str | None:
    if evening.new is None:
        return "it is not known which classes are new"
    return None if evening.old and evening.new else "there are no earlier classes"
