"""Averages of weights that plugins and callbacks hold: they sleep when the network does, each on its own weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from src_plugin.errors import SRCError
from src_plugin.files.night import NightOfCopies
from src_plugin.head.state import Head
from src_plugin.report import SleepReport
from src_plugin.sleeper import Sleeper
from src_plugin.waking.summary import TrainingSummary

Night = Callable[[Head, TrainingSummary], SleepReport]


def averages_of(holders: Iterable[Any]) -> dict[str, AveragedModel]:
    """Return the averages that plugins or callbacks hold as attributes, as Lightning's `WeightAveraging` does."""
    return {
        f"{type(holder).__name__}.{name}": value
        for holder in holders
        for name, value in vars(holder).items()
        if isinstance(value, AveragedModel)
    }


def sleep_averages(
    night: NightOfCopies | None, averages: Mapping[str, AveragedModel], warn: Callable[[str, str], None]
) -> None:
    """Put averages of the weights to sleep, in place; of one that cannot, warn by its name. None: nobody sleeps."""
    for name, average in averages.items() if night else ():
        assert night is not None
        try:
            night.sleep(average.module.state_dict())
        except SRCError as error:
            warn(name, f"the average of weights in {name} did not sleep: {error}")


def with_averages(night: Night, sleeper: Sleeper, model: nn.Module, averages: Mapping[str, AveragedModel]) -> Night:
    """Return a night after which averages of the weights of a model have slept as well."""

    def both(head: Head, training: TrainingSummary) -> SleepReport:
        copies = NightOfCopies(model, head, training, sleeper.config, sleeper.generator)
        report = night(head, training)
        copies.woke()
        sleep_averages(copies, averages, sleeper.warn)
        return report

    return both if averages else night
