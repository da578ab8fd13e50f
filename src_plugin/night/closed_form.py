"""The sleep in closed form: from each unit's weights, a fraction of its answer to the mean input is taken.

    W_l  <-  W_l  -  f_l * relu(W_l x_l) * 1' / sum(x_l),      x_1 = mean input,  x_{l+1} = relu(g_l(W_l x_l))
    f_l   =  1 - exp(-k_l * f_{l-1} / k_{l-1}),      k_l = removal_l * std(W_l) * sum(x_l) / mean(relu(W_l x_l))

where g_l is what stands behind the layer in the network (a ReLU, a GELU, a LayerNorm before either), and f / k = 1
below the first layer: later layers are driven less and less, since the ones below them fall silent. Where an input of
a layer is negative on average, the same change of all weights could raise an answer. There the change runs along the
mean, and |x| * sqrt(n) takes the place of sum(x):

    W_l  <-  W_l  -  f_l * relu(W_l x_l) * x_l' / |x_l|^2

This is the expectation of a simulated, ungated sleep: nearly all inputs are silent in a step, so a unit that fires
depresses all of its weights by the same amount, and it fires in proportion to its answer to the mean input. So that
answer decays, and never changes its sign. `docs/closed_form.md` derives it and says where it stops to hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from src_plugin.head.state import HeadState


@dataclass(frozen=True)
class Inhibited:
    """What a sleep in closed form made of a head.

    Attributes:
        state: The slept parameters.
        fractions: Part of each excited unit's answer to the mean input that was removed, (L).
        answers: Mean over units of that answer before, (L).
    """

    state: HeadState
    fractions: list[float]
    answers: list[float]


def inhibit(
    state: HeadState,
    mean: Tensor,
    removal: Sequence[float],
    passes: Callable[[Sequence[Tensor]], Tensor] | None = None,
) -> Inhibited:
    """Lower what each excited unit answers to the mean input, by the same amount on all of its weights.

    Biases stay as they are and drive nothing, as in a simulated sleep. A layer that nothing excites stays as it is.

    Args:
        state: Parameters of a head; they stay as they are.
        mean: Mean of its inputs, shape (n_0,), of any sign; on the device of the parameters.
        removal: One number per layer, 0 or more: so many standard deviations of the layer's weights would a unit
            move that answers as the layer does on average, if no answer fell meanwhile.
        passes: Gives the next layer's input of the answers of all layers so far, shape (1, n_l) each; None is a ReLU.

    Source:
        `docs/closed_form.md`; the rule is that of Tadros et al. 2022, Nat. Commun. 13:7742, Algorithm 1.

    Example:
        >>> import torch
        >>> state = HeadState((torch.tensor([[1.0, 0.0], [0.0, -1.0]]),), (None,))
        >>> inhibited = inhibit(state, torch.tensor([0.5, 0.5]), [0.5])
        >>> inhibited.fractions  # 1 - exp(-0.5 * 0.7071 * 1.0 / 0.25)
        [0.756...]
        >>> inhibited.state.weights[0]  # the first unit answered 0.5; the second is not excited
        tensor([[ 0.6216, -0.3784],
                [ 0.0000, -1.0000]])
    """
    inputs, weights, fractions, answers = mean, [], [], []
    given: list[Tensor] = []  # what each layer answers, as the network itself would pass it on
    driven = 1.0  # how much of the night a layer is driven, as a part of it
    for weight, amount in zip(state.weights, removal, strict=True):
        given.append((weight @ inputs)[None])
        answer = given[-1][0].relu()
        total, average = inputs.sum(), answer.mean()
        is_signed = bool((inputs < 0).any())
        energy = inputs.square().sum()
        reach = (energy * len(inputs)).sqrt() if is_signed else total
        speed = float(amount * weight.std(correction=0) * reach / average) if bool(average > 0) else 0.0
        fraction = -math.expm1(-speed * driven)
        change = (fraction * answer / energy)[:, None] * inputs if is_signed else (fraction * answer / total)[:, None]
        weights.append(weight - change if fraction > 0 else weight)
        fractions.append(fraction)
        answers.append(float(average))
        is_last = len(weights) == len(state.weights)
        inputs = answer if passes is None or is_last else passes(given)[0].clamp(min=0)
        driven = fraction / speed if speed > 0 else driven
    return Inhibited(state.with_weights(weights), fractions, answers)
