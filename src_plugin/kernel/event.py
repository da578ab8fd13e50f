"""The same numbers as `reference`, compiled, visiting only units that fire.

The impulse adds up the weights of the inputs that spiked, plasticity touches the weights of the units that fired, so
a step costs about (input spikes * n_post) + (output spikes * n_pre) instead of n_pre * n_post. Weights are kept
transposed, (n_pre, n_post), while asleep: what one input spike adds is then one contiguous row. All layers lie in one
flat buffer, so that Numba compiles once per float type and not once per depth.

Without a gate a unit that fires takes the same step from the weights of all its silent inputs. So each layer keeps a
vector, what every unit has lost, and its matrix W' without it: W = W' - 1 lost'. The impulse is then the sum of rows of
W' minus (input spikes * lost), and a step of plasticity touches only the weights between units that both spiked.
A layer without potentiation takes every step at once, with a gate of 1: the sums would let weights rise by rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from src_plugin.errors import ConfigError
from src_plugin.kernel.plasticity import Array, Rule

BLOCK = 2048
"""Weights changed at once: their gates then stay in the fastest cache."""

KEPT_APART = 1024
"""Steps after which a matrix takes what its units have lost: kept apart for longer, rounding would cost more."""

SATURATED = 40.0
"""Weight, in gate widths, from which the gate is 0 (under 1e-17) or 2 (to the last bit)."""

EXP_SERIES = tuple(1.0 / math.factorial(k) for k in range(13, -1, -1))
"""Taylor coefficients of exp, highest power first: exact to 1e-16 for arguments up to SATURATED / 64."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first call, once per float type; keep the machine code on disk where there is a place for it."""
    try:
        fast: Callable[..., Any] = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # installed read-only and no cache folder either: compile in every process
        fast = njit(nogil=True, error_model="numpy")(function)
    return fast


def run(weights: Sequence[Array], spikes: Array, *, potentials: Sequence[Array], rule: Rule) -> tuple[Any, ...]:
    """Run one sleep phase; takes what `simulate` has checked, returns what `reference.run` returns.

    Torch tensors must lie on the CPU; the result is then torch tensors again. Weights come back as transposed views
    (column-major), because the next chunk of a long sleep then starts without transposing them.

    Raises:
        ConfigError: Weights are not float32 or float64, or not on the CPU.
    """
    if isinstance(weights[0], torch.Tensor):
        if weights[0].device.type != "cpu":
            raise ConfigError(
                f"backend 'event' runs on the CPU, and the weights are on {weights[0].device}: "
                "pass weights.cpu(), or backend='reference'."
            )
        if weights[0].dtype in (torch.float32, torch.float64):
            arrays = run(
                [w.numpy() for w in weights],
                spikes.numpy(),
                potentials=[v.numpy() for v in potentials],
                rule=rule,
            )
            return tuple(
                [torch.from_numpy(a) for a in x] if isinstance(x, list) else torch.from_numpy(x) for x in arrays
            )
    if weights[0].dtype not in (np.float32, np.float64):
        raise ConfigError(
            f"backend 'event' computes in float32 and float64, not {weights[0].dtype}: "
            "cast the weights, or use backend='reference'."
        )

    float_type = weights[0].dtype.type
    sizes = np.array([spikes.shape[1], *(len(w) for w in weights)], dtype=np.int64)
    first_unit = np.concatenate([[0], np.cumsum(sizes)])
    first_weight = np.concatenate([[0], np.cumsum(sizes[1:] * sizes[:-1])])
    flat = np.empty(first_weight[-1], dtype=float_type)
    edges = itertools.pairwise(first_weight)
    transposed = [flat[a:b].reshape(w.shape[::-1]) for w, (a, b) in zip(weights, edges, strict=True)]
    for ours, w in zip(transposed, weights, strict=True):
        ours[...] = w.T
    v = np.concatenate([np.zeros(sizes[0]), *potentials], dtype=float_type, casting="same_kind")
    counts = np.zeros(first_unit[-1], dtype=np.int64)
    potentiations = np.zeros(len(weights), dtype=np.int64)
    depressions = np.zeros(len(weights), dtype=np.int64)
    _sleep(
        np.require(spikes, requirements=["C", "W"]),
        flat,
        v,
        counts,
        potentiations,
        depressions,
        sizes,
        first_unit,
        first_weight,
        np.array(rule.scales, dtype=float_type),
        np.array(rule.thresholds, dtype=float_type),
        np.array(rule.inc, dtype=float_type),
        np.array(rule.dec, dtype=float_type),
        float_type(rule.decay),
        float_type(rule.inhibition),
        float_type(rule.gate_width or np.inf),
    )
    units = [slice(a, b) for a, b in itertools.pairwise(first_unit)]
    return (
        [w.T for w in transposed],
        [counts[layer] for layer in units],
        [v[layer] for layer in units[1:]],
        potentiations,
        depressions,
    )


@compiled
def add_rows(total: NDArray[Any], w: NDArray[Any], rows: NDArray[np.int64]) -> None:
    """Add rows of `w`, shape (n_pre, n), to `total`, shape (n,)."""
    # Plainly: total += w[rows].sum(axis=0); four rows at once, so that `total` is read and written a quarter as often.
    full = len(rows) // 4 * 4
    for k in range(0, full, 4):
        a, b, c, d = w[rows[k]], w[rows[k + 1]], w[rows[k + 2]], w[rows[k + 3]]
        for j in range(len(total)):
            total[j] += (a[j] + b[j]) + (c[j] + d[j])
    for k in range(full, len(rows)):
        a = w[rows[k]]
        for j in range(len(total)):
            total[j] += a[j]


