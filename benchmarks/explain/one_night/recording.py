"""A simulated sleep that is looked at on its way: its weights after each part of it, and spikes of some steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from src_plugin.kernel import SleepTrace
from src_plugin.kernel import simulate as real
from src_plugin.night import replay as replaying


class Recording:
    """Stands in the place of `simulate` and cuts it at some steps; what comes out is the same but for rounding.

    Args:
        n_steps: Length of the sleep.
        n_parts: After each of so many parts the weights are kept.
        shown: Ranges of steps of which every spike is kept.

    Attributes:
        weights: After each part, L matrices (n_post, n_pre) each.
        counts: Spikes of each unit in each part, L + 1 arrays (n_l,).
        spikes: Of each range in `shown`, L + 1 arrays bool (steps, n_l).
    """

    def __init__(self, n_steps: int, *, n_parts: int, shown: Sequence[range]) -> None:
        self.ends = [round(n_steps * (k + 1) / n_parts) for k in range(n_parts)]
        self.shown = list(shown)
        self.weights: list[list[NDArray[Any]]] = []
        self.counts: list[list[NDArray[np.int64]]] = []
        self.spikes: list[list[NDArray[np.bool_]]] = []
        self._rows: dict[int, list[list[NDArray[np.bool_]]]] = {k: [] for k in range(len(self.shown))}
        self._cuts = sorted({*self.ends, *(step for r in self.shown for step in (*r, r.stop))})
        self._step = 0
        self._running: list[NDArray[np.int64]] | None = None

    def __call__(self, weights: Any, spikes: NDArray[np.bool_], *, state: Any = None, **rule: Any) -> SleepTrace:
        """Simulate as `simulate` does, piece by piece."""
        traces = []
        for start, stop in self._pieces(len(spikes)):
            traces.append(real(weights, spikes[start:stop], state=state, **rule))
            weights, state = traces[-1].weights, traces[-1].potentials
            self._note(traces[-1], stop - start)
        return SleepTrace(
            weights=weights,
            spike_counts=[sum(parts[1:], parts[0]) for parts in zip(*(t.spike_counts for t in traces), strict=True)],
            potentials=state,
            potentiations=sum(t.potentiations for t in traces),
            depressions=sum(t.depressions for t in traces),
        )

    def _pieces(self, n: int) -> Iterator[tuple[int, int]]:
        """Yield where the next `n` steps are cut."""
        first = self._step
        inside = [cut - first for cut in self._cuts if first < cut < first + n]
        yield from zip([0, *inside], [*inside, n], strict=True)

    def _note(self, trace: SleepTrace, n: int) -> None:
        for k, steps in enumerate(self.shown):
            if self._step in steps:  # then the piece is one step long
                self._rows[k].append([counts > 0 for counts in trace.spike_counts])
                if self._step + 1 == steps.stop:
                    self.spikes.append([np.array(layer) for layer in zip(*self._rows[k], strict=True)])
        counts = trace.spike_counts
        before = self._running
        self._running = counts if before is None else [a + b for a, b in zip(before, counts, strict=True)]
        self._step += n
        if self._step in self.ends:
            self.weights.append([np.array(w) for w in trace.weights])
            self.counts.append(self._running)
            self._running = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While this lasts, simulated sleeps are recorded."""
        with patch.object(replaying, "simulate", self):
            yield
