"""A rehearsing network has samples of old classes in its batches; whether a sleep helps it, they can tell.

No sample is kept for that beyond the experience. A night is kept if the mean accuracy over classes is higher after it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from src_plugin.errors import ConfigError
from src_plugin.head import Head, HeadState

Samples = tuple[Tensor, Tensor]
"""Inputs of the head, shape (n, n_0), and their classes, shape (n,)."""


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
