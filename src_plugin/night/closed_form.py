"""The sleep in closed form: from each excited unit's weights, a fraction of its answer to the mean input is taken.

    W_l  <-  W_l  -  f_l * relu(W_l x_l) * 1' / sum(x_l),      x_1 = mean input,  x_{l+1} = relu(g_l(W_l x_l))

where g_l is what stands behind the layer in the network (a ReLU, a GELU, a LayerNorm before either). Where an input of
a layer is negative on average, the same change of all weights could raise an answer. There it runs along the mean:

    W_l  <-  W_l  -  f_l * relu(W_l x_l) * x_l' / |x_l|^2

This is the form that a simulated, ungated sleep has on average: nearly all inputs are silent in a step, so a unit that
fires depresses all of its weights by the same amount, and it fires in proportion to its answer to the mean input. So
that answer decays, and never changes its sign. How much a simulated sleep of given steps takes is

    f_l  =  1 - exp(-k_l * f_{l-1} / k_{l-1}),      k_l = removal_l * std(W_l) * sum(x_l) / mean(relu(W_l x_l))

with f / k = 1 below the first layer: later layers are driven less and less, since the ones below them fall silent.
Where a mean input is negative, |x| * sqrt(n) takes the place of sum(x). `docs/closed_form.md` derives both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from src_plugin.head.state import HeadState

Passes = Callable[[Sequence[Tensor]], Tensor]
"""Gives the next layer's input, of the answers of all layers so far, shape (1, n_l) each."""


@dataclass(frozen=True)
class Inhibited:
    """What a sleep in closed form made of a head.

    Attributes:
        state: The slept parameters.
        answers: Mean over units of each excited unit's answer to the mean input before, (L).
    """

    state: HeadState
    answers: list[float]


def inhibit(state: HeadState, mean: Tensor, fractions: Sequence[float], passes: Passes | None = None) -> Inhibited:
    """Lower what each excited unit answers to the mean input, by the same amount on all of its weights.

    Biases stay as they are and drive nothing, as in a simulated sleep. A layer that nothing excites stays as it is.

    Args:
        state: Parameters of a head; they stay as they are.
        mean: Mean of its inputs, shape (n_0,), of any sign; on the device of the parameters.
        fractions: The part of its answer that each unit loses, one number per layer, in [0, 1].
        passes: None is a ReLU behind every layer.

    Source:
        `docs/closed_form.md`; the rule is that of Tadros et al. 2022, Nat. Commun. 13:7742, Algorithm 1.

    Example:
        >>> state = HeadState((torch.tensor([[1.0, 0.0], [0.0, -1.0]]),), (None,))
        >>> inhibit(state, torch.tensor([0.5, 0.5]), [0.8]).state.weights[0]  # the second unit is not excited
        tensor([[ 0.6000, -0.4000],
                [ 0.0000, -1.0000]])
    """
    weights, answers = [], []
    for weight, fraction, (inputs, answer) in zip(state.weights, fractions, _along(state, mean, passes), strict=True):
        v = inputs / inputs.square().sum() if bool((inputs < 0).any()) else torch.ones_like(inputs) / inputs.sum()
        excited = fraction > 0 and bool(answer.any())
        weights.append(weight - fraction * answer[:, None] * v if excited else weight)
        answers.append(float(answer.mean()))
    return Inhibited(state.with_weights(weights), answers)


def fractions_of_steps(
    state: HeadState, mean: Tensor, removal: Sequence[float], passes: Passes | None = None
) -> list[float]:
    """Return the part of its answer that each layer would lose in a simulated sleep of given steps.

    Args:
        state: Parameters of a head.
        mean: Mean of its inputs, shape (n_0,).
        removal: One number per layer, 0 or more: so many standard deviations of the layer's weights would a unit
            move that answers as the layer does on average, if no answer fell meanwhile.
        passes: None is a ReLU behind every layer.

    Example:
        >>> state = HeadState((torch.tensor([[1.0, 0.0], [0.0, -1.0]]),), (None,))
        >>> fractions_of_steps(state, torch.tensor([0.5, 0.5]), [0.5])  # 1 - exp(-0.5 * 0.7071 * 1.0 / 0.25)
        [0.756...]
    """
    fractions = []
    driven = 1.0  # how much of the night a layer is driven, as a part of it
    for weight, amount, (inputs, answer) in zip(state.weights, removal, _along(state, mean, passes), strict=True):
        average = answer.mean()
        is_signed = bool((inputs < 0).any())
        reach = (inputs.square().sum() * len(inputs)).sqrt() if is_signed else inputs.sum()
        speed = float(amount * weight.std(correction=0) * reach / average) if bool(average > 0) else 0.0
        fractions.append(-math.expm1(-speed * driven))
        driven = fractions[-1] / speed if speed > 0 else driven
    return fractions


def _along(state: HeadState, mean: Tensor, passes: Passes | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, layer by layer, the inputs that the mean evokes and what excited units answer to them."""
    inputs, given = mean, []
    for weight in state.weights:
        given.append((weight @ inputs)[None])
        answer = given[-1][0].relu()
        yield inputs, answer
        if len(given) < len(state.weights):
            inputs = answer if passes is None else passes(given)[0].clamp(min=0)
