"""After a sleep: settle back towards the weights before the experience, and level the outputs. No data, no labels.

Both ask binary noise, drawn from the mean input, which class wins. Settling looks on the straight line between the
slept weights and those before the experience for the point where new classes win their share; levelling then offsets
the output weights until all seen classes win equally often.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_plugin.gates import noise_share
from src_plugin.head import Head, HeadState

N_SETTLE = 1024
N_LEVEL = 4096
ROUNDS = 200
SHRINK = 0.85
BISECTIONS = 8


@dataclass(frozen=True)
class Settled:
    """Where settling ended.

    Attributes:
        state: The settled parameters.
        share: Fraction of noise that new classes win there.
        position: On the line it was found on: 1 is the slept head, 0 its other end.
        other_end: "before" (the weights before the experience) or "trained" (sleep had gone too far).
    """

    state: HeadState
    share: float
    position: float
    other_end: str


def draw_noise(
    mean_input: NDArray[np.float64], *, n: int, strength: float, generator: np.random.Generator, dtype: torch.dtype
) -> Tensor:
    """Draw binary inputs of the head.

    Args:
        mean_input: Shape (n_0,).
        n: Number of vectors.
        strength: Input i is 1 with probability min(1, strength * mean_i).
        generator: The only source of randomness.
        dtype: Of the result.

    Returns:
        Zeros and ones, shape (n, n_0).
    """
    p = np.minimum(1.0, strength * mean_input).astype(np.float32)
    return torch.from_numpy(generator.random((n, len(p)), dtype=np.float32) < p).to(dtype)


def align(before: HeadState, now: HeadState) -> tuple[HeadState, int]:
    """Fit the weights before the experience to a head that has changed its shape since.

    Returns:
        `now`, with every entry that has a counterpart replaced by it, and the number of entries without one.
    """

    def patch(old: Tensor | None, new: Tensor | None) -> Tensor | None:
        if old is None or new is None or old.shape == new.shape:
            return new if old is None or new is None else old
        merged = new.clone()
        block = tuple(slice(min(a, b)) for a, b in zip(old.shape, new.shape, strict=True))
        merged[block] = old[block]
        return merged

    weights = [patch(o, n) for o, n in zip(before.weights, now.weights, strict=True)]
    biases = [patch(o, n) for o, n in zip(before.biases, now.biases, strict=True)]
    lost = sum(max(0, n.numel() - o.numel()) for o, n in zip(before.weights, now.weights, strict=True))
    return HeadState(tuple(w for w in weights if w is not None), tuple(biases)), lost


def settle(
    head: Head,
    *,
    before: HeadState,
    trained: HeadState,
    slept: HeadState,
    noise: Tensor,
    seen: tuple[int, ...],
    new: tuple[int, ...],
) -> Settled:
    """Find the point where noise gives the new classes their share.

    Args:
        head: The head.
        before: Parameters before the experience.
        trained: After training, before sleep.
        slept: After sleep.
        noise: Binary inputs, shape (n, n_0).
        seen: Outputs of all classes seen so far.
        new: Those new in this experience.

    Returns:
        The settled head. If sleep went too far (new classes win less than their share), the point lies between the
        slept and the trained head; otherwise between the slept head and the one before the experience, where the
        scan comes from the slept end, because near the other one shares can cross by chance.
    """
    expected = len(new) / len(seen)

    def share(state: HeadState) -> float:
        return noise_share(head, state, noise, seen=seen, new=new)

    at_slept = share(slept)
    if at_slept < expected:
        position, found = _bisect(lambda a: share(trained.towards(slept, a)), low=1.0, high=0.0, expected=expected)
        return Settled(trained.towards(slept, position), found, position, "trained")
    high = low = 1.0
    scanned = [(at_slept, 1.0)]
    while scanned[-1][0] > expected and low > 0.02:
        high, low = low, low * SHRINK
        scanned.append((share(before.towards(slept, low)), low))
    if scanned[-1][0] > expected:  # no balance on this line: the most balanced point seen
        found, position = min(scanned)
    elif low == high:
        position, found = 1.0, at_slept
    else:
        position, found = _bisect(lambda a: share(before.towards(slept, a)), low=low, high=high, expected=expected)
    return Settled(before.towards(slept, position), found, position, "before")


def _bisect(share: Callable[[float], float], *, low: float, high: float, expected: float) -> tuple[float, float]:
    """Return the best position between `low` (share not above expected) and `high` (above it), and its share."""
    tried = []
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        found = share(middle)
        tried.append((abs(found - expected), middle, found))
        low, high = (low, middle) if found > expected else (middle, high)
    _, position, found = min(tried)
    return position, found


def level(head: Head, state: HeadState, *, noise: Tensor, seen: tuple[int, ...]) -> tuple[HeadState, Tensor]:
    """Offset the outputs of the seen classes until all of them win equally often under noise.

    Args:
        head: The head.
        state: Its parameters.
        noise: Binary inputs, shape (n, n_0).
        seen: Outputs of the classes seen so far; other outputs are not touched.

    Returns:
        The levelled parameters, and the offset of each seen class, shape (len(seen),), of mean 0.
    """
    hidden = head.hidden(state, noise)
    weight, bias = state.weights[-1], state.biases[-1]
    outputs = torch.nn.functional.linear(hidden, weight, bias)[:, list(seen)]
    spread = float(outputs.std())
    mean_hidden = hidden.mean(0)
    energy = float(mean_hidden @ mean_hidden)
    offsets = torch.zeros(len(seen), dtype=outputs.dtype)
    if spread == 0.0 or energy == 0.0:
        return state, offsets
    for t in range(ROUNDS):
        share = torch.softmax((outputs + offsets) * (10.0 / spread), dim=1).mean(0)
        excess = (len(seen) * share - 1.0).clamp(-1.0, 1.0)
        offsets -= 0.5 * spread * 0.97**t * excess
    offsets -= offsets.mean()
    levelled = weight.clone()
    levelled[list(seen)] += offsets[:, None] * mean_hidden / energy
    return HeadState((*state.weights[:-1], levelled), state.biases), offsets
