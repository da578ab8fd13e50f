"""sleep(): one whole sleep of one head, from the mean input to the report.

    gates -> A sleep (closed form, or simulated) -> B settle -> C level -> judge, if rehearsed -> write back

Every stage works on copies; the head's own parameters are written once, at the end, all or none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from src_plugin.config import SleepConfig, as_config
from src_plugin.errors import ConfigError
from src_plugin.head.find import find_head
from src_plugin.head.probe import Probe
from src_plugin.head.state import Head, HeadState, check_finite
from src_plugin.night import plan as gates
from src_plugin.night.arguments import as_array, as_classes, check_classes, check_recall, head_of_mean, prior_of
from src_plugin.night.judge import Judge
from src_plugin.night.noise import draw_noise
from src_plugin.night.stages import NOTHING_EXCITED, Evening, Facts, pass_night
from src_plugin.night.stimulus import as_generator
from src_plugin.report import SleepReport
from src_plugin.waking.mean import check_mean_input
from src_plugin.waking.samples import Samples, check_samples, merge_repeated


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
    returned_classes: Sequence[int] = (),
    class_counts: Mapping[int, int] | None = None,
    recall: float | None = None,
    inputs: Tensor | None = None,
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
        mean_input: Mean of the head's inputs over all that was seen, shape (n_0,), 0 or more.
        config: What to do; a str names a preset; None is `auto`.
        generator: Seed or generator of the noise. A generator goes on from where it is.
        head: Name(s) of the head's layers; None finds them with one forward pass of `example`.
        example: An input of `module`, e.g. one batch; None takes `mean_input` itself as one.
        before: The head's parameters before the experience, `find_head(...).read()`; None skips settling.
        new_classes: Outputs of the classes learnt since `before`, also of those that came back; None skips settling and
            levelling.
        old_classes: Outputs of the classes learnt earlier and not since; None or empty says that there are none.
        returned_classes: Those of `new_classes` that came back. Their outputs have a past; the others' may have none,
            and settling starts from silenced ones then.
        class_counts: Images of each class seen so far, by its number: settling and levelling give each class that
            share of the noise. None gives all classes the same.
        recall: Share of rehearsed samples of old classes that training classified rightly, lately (SRCPlugin takes the
            second half of the last epoch); None without rehearsal. Alone, without samples that judge: nothing happens
            above a half.
        inputs: Inputs of the head from the current experience, shape (n, n_0), in random order: the noise of settling
            and levelling has the correlations of the last 300; data-based gains and, in a simulated sleep, its
            depth and the gate of the first one look at all.
        samples: Inputs of the head and their classes, shapes (n, n_0) and (n,), of old (rehearsed) and of new classes:
            they judge the night, by the mean over classes of how many are classified rightly, and undo it if it did not
            rise by a point; if `recall` says that they are known by heart it may fall, the more the fewer different
            ones of an old class there are (`src_plugin.night.judge`). Needs `recall`.
        index: How many sleeps came before; selects the length of the sleep.

    Returns:
        What happened.

    Raises:
        HeadNotFoundError: No head can be found, or it cannot be changed.
        WeightsError: Parameters of the head are not finite.
        StimulusError: The mean input is negative, not finite, silent, or of the wrong length.
        ConfigError: Numbers per layer that do not fit the head; unknown classes, or no list of class numbers; recall or
            samples that cannot be meant.

    Source:
        Tadros et al. 2022, Nat. Commun. 13:7742, Methods. Settling and levelling are additions of this project.
    """
    config = as_config(config)
    recall = check_recall(recall, samples)
    mean = as_array(mean_input)
    check_mean_input(mean)
    if head is None and example is None:
        found = head_of_mean(module, mean)
    else:
        found = find_head(module, *([] if example is None else [example]), head=head)
    return sleep_head(
        found,
        mean,
        config,
        generator=as_generator(generator),
        before=before,
        new_classes=None if new_classes is None else as_classes(new_classes, "new_classes"),
        old_classes=() if old_classes is None else as_classes(old_classes, "old_classes"),
        returned_classes=as_classes(returned_classes, "returned_classes"),
        class_counts=class_counts,
        recall=recall,
        inputs=inputs,
        samples=samples,
        index=index,
    )


