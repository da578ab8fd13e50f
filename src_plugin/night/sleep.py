"""sleep(): one whole sleep of one head, from the mean input to the report.

    plan -> sleep (closed form, or simulated) -> settle -> level -> judge, if rehearsed -> write back

Every stage works on copies; the head's own parameters are written once, at the end, all or none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from src_plugin.config import SleepConfig, as_config
from src_plugin.head.find import find_head
from src_plugin.head.probe import Probe
from src_plugin.head.state import Head, HeadState, check_finite
from src_plugin.night.arguments import (
    as_array,
    as_classes,
    check_before,
    check_classes,
    check_inputs,
    check_recall,
    head_of_mean,
    prior_of,
)
from src_plugin.night.judge import Judge
from src_plugin.night.labelled import draw_labelled
from src_plugin.night.noise import draw_noise, share_of
from src_plugin.night.plan import Plan, plan_night
from src_plugin.night.stages import NOTHING_EXCITED, Evening, pass_night
from src_plugin.night.stimulus import as_generator
from src_plugin.report import BalanceReport, SleepReport, Verdict
from src_plugin.waking.classes import Classes
from src_plugin.waking.mean import check_mean_input, lowest_input
from src_plugin.waking.samples import Samples
from src_plugin.waking.summary import TrainingSummary


def sleep(
    module: nn.Module,
    mean_input: ArrayLike | Tensor,
    config: SleepConfig | str | None = None,
    *,
    generator: int | np.random.Generator | torch.Generator | None = 0,
    head: str | Sequence[str] | None = None,
    example: Tensor | None = None,
    before: HeadState | None = None,
    new_classes: Sequence[int] | None = None,
    old_classes: Sequence[int] | None = None,
    class_counts: Mapping[int, int] | None = None,
    recall: float | None = None,
    inputs: Tensor | None = None,
    lowest: ArrayLike | Tensor | None = None,
    samples: Samples | None = None,
    index: int = 0,
) -> SleepReport:
    """Put the classifier head of a module to sleep, in place, once.

    Parameters keep their identity; everything outside the head stays bit-identical; nothing is drawn from global
    random states; on any exception or interrupt the head is as it was. Biases: units of a sleeping network have no
    constant drive, as in the paper, so the sleep itself ignores and keeps biases (a bias would make units fire in
    silence, and no input's absence could be blamed for it); settling moves them with the weights.

    Args:
        module: The network, or the head alone.
        mean_input: Mean of the head's inputs over all that was seen, shape (n_0,); 0 or more if the sleep is simulated.
        config: What to do; a str names a preset; None is `auto`.
        generator: Seed or generator of the noise. A generator goes on from where it is.
        head: Name(s) of the head's layers; None finds them with one forward pass of `example`.
        example: An input of `module`, e.g. one batch; None takes `mean_input` itself as one.
        before: The head's parameters before the experience, `find_head(...).read()`; None skips settling.
        new_classes: Outputs of the classes learnt since `before`, also of those that came back; None skips settling and
            levelling.
        old_classes: Outputs of the classes learnt earlier and not since; None or empty says that there are none.
        class_counts: Images of each class seen so far, by its number: settling and levelling give each class that
            share of the noise. None gives all classes the same.
        recall: Share of rehearsed samples of old classes that training classified rightly, lately (SRCPlugin takes the
            second half of the last epoch); None without rehearsal. Alone, without samples that judge: nothing happens
            above a half.
        inputs: Inputs of the head from the current experience, shape (n, n_0), in random order: the noise of settling
            and levelling has the correlations of the last 300; data-based gains and, in a simulated sleep, its
            depth and the gate of the first one look at all.
        lowest: The least value that each input of the head had in all that was seen, x.amin(0), shape (n_0,); noise of
            settling and levelling goes no lower. None takes it from `inputs`, and 0 where no mean is negative.
        samples: Inputs of the head and their classes, shapes (n, n_0) and (n,), of old (rehearsed) and of new classes:
            they judge the night, by the mean over classes of how many are classified rightly, and undo it if it did not
            rise by a point; if `recall` says that they are memorised it may fall, the more the fewer different ones
            of an old class there are (`src_plugin.night.judge`). Needs `recall`.
        index: How many sleeps came before; selects the length of the sleep.

    Returns:
        What happened.

    Raises:
        HeadNotFoundError: No head can be found, or it cannot be changed.
        WeightsError: Parameters of the head are not finite.
        StimulusError: The mean input is not finite, 0 everywhere or of the wrong length; or it is negative, and the
            sleep simulated.
        ConfigError: Numbers per layer that do not fit the head; unknown classes, or no list of class numbers; recall or
            samples that cannot be meant.

    Source:
        Tadros et al. 2022, Nat. Commun. 13:7742, Methods. Settling and levelling are additions of this project.
    """
    config = as_config(config)
    recall = check_recall(recall, samples)
    mean = as_array(mean_input)
    check_mean_input(mean, as_rates=config.needs_rates)
    if head is None and example is None:
        found = head_of_mean(module, mean)
    else:
        found = find_head(module, *([] if example is None else [example]), head=head)
    classes = Classes(
        new=None if new_classes is None else as_classes(new_classes, "new_classes"),
        old=() if old_classes is None else as_classes(old_classes, "old_classes"),
        counts=class_counts,
        recall=recall,
    )
    training = TrainingSummary(
        mean=mean, lowest=lowest, inputs=inputs, before=before, classes=classes, samples=samples, index=index
    )
    return sleep_head(found, training, config, as_generator(generator))


def sleep_head(
    head: Head, training: TrainingSummary, config: SleepConfig, generator: np.random.Generator
) -> SleepReport:
    """Put a head that was found already to sleep.

    Args:
        head: The head.
        training: What training showed.
        config: What to do.
        generator: The only source of randomness; it goes on from where it is.

    Raises:
        SRCError: As `sleep` does.
    """
    started = time.perf_counter()
    told = SleepReport(
        "awake",
        config.why_off(training.index) or "",
        list(head.names),
        list(head.sizes),
        backbone_trained=training.backbone_trained,
    )
    if told.reason:
        return told
    evening = _evening(head, training, config, generator)
    plan = plan_night(config, training, n_layers=len(head.layers), balance=evening.balance)
    judge = Judge.of(head, evening.trained, training, config.constants) if plan.is_judged else None
    skipped = {"layers below": head.frozen_below} if head.frozen_below else {}
    if evening.noise is not None and (training.inputs is None or len(training.inputs) < 2):
        skipped["correlated noise"] = "no inputs of the current experience were given"
    told = replace(told, reason=plan.reason, gate=plan.gate, balance=evening.balance, skipped=skipped)
    if plan.nights:
        told = _go_through(plan, evening, judge, told, generator)
    return replace(told, seconds=time.perf_counter() - started)


def _go_through(
    plan: Plan, evening: Evening, judge: Judge | None, told: SleepReport, generator: np.random.Generator
) -> SleepReport:
    """Go through the nights of a plan until one is kept, write that one back, and return what happened.

    Args:
        plan: With at least one night.
        evening: What they begin with.
        judge: Says whether a night is kept; None keeps the first.
        told: A report that the head stayed awake.
        generator: The only source of randomness.
    """
    verdicts: list[Verdict] = []
    for stages in plan.nights:
        state, done = pass_night(evening, stages, told, generator=generator)
        if judge is None:
            break
        verdicts.append(judge.accepts(state, stages))
        told, done = (replace(report, judge=judge.report(verdicts)) for report in (told, done))
        if verdicts[-1].kept:
            break
    else:
        names = [stages.name for stages in plan.nights]
        tried = f"neither {' nor '.join(names)}" if len(names) > 1 else f"not even {names[0]}"
        return replace(told, reason=f"{plan.reason}; samples say that {tried} helped, so nothing is changed")
    if state is evening.trained:
        why = f"nothing was done: {done.skipped.get('replay', NOTHING_EXCITED)}"
        return replace(told, reason=why, gate=None, skipped=done.skipped)
    weights = evening.trained.weights
    norms = [float(w.norm()) for w in weights]
    change = [float((now - w).norm()) for now, w in zip(state.weights, weights, strict=True)]
    evening.head.write(state)
    return replace(done, decision="slept", gate=None, weight_norm=norms, weight_change=change)


def _evening(head: Head, training: TrainingSummary, config: SleepConfig, generator: np.random.Generator) -> Evening:
    """Return what a night begins with, with the noise that outputs are balanced on; refuse what cannot be meant."""
    check_finite(head)
    check_mean_input(training.mean, n_inputs=head.sizes[0], as_rates=config.needs_rates)
    classes = training.classes
    if not config.is_pure:
        check_classes(head, classes)
    trained = head.read()
    inputs = check_inputs(head, training.inputs)
    before = check_before(head, training.before, trained)
    training = replace(
        training,
        inputs=None if inputs is None else inputs.to(trained.device),
        before=None if before is None else before.to(trained.device),
    )
    evening = Evening(head, trained, training, config)
    if config.is_pure or not classes.seen:
        return evening
    prior = prior_of(classes.counts if config.prior == "counts" else None, classes.seen)
    if not (classes.old and classes.new):
        return evening
    vectors, strength = _draw(evening, generator)
    first, second = (Probe(head, half) for half in vectors.tensor_split(2))
    share = share_of(first.logits(trained), seen=classes.seen, new=classes.new)
    balance = BalanceReport(strength, classes.share_of_new(prior), share)
    labelled = _labelled(evening, generator)
    return replace(evening, prior=prior, noise=(first, second), balance=balance, labelled=labelled)


def _labelled(evening: Evening, generator: np.random.Generator) -> tuple[Probe, Tensor] | None:
    """Return noise around the mean of each class, and its classes; None if a mean or a labelled input is missing."""
    training, config = evening.training, evening.config
    seen, means = training.classes.seen, training.class_means or {}
    if not config.refits or training.fresh is None or not set(seen) <= set(means):
        return None
    inputs, labels = (part.to(evening.trained.device) for part in training.fresh)
    lowest = lowest_input(training.lowest, training.mean, training.inputs)
    vectors, classes = draw_labelled(
        {c: means[c] for c in seen},
        (inputs, labels),
        generator=generator,
        lowest=lowest,
        constants=config.constants,
    )
    return Probe(evening.head, vectors.to(evening.trained.weights[0])), classes


def _draw(evening: Evening, generator: np.random.Generator) -> tuple[Tensor, float | None]:
    """Return the noise of a night, in the type of the parameters, and the strength of binary noise."""
    head, trained, training = evening.head, evening.trained, evening.training
    if evening.config.noise == "gaussian":
        lowest = lowest_input(training.lowest, training.mean, training.inputs)
        drawn = draw_noise(
            training.mean,
            generator=generator,
            inputs=training.inputs,
            lowest=lowest,
            constants=evening.config.constants,
        )
        return drawn.to(trained.weights[0]), None
    from src_plugin.night.binary_noise import draw_binary_noise, how_many  # here, because the default does without

    binary = draw_binary_noise(
        training.mean,
        generator=generator,
        dtype=trained.weights[0].dtype,
        inputs=None if training.inputs is None else training.inputs.cpu(),
        hidden=lambda x: head.hidden(trained, x.to(trained.device)).cpu(),
        n=how_many(training.iterations),
    )
    return binary.vectors.to(trained.device), binary.strength
