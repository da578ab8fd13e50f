"""What `sleep` is given: brought into form, or refused before anything is changed."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from src_plugin.errors import ConfigError, HeadNotFoundError
from src_plugin.head.find import find_head
from src_plugin.head.state import Head, HeadState
from src_plugin.head.trace import UNITS
from src_plugin.waking.classes import Classes
from src_plugin.waking.mean import check_mean_input


def check_recall(recall: Any, samples: object) -> float | None:
    """Return the recall as a number in [0, 1], or None without rehearsal.

    Raises:
        ConfigError: It cannot be one, or there are samples and no recall.
    """
    try:  # a number of any library, e.g. (answers == y).float().mean()
        value = None if recall is None else math.nan if isinstance(recall, str) else float(recall)
    except (TypeError, ValueError, RuntimeError):
        value = math.nan
    if value is not None and not 0 <= value <= 1:
        raise ConfigError(f"recall={recall!r}: recall must be a fraction in [0, 1], or None without rehearsal")
    if samples is not None and recall is None:
        raise ConfigError(
            "samples judge the sleep of a rehearsing network, and recall says how well it rehearses: give recall, too, "
            "the share of them that training classified rightly"
        )
    return value


def as_classes(given: Any, name: str) -> tuple[int, ...]:
    """Return class numbers, each once and ascending.

    Raises:
        ConfigError: They are no list of whole numbers.
    """
    try:
        return tuple(sorted({operator.index(number) for number in given}))
    except TypeError:
        raise ConfigError(f"{name}={given!r}: give a list of class numbers, e.g. {name}=[0, 1]") from None


def check_classes(head: Head, classes: Classes) -> None:
    """Refuse classes that cannot be new or old.

    Raises:
        ConfigError: A class is new and old, or has no output.
    """
    new = classes.new or ()
    both = sorted(set(new) & set(classes.old))
    if both:
        raise ConfigError(f"classes {both} are given as new and as old: a class is new only until the sleep after it")
    missing = [c for c in (*new, *classes.old) if not 0 <= c < head.sizes[-1]]
    if missing:
        raise ConfigError(
            f"classes {missing} have no output: the head {head.label} has {head.sizes[-1]} outputs. Give class numbers "
            "from 0, or choose pure SRC, which needs none: SleepConfig.preset('src_only')"
        )


def check_inputs(head: Head, inputs: Tensor | None) -> Tensor | None:
    """Return inputs of the head without their history.

    Raises:
        ConfigError: They are not of its shape.
    """
    if inputs is not None and (inputs.ndim != 2 or inputs.shape[1] != head.sizes[0]):
        raise ConfigError(f"inputs have shape {tuple(inputs.shape)}; the head {head.label} takes (n, {head.sizes[0]})")
    return None if inputs is None else inputs.detach()


def check_before(head: Head, before: object, now: HeadState) -> HeadState | None:
    """Return the weights before the experience.

    Raises:
        ConfigError: They are no copy of this head.
    """
    if before is not None and not isinstance(before, HeadState):
        raise ConfigError(f"before is a {type(before).__name__}; it must be a copy of the head, find_head(...).read()")
    if before is not None and [w.ndim for w in before.weights] != [w.ndim for w in now.weights]:
        raise ConfigError(
            f"before has {len(before.weights)} layers and the head {head.label} has {len(head.layers)}: it must "
            "be a copy of the same head, find_head(...).read()"
        )
    return before


def prior_of(class_counts: Any, seen: tuple[int, ...]) -> tuple[float, ...]:
    """Return the share of each seen class among all images; without counts all have the same.

    Args:
        class_counts: Class -> number of its images, of all seen classes, or None.
        seen: The classes.

    Raises:
        ConfigError: It is no such mapping.
    """
    if class_counts is None:
        return (1 / len(seen),) * len(seen)
    try:
        counts = [float(class_counts[c]) for c in seen]
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        counts = []
    if not counts or not all(math.isfinite(n) and n > 0 for n in counts):
        raise ConfigError(
            f"class_counts={class_counts!r}: give the number of images, above 0, of every class seen, {list(seen)}"
        )
    return tuple(n / sum(counts) for n in counts)


def as_array(mean_input: ArrayLike | Tensor) -> NDArray[np.float64]:
    """Return a copy of the mean input in float64, on the CPU, whatever it was."""
    if isinstance(mean_input, Tensor):
        return mean_input.detach().cpu().double().numpy().copy()
    return np.array(mean_input, dtype=np.float64)


def head_of_mean(module: nn.Module, mean: NDArray[np.float64]) -> Head:
    """Find the head of a module that takes the mean itself as an input."""
    leaves = [part for part in module.modules() if not any(True for _ in part.children())]
    linears = [part for part in leaves if isinstance(part, nn.Linear)]
    if linears and all(isinstance(part, UNITS) for part in leaves):  # the module is a head from end to end
        check_mean_input(mean, n_inputs=linears[0].in_features)
    parameter = next(module.parameters(), torch.zeros(0))
    example = torch.from_numpy(mean)[None].to(parameter.device, parameter.dtype)
    try:
        return find_head(module, example)
    except HeadNotFoundError:
        raise
    except Exception as error:
        raise HeadNotFoundError(
            f"{type(module).__name__} does not take its mean input, shape {tuple(example.shape)}, as an input "
            f"({error}); give a batch that it takes, sleep(..., example=x), or name the head: head='classifier'"
        ) from error
