"""The algorithm line by line, in NumPy or torch: the specification that every other backend must meet.

For each step, for each layer in order (W (n_post, n_pre), v (n_post,), s the spikes of this step, 0 or 1):

    I = scale * W s_pre
    I = I - inhibition * mean(I)
    v = decay * v + I
    s_post = v >= threshold
    W = W + inc * gate(W) where s_post and s_pre,  W - dec * gate(W) where s_post and not s_pre
    v = 0 where s_post
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from src_plugin.kernel.plasticity import Array, Rule, gate


def run(weights: Sequence[Array], spikes: Array, *, potentials: Sequence[Array], rule: Rule) -> tuple[Any, ...]:
    """Run one sleep phase; takes what `simulate` has checked.

    Args:
        weights: L matrices (n_post, n_pre), all NumPy arrays or all torch tensors, of one float type; not modified.
        spikes: Input spikes, bool (steps, n_0), of the same kind.
        potentials: L membrane potentials (n_post,) to start from; not modified.
        rule: The numbers of the sleep.

    Returns:
        Weights, spike counts, potentials, potentiations, depressions, as in `SleepTrace`.

    Source:
        Tadros et al. 2022, Nat. Commun. 13:7742, Methods, Algorithm 1, and the authors' code.
        Differs from the article, with the code: v leaks, v >= threshold fires (not >), steps are gated.
    """
    weights = [_copy(w) for w in weights]
    potentials = [_copy(v) for v in potentials]
    counts = [_zeros(n, like=spikes) for n in (spikes.shape[1], *(len(w) for w in weights))]
    potentiations = _zeros(len(weights), like=spikes)
    depressions = _zeros(len(weights), like=spikes)
    for pre in spikes:  # (n_0,) bool: one step
        counts[0] += pre
        for layer, (w, v) in enumerate(zip(weights, potentials, strict=True)):  # w (n_post, n_pre), v (n_post,)
            s = _as_float(pre, like=w)  # (n_pre,) 0.0 or 1.0
            impulse = rule.scales[layer] * (w @ s)  # (n_post,)
            impulse = impulse - rule.inhibition * impulse.mean()
            v[:] = rule.decay * v + impulse
            post = v >= rule.thresholds[layer]  # (n_post,) bool; >=, not >: ties fire, and so does silence at 0
            w[post] += (rule.inc[layer] * s - rule.dec[layer] * (1.0 - s)) * gate(w[post], rule.gate_width)
            v[post] = 0.0
            counts[layer + 1] += post
            potentiations[layer] += post.sum() * pre.sum()
            depressions[layer] += post.sum() * (~pre).sum()
            pre = post  # same step: spikes pass through all layers
    return weights, counts, potentials, potentiations, depressions


def _copy(array: Array) -> Array:
    return array.clone() if isinstance(array, torch.Tensor) else np.array(array, order="C")


def _zeros(n: int, *, like: Array) -> Array:
    if isinstance(like, torch.Tensor):
        return torch.zeros(n, dtype=torch.int64, device=like.device)
    return np.zeros(n, dtype=np.int64)


def _as_float(spikes: Array, *, like: Array) -> Array:
    return spikes.to(like.dtype) if isinstance(spikes, torch.Tensor) else spikes.astype(like.dtype)
