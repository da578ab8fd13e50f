"""The sleep, simulated: depth -> calibrate -> stimulus -> simulate -> first gate, on copies of the parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_plugin.config.engines import Measuring, Simulation
from src_plugin.errors import warn_user
from src_plugin.head.probe import Line, Probe
from src_plugin.head.state import Head, HeadState
from src_plugin.kernel import simulate
from src_plugin.night.calibrate import Rule, calibrate, depth_of
from src_plugin.night.stimulus import spike_probability, stimulus_chunks
from src_plugin.report import SimulationReport
from src_plugin.waking.summary import TrainingSummary


@dataclass(frozen=True)
class Replayed:
    """What a simulated sleep made of a head.

    Attributes:
        state: The slept parameters.
        report: What it did.
        skipped: What was left out, and why.
    """

    state: HeadState
    report: SimulationReport
    skipped: dict[str, str] = field(default_factory=dict)


def replay(
    head: Head,
    trained: HeadState,
    training: TrainingSummary,
    config: Simulation,
    generator: np.random.Generator,
) -> Replayed:
    """Sleep: show a copy of the head noise with the mean of its inputs, step by step, and let its weights follow.

    Args:
        head: The head.
        trained: Its parameters; they stay as they are.
        training: Mean input; inputs for data-based gains, for the depth, and for the first gate, which looks at what
            was just learnt where nothing was learnt before.
        config: How to sleep.
        generator: The only source of randomness.

    Source:
        Tadros et al. 2022, Nat. Commun. 13:7742, Methods.
    """
    device, trained = trained.device, trained.to("cpu")  # where the kernel runs
    mean, inputs, n_steps = training.mean, training.inputs, config.steps_at(training.index)
    inputs = None if inputs is None or len(inputs) == 0 else inputs.cpu()
    depth, varies, skipped = depth_of(config, mean, inputs)
    probability = spike_probability(mean, config)
    # Column-major, so that what an input spike adds is one contiguous row; transposed once for all that follows.
    fell_asleep = trained.with_weights([w.T.contiguous().T for w in trained.weights])
    rule = calibrate(
        head, fell_asleep, probability, config,
        n_steps=n_steps, strength=depth, generator=generator, inputs=inputs,
    )  # fmt: skip
    chunks = stimulus_chunks(probability, n_steps=n_steps, generator=generator, patch=config.patch)
    weights, spikes, ups, downs = _simulate_all(fell_asleep, chunks, rule, config)
    if not any(int(c.sum()) for c in spikes[1:]):
        warn_user(
            "no unit of the head fired in this sleep, so the sleep itself changed nothing: thresholds are too high for "
            "this network and input, noise from the mean input inhibits every unit, or that mean is nearly silent"
        )
    # The kernel's weights are transposed views, which are slow to be mixed with others.
    slept, kept = trained.with_weights([torch.from_numpy(w).contiguous() for w in weights]), None
    if config.first_gate and not training.classes.old:
        if inputs is None:
            skipped["first_gate"] = "no inputs of the current experience were given"
        else:
            slept, kept = keep_first(head, trained, slept, inputs, config.measuring)
    report = SimulationReport(
        engine="simulated",
        strength=depth,
        input_variation=varies,
        steps=n_steps,
        spikes=[int(c.sum()) for c in spikes],
        rates=[float(c.mean() / n_steps) for c in spikes],
        scales=list(rule.scales),
        thresholds=list(rule.thresholds),
        inc=list(rule.inc),
        dec=list(rule.dec),
        potentiations=ups.tolist(),
        depressions=downs.tolist(),
        kept_fraction=kept,
    )
    return Replayed(slept.to(device), report, skipped)


def _simulate_all(
    state: HeadState, chunks: Iterable[NDArray[np.bool_]], rule: Rule, config: Simulation
) -> tuple[list[Any], list[NDArray[np.int64]], NDArray[np.int64], NDArray[np.int64]]:
    """Return weights after all chunks of input spikes, spikes per unit of each layer, and counts of updates."""
    weights: list[Any] = [w.numpy() for w in state.weights]
    potentials: list[Any] | None = None
    n_units = [weights[0].shape[1], *(len(w) for w in weights)]
    counts, ups, downs = [np.zeros(n, dtype=np.int64) for n in n_units], *np.zeros((2, len(weights)), dtype=np.int64)
    for spikes in chunks:
        trace = simulate(
            weights,
            spikes,
            scales=rule.scales,
            thresholds=rule.thresholds,
            inc=rule.inc,
            dec=rule.dec,
            decay=config.decay,
            gate_width=config.gate_width,
            inhibition=config.inhibition,
            state=potentials,
        )
        weights, potentials = trace.weights, trace.potentials
        counts = [a + b for a, b in zip(counts, trace.spike_counts, strict=True)]
        ups, downs = ups + trace.potentiations, downs + trace.depressions
    return weights, counts, ups, downs


def keep_first(
    head: Head, trained: HeadState, slept: HeadState, inputs: Tensor, measuring: Measuring
) -> tuple[HeadState, float]:
    """Take back part of the first sleep if it would change what was just learnt.

    Args:
        head: The head.
        trained: Before the sleep.
        slept: After it.
        inputs: Current inputs of the head, shape (n, n_0).
        measuring: `first_kept` and `first_shares`.

    Returns:
        The point on the line from `trained` to `slept` with the largest tried fraction that leaves enough
        predictions as they were, and that fraction.
    """
    shown = Probe(head, inputs.to(trained.weights[0]))
    wanted = shown.logits(trained).argmax(1)
    line = Line(shown, trained, slept)
    for fraction in measuring.first_shares:
        if _answers_alike(line, fraction, wanted, measuring.first_kept):
            return line.point(fraction), fraction
    return trained, 0.0


def _answers_alike(line: Line, position: float, wanted: Tensor, kept: float) -> bool:
    """Whether a state leaves enough predictions as they are wanted; looks no further than it takes to say no."""
    n, wrong = len(wanted), 0
    for start in range(0, n, 128):
        rows = slice(start, start + 128)
        wrong += int((line.logits(position, rows=rows).argmax(1) != wanted[rows]).sum())
        if (n - wrong) / n < kept:
            return False
    return True
