"""One layer of the sleeping network without plasticity: its impulses, how far its units get, and when they fire.

Per unit and step v = decay * v + I; it fires at v >= threshold, which resets v to 0: the kernel's own rule. Potentials
are float64 whatever the type of the impulses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_plugin.kernel.event import add_rows, compiled


@compiled
def sum_weights(spikes: NDArray[np.bool_], w: NDArray[Any]) -> NDArray[Any]:
    """Return the sum of the weights of the inputs that spike, shape (steps, n); spikes (steps, n_pre), w (n_pre, n).

    It is spikes @ w, in a time that follows the number of spikes: noise makes few inputs spike in a step.
    """
    total = np.zeros((len(spikes), w.shape[1]), dtype=w.dtype)
    for step in range(len(spikes)):
        add_rows(total[step], w, np.flatnonzero(spikes[step]))
    return total


@compiled
def peak(impulses: NDArray[Any], decay: float) -> float:
    """Return the highest potential, at least 0, that any unit reaches if none ever fires; impulses (steps, n)."""
    v = np.zeros(impulses.shape[1])
    highest = 0.0
    for step in range(len(impulses)):
        drive = impulses[step]
        for j in range(len(v)):
            v[j] = decay * v[j] + drive[j]
            highest = max(highest, v[j])
    return highest


@compiled
def count_spikes(impulses: NDArray[Any], threshold: float, decay: float) -> int:
    """Return the number of spikes of all units in all steps; impulses (steps, n)."""
    v = np.zeros(impulses.shape[1])
    count = 0
    for step in range(len(impulses)):
        drive = impulses[step]
        for j in range(len(v)):  # without a branch, so that the compiler vectorises the loop
            potential = decay * v[j] + drive[j]
            fires = potential >= threshold
            count += fires
            v[j] = 0.0 if fires else potential
    return count


@compiled
def fire(impulses: NDArray[Any], threshold: float, decay: float) -> NDArray[np.bool_]:
    """Return the spikes of all units, bool; impulses and spikes (steps, n)."""
    v = np.zeros(impulses.shape[1])
    spikes = np.zeros(impulses.shape, dtype=np.bool_)
    for step in range(len(impulses)):
        drive = impulses[step]
        for j in range(len(v)):
            potential = decay * v[j] + drive[j]
            spikes[step, j] = potential >= threshold
            v[j] = 0.0 if spikes[step, j] else potential
    return spikes
