"""TrainingSummary: what a night is told of the training before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from src_plugin.head.state import HeadState
from src_plugin.waking.classes import Classes
from src_plugin.waking.samples import Samples


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """What training showed since the last sleep.

    Attributes:
        mean: Mean of the head's inputs over all that was ever seen, shape (n_0,).
        lowest: The least value that each input ever had, or 0 if that is less, shape (n_0,); None if none is known.
        inputs: Inputs of the head from the current experience, shape (n, n_0), in random order; or None.
        before: The head's parameters before the experience, or None.
        classes: Which classes are new and old, their images, and how well old ones are recalled.
        samples: Inputs of the head from old (rehearsed) and new classes, with their classes; or None.
        exemplars: How many different ones of an old class were rehearsed, on average; None counts those in `samples`.
        class_means: Mean input of the head for each class, shape (n_0,), where those are kept; or None.
        fresh: The last inputs of new classes, shape (m, n_0), and their classes; or None.
        iterations: How many training had; None where that is not known. Only binary noise asks.
        index: How many sleeps came before.
        protector: Name of a plugin that protects what earlier inputs evoke, so that the sleep itself is left out.
        backbone_trained: Whether parameters or buffers below the head moved; only reported.
    """

    mean: NDArray[np.float64]
    lowest: ArrayLike | Tensor | None = None
    inputs: Tensor | None = None
    before: HeadState | None = None
    classes: Classes = field(default_factory=Classes)
    samples: Samples | None = None
    exemplars: float | None = None
    class_means: Mapping[int, Tensor] | None = None
    fresh: Samples | None = None
    iterations: int | None = None
    index: int = 0
    protector: str | None = None
    backbone_trained: bool = False