def sleep_head(
    head: Head,
    mean: NDArray[np.float64],
    config: SleepConfig,
    *,
    generator: np.random.Generator,
    before: HeadState | None = None,
    new_classes: tuple[int, ...] | None = None,
    old_classes: tuple[int, ...] = (),
    returned_classes: tuple[int, ...] = (),
    class_counts: Mapping[int, int] | None = None,
    recall: float | None = None,
    inputs: Tensor | None = None,
    samples: Samples | None = None,
    index: int = 0,
    exemplars: float | None = None,
    iterations: int | None = None,
    protector: str | None = None,
    backbone_trained: bool = False,
) -> SleepReport:
    """Put a head that was found already to sleep; arguments as in `sleep`, and four of a plugin's.

    `exemplars` says how many different ones of an old class were rehearsed, on average; None counts those in `samples`.
    `iterations` says how many the training since the last sleep had; only binary noise asks.
    `protector` names a plugin that protects what earlier inputs evoke, so that the sleep itself is left out;
    `backbone_trained` is only reported.
    """
    started = time.perf_counter()
    facts: Facts = {
        "layers": list(head.names),
        "sizes": list(head.sizes),
        "skipped": {},
        "backbone_trained": backbone_trained,
    }
    n_steps = config.steps_at(index)
    if n_steps == 0:
        return SleepReport("awake", "zero steps", **facts)
    check_finite(head)
    check_mean_input(mean, n_inputs=head.sizes[0])
    if not config.is_pure:
        check_classes(head, new_classes, old_classes, returned_classes)
    trained = head.read()
    if inputs is not None:
        inputs = inputs.detach().to(trained.device)
        if inputs.ndim != 2 or inputs.shape[1] != head.sizes[0]:
            raise ConfigError(
                f"inputs have shape {tuple(inputs.shape)}; the head {head.label} takes (n, {head.sizes[0]})"
            )
    if before is not None and not isinstance(before, HeadState):
        raise ConfigError(f"before is a {type(before).__name__}; it must be a copy of the head, find_head(...).read()")
    if before is not None and [w.ndim for w in before.weights] != [w.ndim for w in trained.weights]:
        raise ConfigError(
            f"before has {len(before.weights)} layers and the head {head.label} has {len(head.layers)}: it must "
            "be a copy of the same head, find_head(...).read()"
        )
    before = None if before is None else before.to(trained.device)
    evening = Evening(
        head, trained, mean, config, inputs,
        before=before, new=new_classes, old=old_classes, returned=returned_classes,
    )  # fmt: skip
    if evening.seen and not config.is_pure:
        evening = replace(evening, prior=prior_of(class_counts if config.prior == "counts" else None, evening.seen))
    if old_classes and new_classes and not config.is_pure:
        evening = _with_noise(evening, iterations, generator, facts)

    if evening.some is None:
        recall = None  # pure, or nothing to balance: then there is nothing to judge, either
    shallow = gates.no_hidden_units(config, n_layers=len(head.layers))
    sleeps = config.depth != 0 or (config.inc is not None and config.dec is not None)  # given steps have no depth
    reason = _why_sleep(config, new=new_classes, old=old_classes)
    judge = None
    if samples is not None and recall is not None and config.rehearsal_gate:
        x, y = check_samples(samples, n_inputs=head.sizes[0], old=old_classes, new=evening.new or ())
        x, y, times = merge_repeated(x, y)
        y, times = y.to(trained.device), times.to(trained.device)
        shown = Probe(head, x.to(trained.weights[0]))
        judge = Judge(shown, y, times, trained, recall, old=old_classes, new=evening.new or (), exemplars=exemplars)
    nights = [evening] if shallow is None else [_levelling(evening, shallow.reason)]
    if judge is not None and config.level and not _is_levelling(nights[0]):
        nights.append(_levelling(evening, "too few samples were right after it"))
    is_balanced = False
    for verdict in (
        gates.no_new_classes(config, new_classes) if old_classes else None,
        gates.protected(config, protector),
        gates.rehearsed(config, recall, judged=judge is not None),
        gates.balanced(config, share=facts.get("share_trained"), expected=facts.get("expected_share")),
        shallow,
    ):
        if verdict is None:
            continue
        reason, sleeps = verdict.reason, False
        if verdict.gate == "balance_gate":  # whole classes may be out of balance all the same, if samples can judge
            is_balanced = True
            nights = [] if judge is None or not config.level else [_levelling(evening, "the outputs are levelled only")]
        if verdict.closed and (verdict.gate != "balance_gate" or not nights):
            return SleepReport("awake", reason, gate=verdict.gate, **facts, seconds=_since(started))

    if evening.some is None and not (nights[0].config.replay and sleeps):
        why = _why_unbalanced(new_classes, old_classes)
        reason = f"without the sleep itself nothing is left to do: {why}" if shallow is None else f"{reason}; {why}"
        gate = None if shallow is None else shallow.gate
        return SleepReport("awake", reason, gate=gate, **facts, seconds=_since(started))

    passed = _go_through(nights, judge, facts, n_steps=n_steps, sleeps=sleeps, generator=generator)
    if passed is None:
        tried = f"neither {' nor '.join(map(_name, nights))}" if len(nights) > 1 else f"not even {_name(nights[0])}"
        reason = f"{reason}; samples say that {tried} helped, so nothing is changed"
        gate = "balance_gate" if is_balanced else "rehearsal_gate"
        return SleepReport("awake", reason, gate=gate, **facts, seconds=_since(started))
    state, done = passed
    facts["skipped"].update(done.pop("skipped"))
    if state is trained:
        why = facts["skipped"].get("replay", NOTHING_EXCITED)
        return SleepReport("awake", f"nothing was done: {why}", **facts, seconds=_since(started))
    facts.update(done)
    facts["weight_norm"] = [float(w.norm()) for w in trained.weights]
    facts["weight_change"] = [
        float((after - w).norm()) for after, w in zip(state.weights, trained.weights, strict=True)
    ]
    head.write(state)
    return SleepReport("slept", reason, **facts, seconds=_since(started))


