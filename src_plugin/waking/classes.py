"""Classes: which are new, which came back, and how well they are recalled; ClassLedger keeps account of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from src_plugin.errors import ConfigError


@dataclass(frozen=True)
class Classes:
    """Classes that stand against each other in a night.

    Attributes:
        new: Outputs of the classes of the experience; None where that is not known.
        old: Outputs of the classes learnt earlier and not since; empty if there are none.
        counts: Images of each class seen so far; None where that is not known.
        recall: Share of rehearsed samples of old classes that training classified rightly; None without rehearsal.
    """

    new: tuple[int, ...] | None = None
    old: tuple[int, ...] = ()
    counts: Mapping[int, int] | None = None
    recall: float | None = None

    @property
    def seen(self) -> tuple[int, ...]:
        """All classes seen so far, ascending."""
        return tuple(sorted({*self.old, *(self.new or ())}))

    def share_of_new(self, shares: Sequence[float]) -> float:
        """Return what the new classes have together, of shares of all seen ones."""
        return sum(share for c, share in zip(self.seen, shares, strict=True) if c in (self.new or ()))


class ClassLedger:
    """Keeps account of the classes in training batches.

    Args:
        needs_classes: Refuse targets that are not class numbers (pure SRC takes any, and then knows no classes).

    Attributes:
        has_classes: Whether the targets of this experience are class numbers.
        seen: Classes of experiences that ended in a sleep.
        new: Classes first met since the last sleep.
        shown: All classes since the last sleep, those that came back or were rehearsed too.
        counts: Images of each class in earlier experiences; rehearsed ones do not count again.
    """

    def __init__(self, *, needs_classes: bool = True) -> None:
        self.needs_classes = needs_classes
        self.has_classes = False
        self.seen: set[int] = set()
        self.new: set[int] = set()
        self.shown: set[int] = set()
        self.counts: dict[int, int] = {}
        self._epoch: Counter[int] = Counter()  # images of each class in this epoch
        self._most: Counter[int] = Counter()  # in any epoch since the last sleep: the last one may have dropped some
        self._rehearsed: list[tuple[int, int]] = []  # per batch: (samples of earlier classes, of them right)

    def begin_epoch(self) -> None:
        """Start to count images and recall of rehearsed classes anew."""
        self._rehearsed.clear()
        self._most |= self._epoch
        self._epoch.clear()

    def open(self, outputs: Any, targets: Any) -> None:
        """Look at the first batch of an experience, which tells whether targets are class numbers.

        Raises:
            ConfigError: They are not, and must be.
        """
        why = why_no_classes(outputs, targets)
        if why and self.needs_classes:
            raise ConfigError(
                f"{why}, so there are no old and new classes to balance: only pure SRC applies, "
                "SleepConfig.preset('src_only')"
            )
        self.has_classes = not why

    def tell(self, classes: Sequence[int]) -> None:
        """Take it from the user which classes an experience has; images of each are not known."""
        self.has_classes = True
        self.new.update(set(classes) - self.seen)
        self.shown.update(classes)

    def note(self, batches: Sequence[tuple[Tensor, Tensor]], *, names: Sequence[str], n_outputs: int) -> None:
        """Note the classes of some batches, which are looked at together, if they are classes.

        Args:
            batches: What the model answered, shape (n, classes), and class numbers, shape (n,).
            names: The head's layers, for messages.
            n_outputs: How many outputs the head has.

        Raises:
            ConfigError: The head has no output for one of them, and must have.
        """
        if not self.has_classes:
            return
        targets = torch.cat([targets for _, targets in batches])
        told = targets.tolist()
        met = Counter(told)
        limit = min(n_outputs, *(outputs.shape[1] for outputs, _ in batches))
        missing = sorted(c for c in met if not 0 <= c < limit)
        if missing and self.needs_classes:
            raise ConfigError(
                f"targets {missing} have no output: the head {list(names)} has {n_outputs}. Give "
                "the model an output for every class and number the classes from 0; if targets are not class numbers, "
                "only pure SRC applies, SleepConfig.preset('src_only')"
            )
        if missing:  # whole numbers that are no classes; a pure sleep does not ask
            self.give_up()
            return
        if self.seen & set(met):
            self._rehearsed += self._recalled(targets, told, [outputs for outputs, _ in batches])
        self._epoch.update(met)
        self.new.update(set(met) - self.seen)
        self.shown.update(met)

    def give_up(self) -> None:
        """Take it that targets of this experience are no classes."""
        self.has_classes, self.new, self.shown = False, set(), set()

    def _recalled(self, targets: Tensor, told: Sequence[int], outputs: Sequence[Tensor]) -> list[tuple[int, int]]:
        """Return (samples of earlier classes, of them right) for each batch that has some.

        An answer is one among the classes met so far, those of its batch included.
        """
        known, start = self.seen | self.new, 0
        if set(told) <= known and len({batch.shape[1] for batch in outputs}) == 1:  # as in all batches but first ones
            answers = [_among(torch.cat(list(outputs)), known)]
        else:
            answers = []
            for batch in outputs:
                known |= set(told[start : start + len(batch)])
                start += len(batch)
                answers.append(_among(batch, known))
        is_old = torch.isin(targets, torch.tensor(sorted(self.seen), device=targets.device))
        old = is_old.tolist()
        right = (is_old & (torch.cat(answers).to(targets.device) == targets)).tolist()
        ends = list(accumulate(len(batch) for batch in outputs))
        pairs = [(sum(old[a:b]), sum(right[a:b])) for a, b in pairwise([0, *ends])]
        return [pair for pair in pairs if pair[0]]

    @property
    def recall(self) -> float | None:
        """Share of rehearsed samples classified rightly in the second half of the last epoch; None without any."""
        if not self._rehearsed:
            return None
        half = torch.tensor(self._rehearsed[len(self._rehearsed) // 2 :]).sum(0)
        return float(half[1] / half[0])

    def classes(self) -> Classes:
        """Return which classes stand against which.

        Old classes are those that training may have overwritten. If most of the earlier classes were shown, they were
        rehearsed: all of them are old, and their recall says how well it went. If some came back while most stayed
        away, those that came back stand with the new ones against those that stayed away. If none stayed away and none
        is new, nothing is to be balanced.
        """
        returned, counts = self._returned(), self.counts_now()
        new, old = (self.shown, self.seen - self.shown) if returned else (self.new, self.seen)
        return Classes(
            new=tuple(sorted(new)) if self.has_classes else None,
            old=tuple(sorted(old)),
            counts=counts if all(counts.values()) else None,  # a state of before has none
            recall=None if returned else self.recall,
        )

    def _returned(self) -> bool:
        """Whether earlier classes came back, and were not merely rehearsed: most of them stayed away."""
        back, away = self.seen & self.shown, self.seen - self.shown
        return bool(away) and (not self.new or 2 * len(back) <= len(self.seen))

    def counts_now(self) -> dict[int, int]:
        """Return the images of each class so far, those of this experience's fullest epoch included."""
        learnt = self.shown if self._returned() else self.new
        now = self._most | self._epoch
        return {c: self.counts.get(c, 0) + (now[c] if c in learnt else 0) for c in sorted(self.seen | self.new)}

    def close(self, *, slept: bool) -> None:
        """End the experience; False defers the sleep, and the list of new classes waits for the next one."""
        self._rehearsed = []
        self.counts = self.counts_now()
        self._epoch, self._most = Counter(), Counter()
        if slept:
            self.seen |= self.new
            self.new, self.shown = set(), set()

    def now(self) -> dict[str, Any]:
        """Return what is known of this experience, as plain numbers."""
        return {
            "has_classes": self.has_classes,
            "new": sorted(self.new),
            "shown": sorted(self.shown),
            "recalled": [list(pair) for pair in self._rehearsed],
            "counters": {"epoch": dict(self._epoch), "most": dict(self._most)},
        }

    def absorb(self, now: Mapping[str, Any]) -> None:
        """Take what `now` returned instead of what is known of this experience."""
        self.has_classes, self.new, self.shown = now["has_classes"], set(now["new"]), set(now["shown"])
        self._rehearsed = [(int(old), int(right)) for old, right in now["recalled"]]
        self._epoch, self._most = (Counter(now["counters"][name]) for name in ("epoch", "most"))


def why_no_classes(outputs: Any, targets: Any) -> str:
    """Return in what targets are not class numbers, shape (n,), beside outputs (n, classes); "" if they are."""
    if not isinstance(targets, Tensor):
        return f"targets of type {type(targets).__name__} are not class numbers"
    are = isinstance(outputs, Tensor) and (targets.ndim, outputs.ndim) == (1, 2)
    if are and not (targets.is_floating_point() or targets.is_complex()):
        return ""
    return f"targets of shape {tuple(targets.shape)} and type {targets.dtype} are not class numbers"


def _among(outputs: Tensor, classes: set[int]) -> Tensor:
    """Return which of some classes has the largest output, shape (n,)."""
    others = torch.ones(outputs.shape[1], dtype=torch.bool)
    others[[c for c in classes if c < len(others)]] = False
    return outputs.masked_fill(others.to(outputs.device), -torch.inf).argmax(1)
