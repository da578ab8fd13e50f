"""A rehearsing network has samples of old classes in its batches; whether a sleep helps it, they can tell.

No sample is kept for that beyond the experience. Three mornings are compared by the mean accuracy over classes: the
trained network, the night as it was, and a night that only settled and levelled. The trained one wins a tie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from src_plugin.errors import ConfigError
from src_plugin.head import Head, HeadState
from src_plugin.night import Evening, Facts, pass_night

Samples = tuple[Tensor, Tensor]
"""Inputs of the head, shape (n, n_0), and their classes, shape (n,)."""


@dataclass(frozen=True)
class Judged:
    """The best morning.

    Attributes:
        state: Its parameters; None if it is the trained network as it was.
        facts: What the report says of its night.
        trained: Mean accuracy over classes of the trained network.
        after: The same of the best night, whether it was good enough or not.
    """

    state: HeadState | None
    facts: Facts
    trained: float
    after: float


def judge(
    evening: Evening, slept: HeadState, facts: Facts, *, samples: Samples, generator: np.random.Generator
) -> Judged:
    """Choose among three mornings.

    Args:
        evening: What the night began with.
        slept: How it ended.
        facts: What the report says of it.
        samples: Of old and of new classes, see `check_samples`.
        generator: Of the night; one without replay draws nothing.
    """
    at_trained = by_class(evening.head, evening.trained, samples, among=evening.seen)
    mornings = [(slept, facts)]
    if evening.config.replay and evening.config.settle:
        calm = replace(evening, config=replace(evening.config, replay=False))
        state, of_calm = pass_night(calm, n_steps=0, strength=0.0, generator=generator)
        of_calm["skipped"]["replay"] = "settling and levelling alone kept more of the rehearsed samples"
        mornings.append((state, of_calm))
    scores = [by_class(evening.head, state, samples, among=evening.seen) for state, _ in mornings]
    best = max(range(len(scores)), key=lambda i: (scores[i], -i))
    if scores[best] <= at_trained:
        return Judged(None, {}, at_trained, scores[best])
    return Judged(*mornings[best], at_trained, scores[best])


def by_class(head: Head, state: HeadState, samples: Samples, *, among: tuple[int, ...]) -> float:
    """Return the mean over classes of the share of samples that are classified rightly.

    Args:
        head: The head.
        state: Its parameters.
        samples: Inputs and classes.
        among: Outputs among which is chosen, ascending.
    """
    inputs, classes = samples
    columns = torch.tensor(among)
    answers = columns[head.logits(state, inputs.to(state.weights[0].dtype))[:, columns].argmax(1)]
    right = (answers == classes).double()
    return float(torch.stack([right[classes == c].mean() for c in classes.unique()]).mean())


def check_samples(samples: Samples, *, n_inputs: int, n_outputs: int) -> Samples:
    """Return samples on the CPU.

    Raises:
        ConfigError: They are not inputs of the head with a class each, or the head has no output for one.
    """
    inputs, classes = (part.detach().to("cpu") for part in samples)
    if inputs.ndim != 2 or inputs.shape[1] != n_inputs or classes.shape != inputs.shape[:1] or not len(classes):
        raise ConfigError(
            f"samples have shapes {tuple(inputs.shape)} and {tuple(classes.shape)}; they must be inputs of the head, "
            f"(n, {n_inputs}), and their classes, (n,), at least one"
        )
    wrong = [c for c in classes.unique().tolist() if not 0 <= c < n_outputs]
    if wrong:
        raise ConfigError(
            f"samples are of class {wrong[0]}, but the head has {n_outputs} outputs: give class numbers from 0"
        )
    return inputs, classes