def _since(started: float) -> float:
    return time.perf_counter() - started


def _go_through(
    nights: Sequence[Evening], judge: Judge | None, facts: Facts, **how: Any
) -> tuple[HeadState, Facts] | None:
    """Go through the first night that is kept; notes in `facts` what samples said of the last one tried.

    Returns:
        The parameters in the morning and what was done, or None if no night is kept.
    """
    for night in nights:
        state, done = pass_night(night, **how)
        if judge is None:
            return state, done
        is_kept, told = judge.hear(state, must_gain=_is_levelling(night))
        verdict = {"night": _name(night), "after": told["samples_after"], "asked": told["must_rise"], "kept": is_kept}
        facts.update(told, verdicts=[*facts.get("verdicts", ()), verdict])
        if is_kept:
            return state, done
    return None


def _name(night: Evening) -> str:
    return "levelling alone" if _is_levelling(night) else "the night"


def _levelling(evening: Evening, why: str) -> Evening:
    """Return the same evening before a night in which outputs are levelled only."""
    return replace(evening, config=replace(evening.config, replay=False, settle=False), why_off=why)


def _is_levelling(evening: Evening) -> bool:
    return not (evening.config.replay or evening.config.settle)


def _with_noise(evening: Evening, iterations: int | None, generator: np.random.Generator, facts: Facts) -> Evening:
    """Draw the noise that outputs are balanced on; notes in `facts` how they answer to it before the night."""
    head, trained, inputs, new = evening.head, evening.trained, evening.inputs, evening.new
    assert new is not None
    dtype = trained.weights[0].dtype
    if evening.config.noise == "binary":
        from src_plugin.night.binary_noise import draw_binary_noise, how_many  # here, because the default does without

        drawn = draw_binary_noise(
            evening.mean,
            generator=generator,
            dtype=dtype,
            inputs=None if inputs is None else inputs.cpu(),
            hidden=lambda x: head.hidden(trained, x.to(trained.device)).cpu(),
            n=how_many(iterations),
        )
        facts["noise_strength"], vectors = drawn.strength, drawn.vectors.to(trained.device)
    else:
        vectors = draw_noise(evening.mean, generator=generator, inputs=inputs).to(trained.weights[0])
    if inputs is None or len(inputs) < 2:
        facts["skipped"]["correlated noise"] = "no inputs of the current experience were given"
    some, rest = (Probe(head, half) for half in vectors.tensor_split(2))
    facts["expected_share"] = evening.expected
    facts["share_trained"] = gates.noise_share(some, trained, seen=evening.seen, new=new)
    return replace(evening, some=some, rest=rest)


def _why_unbalanced(new: tuple[int, ...] | None, old: tuple[int, ...]) -> str:
    """Say why there are no classes that outputs could be balanced between."""
    if new is None:
        return "it is not known which classes are new (new_classes)"
    return "there are no earlier classes (old_classes)" if not old else "there are no new classes (new_classes)"


def _why_sleep(config: SleepConfig, *, new: tuple[int, ...] | None, old: tuple[int, ...]) -> str:
    if config.is_pure:
        return "pure SRC sleeps whenever it is told to"
    if new is None:
        return "it is not known which classes are new, so no gate could tell"
    return "the classes of this experience crowd out others" if old else "first sleep: all classes are new"
