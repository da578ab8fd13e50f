"""After a sleep: settle back towards the weights before the experience, and level the outputs. No data, no labels.

Both ask noise, drawn around the mean input, which class wins. Settling looks on the straight line between the
slept weights and those before the experience for the point where new classes win their share; levelling then evens the
outputs until each seen class wins its share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from src_plugin.config.constants import DEFAULT, Constants
from src_plugin.head.probe import Line, Probe
from src_plugin.head.state import HeadState
from src_plugin.night.noise import share_of
from src_plugin.waking.classes import Classes


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
    noise: Probe,
    *,
    before: HeadState,
    trained: HeadState,
    slept: HeadState,
    classes: Classes,
    expected: float | None = None,
    at_slept: float | None = None,
    constants: Constants = DEFAULT,
) -> Settled:
    """Find the point where noise gives the new classes their share.

    Args:
        noise: The head, and noise to show it.
        before: Parameters before the experience.
        trained: After training, before sleep.
        slept: After sleep.
        classes: Which are new, and which old.
        expected: Share of the new ones; None counts classes.
        at_slept: Share at the slept head, where it is known already.
        constants: `settle_step` and `settle_refinements`.

    Returns:
        The settled head. If sleep went too far (new classes win less than their share), the point lies between the
        slept and the trained head; otherwise between the slept head and the one before the experience, where the
        scan comes from the slept end, because near the other one shares can cross by chance.
    """
    seen, new = classes.seen, classes.new or ()
    expected = len(new) / len(seen) if expected is None else expected
    back = Line(noise, before, slept)

    def share(line: Line, position: float) -> float:
        return share_of(line.logits(position), seen=seen, new=new)

    def refine(line: Line, low: tuple[float, float], high: tuple[float, float]) -> tuple[float, float]:
        tries, n = constants.settle_refinements, len(noise.inputs)
        return _refine(lambda position: share(line, position), low, high, expected, n=n, tries=tries)

    if at_slept is None:
        at_slept = share(back, 1.0)
    if at_slept < expected:
        line = Line(noise, trained, slept)
        position, found = refine(line, (1.0, at_slept), (0.0, share(line, 0.0)))
        return Settled(line.point(position), found, position, "trained")
    scanned = [(1.0, at_slept)]
    while scanned[-1][1] > expected and scanned[-1][0] > 0.02:
        position = scanned[-1][0] * constants.settle_step
        scanned.append((position, share(back, position)))
    if scanned[-1][1] > expected:  # no balance on this line: the most balanced point seen
        position, found = min(scanned, key=lambda point: point[1])
    elif len(scanned) == 1:
        position, found = scanned[0]
    else:
        position, found = refine(back, scanned[-1], scanned[-2])
    return Settled(back.point(position), found, position, "before")


def _refine(
    share: Callable[[float], float],
    low: tuple[float, float],
    high: tuple[float, float],
    expected: float,
    *,
    n: int,
    tries: int,
) -> tuple[float, float]:
    """Close in on balance between two points (position, share), the first not above it, the second above.

    Stops before its last try at a point that no other share of `n` vectors could be nearer to balance than.

    Returns:
        The most balanced point tried, its position and its share. Tries lie where the straight line between both shares
        crosses, but no nearer than a tenth of the gap to either end, so that the gap always closes.
    """
    tried = [low]
    for _ in range(tries):
        if abs(tried[-1][1] - expected) < 0.5 / n:
            break
        gap = high[1] - low[1]
        part = min(0.9, max(0.1, (expected - low[1]) / gap)) if gap > 0 else 0.5
        position = low[0] + part * (high[0] - low[0])
        point = (position, share(position))
        tried.append(point)
        low, high = (low, point) if point[1] > expected else (point, high)
    return min(tried, key=lambda point: abs(point[1] - expected))


@dataclass(frozen=True)
class Levelled:
    """What levelling made of the outputs.

    Attributes:
        state: The levelled parameters.
        gains: Factor on the outputs of each seen class, shape (len(seen),).
        offsets: Offset of each seen class after that, shape (len(seen),), of mean 0.
        shares: Fraction of the noise that each seen class wins afterwards, shape (len(seen),).
    """

    state: HeadState
    gains: Tensor
    offsets: Tensor
    shares: Tensor


def level(
    noise: Sequence[Probe],
    state: HeadState,
    *,
    seen: tuple[int, ...],
    prior: Sequence[float] | None = None,
    constants: Constants = DEFAULT,
) -> Levelled:
    """Bring the outputs of the seen classes nearer to equal spread, and offset them until each wins its share.

    Args:
        noise: The head, and noise to show it, in one part or in several.
        state: Its parameters.
        seen: Outputs of the classes seen so far; other outputs are not touched.
        prior: The share that each of them is to win, in that order, of sum 1; None gives all the same.
        constants: `level_gain` and `level_rounds`.

    Returns:
        The levelled parameters, gains, offsets and shares. Outputs that noise cannot tell apart are left alone.
    """
    rows = list(seen)
    hidden = torch.cat([part.hidden(state) for part in noise])
    weight, bias = state.weights[-1], state.biases[-1]
    outputs = F.linear(hidden, weight, bias)[:, rows]
    mean_hidden = hidden.mean(0)
    energy = float(mean_hidden @ mean_hidden)
    gains, offsets = outputs.new_ones(len(rows)), outputs.new_zeros(len(rows))
    if float(outputs.std()) == 0.0 or energy == 0.0:
        return Levelled(state, gains, offsets, _shares(outputs))
    spread = outputs.std(dim=0)
    gains = torch.where(spread > 0, (spread.mean() / spread) ** constants.level_gain, gains)
    outputs = gains * outputs
    width = float(outputs.std())
    wanted = torch.tensor(prior or [1 / len(rows)] * len(rows), dtype=torch.float64, device=outputs.device)
    even = _even_out(outputs.double() * (10.0 / width), wanted, rounds=constants.level_rounds)
    offsets = even.to(outputs.dtype) * (width / 10.0)
    levelled = weight.clone()
    levelled[rows] = gains[:, None] * weight[rows] + offsets[:, None] * mean_hidden / energy
    if bias is not None:
        bias = bias.clone()
        bias[rows] *= gains
    outputs += (hidden @ mean_hidden / energy)[:, None] * offsets  # what the offsets came to, written into weights
    state = HeadState((*state.weights[:-1], levelled), (*state.biases[:-1], bias))
    return Levelled(state, gains, offsets, _shares(outputs))


def _even_out(outputs: Tensor, prior: Tensor, *, rounds: int) -> Tensor:
    """Return offsets, of mean 0, under which columns of outputs, shape (n, k), get their prior shares of a softmax.

    In float64: with e = exp(outputs) the softmax under offsets o is e * exp(o) / sum(e * exp(o)), so that a round costs
    two products with a matrix instead of n * k exponentials.
    """
    n, k = outputs.shape
    heights = (outputs - outputs.amax(1, keepdim=True)).exp()
    offsets = outputs.new_zeros(k)
    for t in range(rounds):
        lift = offsets.exp()
        share = lift * (heights.T @ (1.0 / (heights @ lift))) / n
        offsets -= 5.0 * 0.9**t * (share / prior - 1.0).clamp(-1.0, 1.0)
    return offsets - offsets.mean()


def _shares(outputs: Tensor) -> Tensor:
    """Return the fraction of rows, shape (n, k), in which each column is the largest."""
    return torch.bincount(outputs.argmax(1), minlength=outputs.shape[1]).double() / len(outputs)
