"""One night: the stages sleep, settle and level on copies of the head's parameters, and what they did.

sleep (closed_form, or replay where it is simulated) -> settle -> level
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from src_plugin.config import SleepConfig, by_depth
from src_plugin.head.probe import Probe
from src_plugin.head.state import Head, HeadState
from src_plugin.night import settle as settling
from src_plugin.night.closed_form import DEPTH, inhibit
from src_plugin.night.noise import noise_share
from src_plugin.night.plan import Stages
from src_plugin.report import BalanceReport, ClosedFormReport, LevelReport, SettleReport, SimulationReport
from src_plugin.waking.classes import Classes
from src_plugin.waking.summary import TrainingSummary

NOTHING_EXCITED = "no unit that could sleep answers the mean input"


@dataclass(frozen=True)
class Noise:
    """What outputs are balanced on, where there are old and new classes.

    Attributes:
        parts: The head and noise to show it, in two halves: the first tells shares, both level outputs.
        prior: Share of the noise that each seen class is to win, ascending; their sum is 1.
        balance: What new classes win before the night.
        skipped: What the noise lacks, and why.
    """

    parts: tuple[Probe, Probe]
    prior: tuple[float, ...]
    balance: BalanceReport
    skipped: dict[str, str]


@dataclass(frozen=True)
class Evening:
    """What a night begins with.

    Attributes:
        head: The head; its own parameters stay as they are.
        trained: They, copied.
        training: What training showed, on the device of the head.
        config: How to sleep.
        noise: What outputs are balanced on; None where there is nothing to balance.
    """

    head: Head
    trained: HeadState
    training: TrainingSummary
    config: SleepConfig
    noise: Noise | None = None


@dataclass(frozen=True)
class Morning:
    """What a night made of a head.

    Attributes:
        state: The parameters.
        skipped: Stages that were not done, with the reason.
        sleep: What the sleep itself did.
        balance: What new classes won before the night, and after the sleep.
        settle: Where settling ended.
        level: What levelling did.
    """

    state: HeadState
    skipped: dict[str, str]
    sleep: ClosedFormReport | SimulationReport | None = None
    balance: BalanceReport | None = None
    settle: SettleReport | None = None
    level: LevelReport | None = None


def prepare(config: SleepConfig) -> None:
    """Load the compiled kernel where the config simulates, so that no sleep has to."""
    if config.simulates:
        from src_plugin.kernel import load  # here, because it imports Numba

        load()


def pass_night(evening: Evening, stages: Stages, *, generator: np.random.Generator) -> Morning:
    """Go through the stages of a night.

    Args:
        evening: What it begins with.
        stages: Which of them are left out.
        generator: The only source of randomness.
    """
    done = Morning(evening.trained, {})
    if stages.sleep:
        done.skipped["replay"] = stages.sleep
    else:
        done = _sleep(evening, generator)
    if evening.noise is not None:
        classes, noise = evening.training.classes, evening.noise
        share = noise_share(noise.parts[0], done.state, seen=classes.seen, new=classes.new or ())
        done = replace(done, balance=replace(noise.balance, share_slept=share))
    if stages.settle:
        done.skipped["settle"] = stages.settle
    else:
        done = _settle(evening, done)
    if stages.level:
        done.skipped["level"] = stages.level
        return done
    return _level(evening, done)


def _sleep(evening: Evening, generator: np.random.Generator) -> Morning:
    head, state, training, config = evening.head, evening.trained, evening.training, evening.config
    if config.engine == "simulated":
        from src_plugin.night.replay import replay  # here, because it imports Numba

        slept = replay(
            head, state, training.mean, config, n_steps=config.steps_at(training.index), generator=generator,
            inputs=training.inputs, is_first=not training.classes.old,
        )  # fmt: skip
        return Morning(slept.state, slept.skipped, slept.report)
    depth = DEPTH if config.depth is None else config.depth
    removal = [depth * share for share in by_depth(config.depression, len(head.layers))]
    inhibited = inhibit(state, torch.from_numpy(training.mean).to(state.weights[0]), removal)
    report = ClosedFormReport("closed_form", depth, inhibited.fractions, inhibited.answers)
    if any(inhibited.fractions):
        return Morning(inhibited.state, {}, report)
    return Morning(state, {"replay": NOTHING_EXCITED if any(removal) else "its depression is 0"}, report)


def _settle(evening: Evening, slept: Morning) -> Morning:
    trained, before, classes, noise = evening.trained, evening.training.before, evening.training.classes, evening.noise
    assert before is not None
    assert noise is not None
    assert slept.balance is not None  # by the plan
    part, seen, new = noise.parts[0], classes.seen, classes.new or ()
    start, lost = settling.align(before, trained)
    if lost:
        slept.skipped["settle of grown units"] = f"{lost} weights have no counterpart before the experience"
    past = settling.silence(part, before=start, trained=trained, seen=seen, new=new, returned=classes.returned)
    settled = settling.settle(
        part, before=past, trained=trained, slept=slept.state, seen=seen, new=new,
        expected=noise.balance.expected_share, at_slept=slept.balance.share_slept,
    )  # fmt: skip
    report = SettleReport(past is not start, settled.share, settled.position, settled.other_end)
    return replace(slept, state=settled.state, settle=report)


def _level(evening: Evening, settled: Morning) -> Morning:
    classes, noise = evening.training.classes, evening.noise
    assert noise is not None  # by the plan
    levelled = settling.level(noise.parts, settled.state, seen=classes.seen, prior=noise.prior)
    share = share_of_new(classes, levelled.shares.tolist())
    report = LevelReport(levelled.gains.tolist(), levelled.offsets.tolist(), share)
    return replace(settled, state=levelled.state, level=report)


def share_of_new(classes: Classes, shares: Sequence[float]) -> float:
    """Return what new classes have together, of shares of all seen ones."""
    return sum(share for c, share in zip(classes.seen, shares, strict=True) if c in (classes.new or ()))