@compiled
def _gate(weights: NDArray[Any], gate_width: float) -> None:
    # Plainly: weights[:] = 2 / (1 + exp(weights / gate_width)), see plasticity.gate. With exp(x) = exp(x / 64) ** 64
    # spelled out the compiler vectorises the loop, which a call of exp prevents; error of the gate below 1e-14.
    for m in range(len(weights)):
        x = min(max(weights[m] / gate_width, -SATURATED), SATURATED)
        power = 0.0
        for coefficient in EXP_SERIES:
            power = power * (x / 64) + coefficient
        for _ in range(6):
            power *= power
        weights[m] = 2.0 / (1.0 + power)


@compiled
def _learn(
    w: NDArray[Any],
    pre: NDArray[np.int64],
    post: NDArray[np.int64],
    inc: float,
    dec: float,
    gate_width: float,
    factors: NDArray[Any],
) -> None:
    # Plainly: w[i, post] += (inc if i in pre else -dec) * gate(w[i, post]) for every i. In blocks of rows, first all
    # gates and then all changes, so that the gates are computed in contiguous memory.
    n_post, k = len(post), 0
    n_rows = max(1, len(factors) // n_post)
    for first in range(0, len(w), n_rows):
        block = w[first : first + n_rows]
        gates = factors[: len(block) * n_post]
        for i in range(len(block)):
            for m in range(n_post):
                gates[i * n_post + m] = block[i, post[m]]
        _gate(gates, gate_width)
        for i in range(len(block)):
            change = -dec
            if k < len(pre) and pre[k] == first + i:
                change = inc
                k += 1
            for m in range(n_post):
                block[i, post[m]] += change * gates[i * n_post + m]


@compiled
def _sleep(
    spikes: NDArray[np.bool_],
    weights: NDArray[Any],
    potentials: NDArray[Any],
    counts: NDArray[np.int64],
    potentiations: NDArray[np.int64],
    depressions: NDArray[np.int64],
    sizes: NDArray[np.int64],
    first_unit: NDArray[np.int64],
    first_weight: NDArray[np.int64],
    scales: NDArray[Any],
    thresholds: NDArray[Any],
    inc: NDArray[Any],
    dec: NDArray[Any],
    decay: float,
    inhibition: float,
    gate_width: float,
) -> None:
    """Run all steps in place on flat buffers; weights are (n_pre, n_post) per layer, all units of all layers in a row.

    An infinite `gate_width` is the ungated rule: the gate is 1 for every weight.
    """
    widest = sizes.max()
    impulse = np.empty(widest, dtype=weights.dtype)
    pre = np.empty(widest, dtype=np.int64)  # indices of the units that spiked in this step, ascending
    post = np.empty(widest, dtype=np.int64)
    factors = np.empty(max(BLOCK, widest), dtype=weights.dtype)
    lost_by_all = np.zeros(first_unit[-1])  # without a gate; float64 whatever the weights are
    for step in range(spikes.shape[0]):
        n_spikes = 0
        for i in range(sizes[0]):
            if spikes[step, i]:
                pre[n_spikes] = i
                n_spikes += 1
                counts[i] += 1
        for layer in range(sizes.size - 1):
            n_pre, n_post = sizes[layer], sizes[layer + 1]
            w = weights[first_weight[layer] : first_weight[layer + 1]].reshape(n_pre, n_post)
            v = potentials[first_unit[layer + 1] : first_unit[layer + 2]]
            drive = impulse[:n_post]
            # Scalars out of the loops: the compiler cannot know that writing v leaves these arrays alone.
            scale, threshold = scales[layer], thresholds[layer]
            lost = lost_by_all[first_unit[layer + 1] : first_unit[layer + 2]]

            # I = scale * W s_pre;  I = I - inhibition * mean(I)
            drive[:] = 0
            add_rows(drive, w, pre[:n_spikes])
            if gate_width == np.inf:
                for j in range(n_post):
                    drive[j] -= n_spikes * lost[j]
            for j in range(n_post):
                drive[j] *= scale
            if inhibition != 0:
                drive -= inhibition * drive.mean()

            # v = decay * v + I;  s_post = v >= threshold
            n_fired = 0
            for j in range(n_post):
                v[j] = decay * v[j] + drive[j]
                n_fired += v[j] >= threshold
            if n_fired:  # a second pass, since the first is vectorised only while it has no branch
                n_fired = 0
                for j in range(n_post):
                    if v[j] >= threshold:
                        post[n_fired] = j
                        n_fired += 1
                        counts[first_unit[layer + 1] + j] += 1
                        v[j] = 0
            potentiations[layer] += n_fired * n_spikes
            depressions[layer] += n_fired * (n_pre - n_spikes)

            # W = W + inc * gate(W) where s_post and s_pre,  W - dec * gate(W) where s_post and not s_pre
            if n_fired and (inc[layer] != 0 or dec[layer] != 0):
                if gate_width < np.inf or inc[layer] == 0:  # w + dec - dec may be above w, and nothing here may rise
                    _learn(w, pre[:n_spikes], post[:n_fired], inc[layer], dec[layer], gate_width, factors)
                else:
                    # Plainly: w[:, post] -= dec, and w[i, post] += inc + dec for i in pre; the first in `lost`.
                    dec_and_inc = inc[layer] + dec[layer]
                    for j in post[:n_fired]:
                        lost[j] += dec[layer]
                    for i in pre[:n_spikes]:
                        for j in post[:n_fired]:
                            w[i, j] += dec_and_inc
            if gate_width == np.inf and ((step + 1) % KEPT_APART == 0 or step + 1 == spikes.shape[0]):
                w -= lost
                lost[:] = 0

            pre, post = post, pre  # same step: spikes pass through all layers
            n_spikes = n_fired
