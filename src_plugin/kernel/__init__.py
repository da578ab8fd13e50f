"""One sleep phase on given input spikes: `simulate` checks its arguments once and hands them to a backend.

The equations stand in `reference`, which is the specification; `event` computes the same and is the fast one.
There is no randomness in here: the caller draws the input spikes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np
import torch

from src_plugin.errors import ConfigError, ShapeError, WeightsError, did_you_mean
from src_plugin.kernel import event, firing, reference
from src_plugin.kernel.plasticity import DECAY, GATE_WIDTH, Array, Rule, gate

__all__ = ["BACKENDS", "DECAY", "GATE_WIDTH", "SleepTrace", "gate", "load", "simulate"]

BACKENDS: dict[str, Callable[..., tuple[Array, ...]]] = {"event": event.run, "reference": reference.run}
"""Name -> function(weights, spikes, *, potentials, rule); a new backend is a new row, and is tested by being one."""


@dataclass(frozen=True)
class SleepTrace:
    """What a sleep phase of L weight layers made of the weights, and what happened on the way.

    All arrays are of the kind of the weights given (NumPy, or torch on the same device).

    Attributes:
        weights: L matrices (n_post, n_pre), float type of the weights given.
        spike_counts: L + 1 arrays int64 (n_l,): spikes of every unit, layer 0 is the input.
        potentials: L arrays (n_l,): membrane potentials after the last step; pass them as `state` to go on.
        potentiations: int64 (L,): weight-steps in which both units spiked.
        depressions: int64 (L,): weight-steps in which the postsynaptic unit spiked and the presynaptic did not.
    """

    weights: list[Array]
    spike_counts: list[Array]
    potentials: list[Array]
    potentiations: Array
    depressions: Array


def simulate(
    weights: Sequence[Array],
    spikes: Array,
    *,
    scales: Sequence[float] | Array,
    thresholds: Sequence[float] | Array,
    inc: float | Sequence[float] | Array,
    dec: float | Sequence[float] | Array,
    decay: float = DECAY,
    gate_width: float | None = GATE_WIDTH,
    inhibition: float = 0.0,
    state: Sequence[Array] | None = None,
    backend: str = "event",
) -> SleepTrace:
    """Put a stack of L weight layers to sleep: integrate-and-fire units, driven by `spikes`, with Hebbian updates.

    A spike crosses all layers within its step, a unit fires when its potential is at or above the threshold, and only
    weights onto units that fired change. Inputs are never modified.

    Args:
        weights: L matrices (n_l, n_{l-1}), rows postsynaptic; all NumPy arrays or all torch tensors (which must be on
            the CPU for "event"), of one float type. "event" takes float32 and float64, "reference" any float type.
        spikes: Input spikes, bool (steps, n_0); zero steps are allowed.
        scales: (L,) gain on the synaptic impulse, the paper's alpha; dimensionless.
        thresholds: (L,) potential at which a unit fires, the paper's beta; 0 fires in silence, infinity never.
        inc: Scalar or (L,): step of a potentiation before the gate, in units of the unscaled weights; at least 0.
        dec: Scalar or (L,): step of a depression before the gate, likewise.
        decay: Factor on the potential per step, in (0, 1].
        gate_width: Width of the weight-dependent gate, in weight units; `None` is the ungated rule.
        inhibition: Share of a layer's mean impulse taken from each of its units; 0 in every published experiment.
        state: L potentials (n_l,) to go on from, as in `SleepTrace.potentials`; `None` starts at rest, 0.
        backend: A name in `BACKENDS`.

    Returns:
        The new weights with spike counts, potentials and numbers of updates.

    Raises:
        ShapeError: Shapes do not chain, or a per-layer list has the wrong length.
        WeightsError: Weights are not finite, or not of one float type.
        ConfigError: A number is out of range, or the backend is unknown or cannot take these arrays.

    Source:
        Tadros et al. 2022, Nat. Commun. 13:7742, Methods and Algorithm 1, and the authors' code.
        Differs from the article, with the code: leak, >= at the threshold, gate (`None` and `decay=1` undo two).

    Example:
        >>> w = np.array([[0.5, -0.2]])
        >>> trace = simulate([w], np.array([[True, False]]), scales=[1.0], thresholds=[0.5], inc=0.02, dec=0.01)
        >>> trace.weights[0].round(4), trace.spike_counts[1]
        (array([[ 0.5 , -0.22]]), array([1]))
    """
    if backend not in BACKENDS:
        raise ConfigError(f"unknown backend {backend!r}{did_you_mean(str(backend), BACKENDS)}.")
    weights = _checked_weights(weights)
    n_layers = len(weights)
    rule = Rule(
        scales=_per_layer("scales", scales, n_layers),
        thresholds=_per_layer("thresholds", thresholds, n_layers, finite=False),
        inc=_per_layer("inc", inc, n_layers, scalar=True, least=0.0),
        dec=_per_layer("dec", dec, n_layers, scalar=True, least=0.0),
        decay=_number("decay", decay),
        gate_width=None if gate_width is None else _number("gate_width", gate_width),
        inhibition=_number("inhibition", inhibition),
    )
    if not 0.0 < rule.decay <= 1.0:
        raise ConfigError(f"decay is {rule.decay}, must be in (0, 1]: 1 keeps the potential, {DECAY} is usual.")
    if rule.gate_width is not None and rule.gate_width <= 0.0:
        raise ConfigError(f"gate_width is {rule.gate_width}, must be above 0; gate_width=None switches the gate off.")
    return SleepTrace(
        *BACKENDS[backend](
            weights, _checked_spikes(spikes, weights), potentials=_checked_state(state, weights), rule=rule
        )
    )


@functools.cache
def load() -> None:
    """Load what is compiled for float32 weights; without it the first sleep of a process does, and looks slow.

    Once per process: 0.3 s from the cache on disk, several seconds where nothing has been compiled yet. Other float
    types are still loaded by the first sleep.
    """
    weights, spikes = np.ones((1, 1), dtype=np.float32), np.ones((1, 1), dtype=np.bool_)
    simulate([weights], spikes, scales=[1.0], thresholds=[1.0], inc=0.0, dec=0.0)
    firing.sum_weights(spikes, weights)
    firing.peak(weights, DECAY)
    firing.count_spikes(weights, 1.0, DECAY)
    firing.fire(weights, 1.0, DECAY)


def _checked_weights(weights: Sequence[Array]) -> list[Array]:
    arrays = [w.detach() if isinstance(w, torch.Tensor) else np.asarray(w) for w in weights]
    arrays = [w.astype(w.dtype.newbyteorder("="), copy=False) if isinstance(w, np.ndarray) else w for w in arrays]
    if not arrays:
        raise ShapeError("weights is empty: pass a list with one matrix (n_post, n_pre) per layer.")
    for layer, w in enumerate(arrays):
        if w.ndim != 2 or 0 in w.shape:
            raise ShapeError(
                f"weights[{layer}] has shape {tuple(w.shape)}, must be a matrix (n_post, n_pre) with at least one unit "
                "on each side; a single layer is passed as [w]."
            )
        if layer and w.shape[1] != len(arrays[layer - 1]):
            raise ShapeError(
                f"weights[{layer}] has {w.shape[1]} columns, but weights[{layer - 1}] has {len(arrays[layer - 1])} "
                "rows: rows are postsynaptic, so both must be equal; transpose matrices stored as (n_pre, n_post)."
            )
        if not (w.is_floating_point() if isinstance(w, torch.Tensor) else np.issubdtype(w.dtype, np.floating)):
            raise WeightsError(f"weights[{layer}] is of type {w.dtype}: cast it to a float type.")
        if not bool((torch if isinstance(w, torch.Tensor) else np).isfinite(w).all()):
            raise WeightsError(
                f"weights[{layer}] holds NaN or infinite values, so its units could never fire: "
                "look for a training run that diverged, and sleep from an earlier state."
            )
    kinds = {(type(w).__module__, str(w.dtype), str(getattr(w, "device", "cpu"))) for w in arrays}
    if len(kinds) > 1:
        raise WeightsError(
            f"weights are of several kinds, {sorted(kinds)}: cast them to one float type and move them to one device."
        )
    return arrays


def _checked_spikes(spikes: Array, weights: list[Array]) -> Array:
    if not isinstance(spikes, torch.Tensor):
        spikes = np.asarray(spikes)
    if spikes.dtype not in (np.bool_, torch.bool):
        raise ShapeError(f"spikes is of type {spikes.dtype}, must be bool: pass spikes > 0, or draw from rates first.")
    n_inputs = weights[0].shape[1]
    if spikes.ndim != 2 or spikes.shape[1] != n_inputs:
        raise ShapeError(
            f"spikes has shape {tuple(spikes.shape)}, must be (steps, {n_inputs}), a column for each of weights[0]; "
            "a single step is passed as spikes[None, :]."
        )
    return _like(spikes, weights[0], keep_type=True)


def _checked_state(state: Sequence[Array] | None, weights: list[Array]) -> list[Array]:
    if state is None:
        return [w[:, 0] * 0 for w in weights]
    if len(state) != len(weights):
        raise ShapeError(
            f"state has {len(state)} entries for {len(weights)} layers: pass SleepTrace.potentials, or None for rest."
        )
    potentials = [_like(v, w, keep_type=False) for v, w in zip(state, weights, strict=True)]
    for layer, (v, w) in enumerate(zip(potentials, weights, strict=True)):
        if tuple(v.shape) != (len(w),):
            raise ShapeError(
                f"state[{layer}] has shape {tuple(v.shape)}, must be ({len(w)},), one potential per row of "
                f"weights[{layer}]: pass SleepTrace.potentials of the same network."
            )
        if bool((v != v).any()):
            raise ConfigError(
                f"state[{layer}] holds NaN, and such a unit never fires again: pass None to start at rest."
            )
    return potentials


def _like(array: Array, example: Array, *, keep_type: bool) -> Array:
    """Return `array` as the same kind (NumPy or torch on its device) as `example`, and of its float type."""
    if isinstance(example, torch.Tensor):
        tensor = torch.as_tensor(array) if isinstance(array, torch.Tensor) else torch.tensor(np.asarray(array))
        return tensor.detach().to(device=example.device, dtype=tensor.dtype if keep_type else example.dtype)
    array = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    return array if keep_type else array.astype(example.dtype)


def _number(name: str, value: SupportsFloat) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} is {value!r}, must be one number.") from None
    if not math.isfinite(number):
        raise ConfigError(f"{name} is {number}, must be finite.")
    return number


def _per_layer(
    name: str,
    values: float | Sequence[float] | Array,
    n_layers: int,
    *,
    scalar: bool = False,
    finite: bool = True,
    least: float = -math.inf,
) -> tuple[float, ...]:
    """Return one plain float per layer; a scalar stands for all layers where that is allowed."""
    try:
        numbers = np.asarray(values.tolist() if isinstance(values, torch.Tensor) else values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} is {values!r}, must be numbers, one per layer.") from None
    if scalar and numbers.ndim == 0:
        numbers = np.full(n_layers, numbers)
    if numbers.shape != (n_layers,):
        form = f"one number or {n_layers}" if scalar else f"{n_layers} numbers"
        raise ShapeError(f"{name} has shape {numbers.shape}, must be {form}: one per weight layer, input side first.")
    for layer, number in enumerate(numbers.tolist()):
        if math.isnan(number) or (finite and math.isinf(number)):
            raise ConfigError(
                f"{name}[{layer}] is {number}, must be {'finite' if finite else 'a number'}: "
                "look for a layer without positive weight or activation."
            )
        if number < least:
            raise ConfigError(f"{name}[{layer}] is {number}, must be at least 0: its sign is in the rule already.")
    return tuple(numbers.tolist())
