"""Stage A, the sleep itself: calibrate -> stimulus -> simulate, on copies of the head's parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_plugin.calibration import Rule, calibrate
from src_plugin.config import SleepConfig
from src_plugin.errors import warn_user
from src_plugin.head import Head, HeadState
from src_plugin.kernel import simulate
from src_plugin.stimulus import spike_probability, stimulus_chunks


def replay(
    head: Head,
    trained: HeadState,
    mean: NDArray[np.float64],
    config: SleepConfig,
    *,
    n_steps: int,
    strength: float,
    generator: np.random.Generator,
    inputs: Tensor | None,
) -> tuple[HeadState, dict[str, Any]]:
    """Sleep: show a copy of the head noise with the mean of its inputs, step by step, and let its weights follow.

    Args:
        head: The head.
        trained: Its parameters; they stay as they are.
        mean: Mean of the head's inputs, shape (n_0,), 0 or more.
        config: How to sleep.
        n_steps: Length, in steps.
        strength: Factor on measured step sizes.
        generator: The only source of randomness.
        inputs: Inputs of the head, shape (n, n_0), for data-based gains.

    Returns:
        The slept state, and what the report says of it, by the names of its fields.

    Source:
        Tadros et al. 2022, Nat. Commun. 13:7742, Methods.
    """
    device, trained = trained.device, trained.to("cpu")  # where the kernel runs
    inputs = None if inputs is None else inputs.cpu()
    probability = spike_probability(mean, config)
    # Column-major, so that what an input spike adds is one contiguous row; transposed once for all that follows.
    fell_asleep = trained.with_weights([w.T.contiguous().T for w in trained.weights])
    rule: Rule = calibrate(
        head, fell_asleep, probability, config, n_steps=n_steps, strength=strength, generator=generator, inputs=inputs
    )
    weights: list[Any] = [w.numpy() for w in fell_asleep.weights]
    potentials: list[Any] | None = None
    counts = [np.zeros(n, dtype=np.int64) for n in head.sizes]
    ups = np.zeros(len(weights), dtype=np.int64)
    downs = np.zeros(len(weights), dtype=np.int64)
    for spikes in stimulus_chunks(probability, n_steps=n_steps, generator=generator, patch=config.patch):
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
        ups += trace.potentiations
        downs += trace.depressions
    if not any(int(c.sum()) for c in counts[1:]):
        warn_user(
            "no unit of the head fired in this sleep, so the sleep itself changed nothing: thresholds are too high for "
            "this network and input, noise from the mean input inhibits every unit, or that mean is nearly silent"
        )
    spent = {
        "spikes": [int(c.sum()) for c in counts],
        "rates": [float(c.mean() / n_steps) for c in counts],
        "scales": list(rule.scales),
        "thresholds": list(rule.thresholds),
        "inc": list(rule.inc),
        "dec": list(rule.dec),
        "potentiations": [int(n) for n in ups],
        "depressions": [int(n) for n in downs],
    }
    # The kernel's weights are transposed views, which are slow to be mixed with others.
    return trained.with_weights([torch.from_numpy(w).contiguous() for w in weights]).to(device), spent
