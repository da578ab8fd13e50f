"""A night that can be gone through again, with something else in the place of its sleep.

The plugin below notes what a night is given; `pass_again` goes through all of it once more, the gates and stages around
the sleep included, and leaves the network as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from src_plugin.config import Simulation, SleepConfig
from src_plugin.head.state import Head, HeadState
from src_plugin.night import replay as replaying
from src_plugin.night.replay import Replayed
from src_plugin.night.sleep import sleep_head
from src_plugin.plugin import SRCPlugin
from src_plugin.report import SimulationReport, SleepReport
from src_plugin.waking.summary import TrainingSummary

Replay = Callable[..., Replayed]
"""Of the form of `src_plugin.night.replay.replay`."""


@dataclass(frozen=True)
class Night:
    """What a sleep is given.

    Attributes:
        head: The head.
        trained: Its parameters when the night begins.
        training: What training showed.
        config: How it sleeps; simulated.
        generator: As it is when the night begins; it is copied, never drawn from.
    """

    head: Head
    trained: HeadState
    training: TrainingSummary
    config: SleepConfig
    generator: np.random.Generator

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of the head's inputs, shape (n_0,)."""
        return self.training.mean


@dataclass(frozen=True)
class Asleep:
    """What the sleep itself was given in a night, and made of it.

    Attributes:
        state: The slept parameters, before the gate of a first sleep.
        n_steps: Length, in steps.
        strength: Factor on measured step sizes.
        rule: `scales`, `thresholds`, `inc`, `dec` and what else was counted.
        again: Sleeps once more, by the same draws, from other parameters and another mean input.
    """

    state: HeadState
    n_steps: int
    strength: float
    rule: dict[str, Any]
    again: Callable[[HeadState, NDArray[np.float64]], HeadState]


def pass_again(night: Night, sleep: HeadState | Replay) -> tuple[HeadState, SleepReport]:
    """Go through a night once more, with given parameters, or a function, in the place of its simulated sleep.

    Args:
        night: The night.
        sleep: What the sleep shall have made of the parameters, or does. Gates may leave it out.

    Returns:
        The parameters in the morning, and what happened; the head itself is left as it is now.
    """
    now = night.head.read()
    night.head.write(night.trained)
    try:
        with _instead(sleep):
            report = sleep_head(night.head, night.training, night.config, copy.deepcopy(night.generator))
        return night.head.read(), report
    finally:
        night.head.write(now)


def simulate_again(night: Night) -> tuple[HeadState, Asleep | None, SleepReport]:
    """Go through a night as it was.

    Returns:
        The parameters in the morning, what the sleep itself did (None if a gate left it out), and what happened.
    """
    noted: list[Asleep] = []
    real = replaying.replay

    def watched(
        head: Head, trained: HeadState, training: TrainingSummary, config: Simulation, generator: np.random.Generator
    ) -> Replayed:
        drawn = copy.deepcopy(generator)
        slept = real(head, trained, training, config, generator)
        # The depth is that of the true mean, whatever is shown later.
        ungated = replace(config, depth=slept.report.strength, first_gate=False)

        def again(state: HeadState, mean: NDArray[np.float64]) -> HeadState:
            return real(head, state, replace(training, mean=mean), ungated, copy.deepcopy(drawn)).state

        own = slept.state if slept.report.kept_fraction is None else again(trained, training.mean)
        noted.append(Asleep(own, slept.report.steps, slept.report.strength, asdict(slept.report), again))
        return slept

    state, report = pass_again(night, watched)
    return state, noted[0] if noted else None, report


@contextmanager
def _instead(sleep: HeadState | Replay) -> Iterator[None]:
    """While this lasts, simulated sleeps are something else.

    `stages.pass_night` looks `replay` up when it needs it, and all else of the night stays what it is.
    """
    given = sleep
    function: Replay = (lambda *_, **__: Replayed(given, SimulationReport())) if isinstance(given, HeadState) else given
    with patch.object(replaying, "replay", function):
        yield


class NightWatch(SRCPlugin):  # type: ignore[misc, unused-ignore]
    """SRC that shows each of its nights, once it is over.

    Append it to `strategy.plugins` after construction: Avalanche warns of callbacks that it does not know.

    Args:
        config: How to sleep; see SRCPlugin for it and for `settings`.
        show: Called with each night and the strategy.
    """

    def __init__(self, config: SleepConfig, *, show: Callable[[Night, Any], None], **settings: Any) -> None:
        super().__init__(config, **settings)
        self._show = show
        self._night: Night | None = None

    def _pass_night(self, head: Head, training: TrainingSummary) -> SleepReport:
        self._night = Night(head, head.read(), training, self.config, copy.deepcopy(self._sleeper.generator))
        return super()._pass_night(head, training)

    def after_sleep(self, strategy: Any, **kwargs: Any) -> None:
        """Show it."""
        night, self._night = self._night, None
        if night is not None:
            self._show(night, strategy)
