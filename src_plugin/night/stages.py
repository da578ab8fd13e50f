"""One night: the stages sleep, settle and level on copies of the head's parameters, and what they did.

sleep (closed_form, or replay where it is simulated) -> settle -> level
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from src_plugin.config import ClosedForm, Simulation, SleepConfig, by_depth
from src_plugin.head.probe import Probe
from src_plugin.head.state import Head, HeadState
from src_plugin.night import settle as settling
from src_plugin.night.closed_form import fractions_of_steps, inhibit
from src_plugin.night.noise import share_of
from src_plugin.night.plan import Stages
from src_plugin.night.refit import refit
from src_plugin.report import (
    BalanceReport,
    ClosedFormReport,
    LevelReport,
    RefitReport,
    SettleReport,
    SimulationReport,
    SleepReport,
)
from src_plugin.waking.summary import TrainingSummary

BETTER_WITHOUT = "noise around class means is told apart better without it"

NOTHING_EXCITED = "no unit that could sleep answers the mean input"


@dataclass(frozen=True)
class Evening:
    """What a night begins with.

    Attributes:
        head: The head; its own parameters stay as they are.
        trained: They, copied.
        training: What training showed, on the device of the head.
        config: How to sleep.
        prior: Share of the noise that each seen class is to win, ascending; their sum is 1.
        noise: The head and noise to show it, in two halves: the first tells shares, both level outputs. None where
            there is nothing to balance.
        balance: What new classes win of it, and what they are to win.
        labelled: The head and noise around the mean of each class, with these classes; None without class means.
    """

    head: Head
    trained: HeadState
    training: TrainingSummary
    config: SleepConfig
    prior: tuple[float, ...] = ()
    noise: tuple[Probe, Probe] | None = None
    balance: BalanceReport | None = None
    labelled: tuple[Probe, Tensor] | None = None


def prepare(config: SleepConfig) -> None:
    """Load the compiled kernel where the config simulates, so that no sleep has to."""
    if config.simulates:
        from src_plugin.kernel import load  # here, because it imports Numba

        load()


def pass_night(
    evening: Evening, stages: Stages, told: SleepReport, *, generator: np.random.Generator
) -> tuple[HeadState, SleepReport]:
    """Go through the stages of a night.

    Args:
        evening: What it begins with.
        stages: Which of them are left out.
        told: What is reported so far.
        generator: The only source of randomness.

    Returns:
        The parameters in the morning, and `told` with what each stage did. Where class means are kept, it is the night
        with or without the sleep itself, whichever classifies more labelled noise rightly.
    """
    state, slept = _pass_stages(evening, stages, told, generator=generator)
    if slept.refit is None or stages.sleep:
        return state, slept
    without, awake = _pass_stages(evening, replace(stages, sleep=BETTER_WITHOUT), told, generator=generator)
    assert awake.refit is not None
    return (without, awake) if awake.refit.refit_after > slept.refit.refit_after else (state, slept)


def _pass_stages(
    evening: Evening, stages: Stages, told: SleepReport, *, generator: np.random.Generator
) -> tuple[HeadState, SleepReport]:
    state, skipped, balance, classes = evening.trained, dict(told.skipped), evening.balance, evening.training.classes
    sleep = settle = level = None
    if stages.sleep:
        skipped["replay"] = stages.sleep
    else:
        state, sleep, why = _sleep(evening, generator)
        skipped |= why
    if evening.noise and balance:
        share = share_of(evening.noise[0].logits(state), seen=classes.seen, new=classes.new or ())
        balance = replace(balance, share_slept=share)
    if stages.settle:
        skipped["settle"] = stages.settle
    else:
        state, settle, why = _settle(evening, state, balance)
        skipped |= why
    if stages.level:
        skipped["level"] = stages.level
    else:
        state, level = _level(evening, state)
    fitted = None
    if stages.refits and evening.labelled is None:
        skipped["refit"] = "there is no mean of every class, or no labelled input of the current experience"
    elif stages.refits:
        state, fitted = _refit(evening, state)
    told = replace(told, sleep=sleep, balance=balance, settle=settle, level=level, refit=fitted, skipped=skipped)
    return state, told


def _sleep(
    evening: Evening, generator: np.random.Generator
) -> tuple[HeadState, ClosedFormReport | SimulationReport, dict[str, str]]:
    head, state, training, how = evening.head, evening.trained, evening.training, evening.config.sleep
    if isinstance(how, Simulation):
        from src_plugin.night.replay import replay  # here, because it imports Numba

        slept = replay(head, state, training, how, generator)
        return slept.state, slept.report, slept.skipped
    assert isinstance(how, ClosedForm)  # by the plan
    mean, n_layers = torch.from_numpy(training.mean).to(state.weights[0]), len(head.layers)
    fractions = list(by_depth(how.fractions, n_layers))
    if how.depth is not None:
        removal = [how.depth * share for share in by_depth(how.depression, n_layers)]
        fractions = fractions_of_steps(state, mean, removal, head.next_input)
    inhibited = inhibit(state, mean, fractions, head.next_input)
    taken = [f if answer > 0 else 0.0 for f, answer in zip(fractions, inhibited.answers, strict=True)]
    depth = max(fractions) if how.depth is None else how.depth
    report = ClosedFormReport("closed_form", depth, taken, inhibited.answers)
    if any(taken):
        return inhibited.state, report, {}
    return state, report, {"replay": NOTHING_EXCITED if any(fractions) else "it is to take nothing of these layers"}


def _settle(
    evening: Evening, slept: HeadState, balance: BalanceReport | None
) -> tuple[HeadState, SettleReport, dict[str, str]]:
    trained, before, classes = evening.trained, evening.training.before, evening.training.classes
    assert before is not None
    assert evening.noise is not None
    assert balance is not None  # by the plan
    noise = evening.noise[0]
    start, lost = settling.align(before, trained)
    settled = settling.settle(
        noise, before=start, trained=trained, slept=slept, classes=classes,
        expected=balance.expected_share, at_slept=balance.share_slept, constants=evening.config.constants,
    )  # fmt: skip
    report = SettleReport(settled.share, settled.position, settled.other_end)
    why = f"{lost} weights have no counterpart before the experience"
    return settled.state, report, {"settle of grown units": why} if lost else {}


def _level(evening: Evening, settled: HeadState) -> tuple[HeadState, LevelReport]:
    assert evening.noise is not None  # by the plan
    classes = evening.training.classes
    levelled = settling.level(
        evening.noise, settled, seen=classes.seen, prior=evening.prior, constants=evening.config.constants
    )
    share = classes.share_of_new(levelled.shares.tolist())
    return levelled.state, LevelReport(levelled.gains.tolist(), levelled.offsets.tolist(), share)


def _refit(evening: Evening, levelled: HeadState) -> tuple[HeadState, RefitReport]:
    assert evening.labelled is not None  # by the caller
    noise, labels = evening.labelled
    classes = evening.training.classes
    fitted = refit(noise, labels, levelled, seen=classes.seen, prior=evening.prior, constants=evening.config.constants)
    right = [
        float((noise.logits(state)[:, list(classes.seen)].argmax(1) == _among(labels, classes.seen)).double().mean())
        for state in (levelled, fitted)
    ]
    return fitted, RefitReport(len(labels), *right)


def _among(labels: Tensor, seen: tuple[int, ...]) -> Tensor:
    """Return the place of each label among the classes seen, ascending."""
    return torch.searchsorted(torch.tensor(seen, device=labels.device), labels)
