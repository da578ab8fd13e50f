"""The inputs of the head: their sum, number and least values, of earlier experiences and of this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_plugin.errors import StimulusError
from src_plugin.waking.known import Known


class InputSums:
    """Running mean and least values of the inputs of the head.

    Args:
        known: What the model knew before, until an experience has a mean that its own counts beside.

    Attributes:
        known: The same; None from then on.
        sum: Sum over this experience, shape (n_0,), or None.
        least: Least value of each input in it, shape (n_0,), or None.
        first: Mean magnitude of the inputs in its first batch, shape (), or None.
        n: Its vectors.
    """

    def __init__(self, known: Known | None = None) -> None:
        self.known = known
        self._total: NDArray[np.float64] | None = None
        self._count = 0
        self._lowest: NDArray[np.float64] | None = None  # in earlier experiences, if an input was negative
        if known is not None and known.mean is not None and bool((known.mean < 0).any()):
            self._lowest = np.minimum(known.mean, 0.0)  # it is not above the mean
        self.start()

    def start(self) -> None:
        """Forget the experience."""
        self.sum: Tensor | None = None
        self.least: Tensor | None = None
        self.first: Tensor | None = None
        self.n = 0

    def note(self, x: Tensor, total: Tensor) -> None:
        """Add inputs, shape (n, n_0), and their sum, shape (n_0,)."""
        if self.sum is None:
            self.first = x.abs().float().mean()
        self.sum = total if self.sum is None else self.sum + total
        least = x.amin(0)
        self.least = least if self.least is None else torch.minimum(self.least, least)
        self.n += len(x)

    @property
    def has_any(self) -> bool:
        """Whether anything was seen, ever."""
        return bool(self.n or self._count)

    def check_size(self, n_inputs: int) -> None:
        """Refuse another number of inputs than earlier ones had.

        Raises:
            StimulusError: It differs.
        """
        earlier = self.sum
        kept = self._total if self.known is None else self.known.mean
        for there in (earlier, kept):
            if there is not None and len(there) != n_inputs:
                raise StimulusError(
                    f"the head has {n_inputs} inputs now and had {len(there)} earlier, so there is no mean over both. "
                    "Name a head that keeps its inputs: head='classifier'"
                )

    def mean(self, counts_now: Callable[[], Mapping[int, int]]) -> NDArray[np.float64]:
        """Return the mean over everything seen, shape (n_0,); every presentation counts once.

        Args:
            counts_now: Gives the images of each class of this experience.

        Raises:
            StimulusError: Nothing was seen, or the head has other inputs than earlier.
        """
        total, count = self._sums(counts_now)
        if count == 0:
            raise StimulusError("nothing was seen in training, so there is no mean input to sleep on")
        return total / count

    def _sums(self, counts_now: Callable[[], Mapping[int, int]]) -> tuple[NDArray[np.float64], int]:
        now = None if self.sum is None else self.sum.cpu().double().numpy()
        if self.known is not None and self.known.mean is not None and now is not None:
            new = {c: n for c, n in counts_now().items() if c not in self.known.counts}
            count = max(1, round(self.known.weight(new) * self.n))
            return self.known.mean * count + now, count + self.n
        if self._total is None or now is None:
            total = self._total if now is None else now
            return (np.zeros(0) if total is None else total), self._count + self.n
        self.check_size(len(now))
        return self._total + now, self._count + self.n

    def lowest(self) -> NDArray[np.float64] | None:
        """Return the least value that each input ever had, or 0 if that is less; (n_0,). None if none was negative."""
        if self.least is None or not bool((self.least < 0).any()):
            return self._lowest
        now = self.least.clamp(max=0.0).cpu().double().numpy()
        return now if self._lowest is None else np.minimum(self._lowest, now)

    def fold(self, counts_now: Callable[[], Mapping[int, int]]) -> None:
        """Put this experience to the earlier ones."""
        self._total, self._count = self._sums(counts_now)
        self.known = self.known if self._total is None else None
        self._lowest = self.lowest()

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept between experiences."""
        return {
            "total": _tensor(self._total),
            "count": self._count,
            "least": _tensor(self._lowest),
            "known": None if self.known is None else [self.known.counts, _tensor(self.known.mean)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`, of a `Waking` too."""
        self._total, self._count = _array(state["total"]), int(state["count"])
        self._lowest = _array(state.get("least"))
        counts, mean = state.get("known") or (None, None)
        self.known = None if counts is None else Known(counts, _array(mean))

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept between experiences."""
        known = None if self.known is None else self.known.mean
        return sum(part.nbytes for part in (self._total, self._lowest, known) if part is not None)


def _tensor(values: NDArray[np.float64] | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(values)


def _array(values: Tensor | None) -> NDArray[np.float64] | None:
    array: NDArray[np.float64] | None = None if values is None else values.numpy()
    return array
