"""Sleeper: watches the training of a model and puts its head to sleep. Each way to train is a thin layer over one.

`SRC` is that of a plain loop, `SRCPlugin` that of Avalanche, `SRCCallback` that of Lightning: they say when a forward
pass, an epoch and an experience begin and end. Same batches and seed, same bits, through each of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from src_plugin.config import SleepConfig, as_config
from src_plugin.errors import ConfigError, HeadNotFoundError, Warner
from src_plugin.head.find import renewed
from src_plugin.head.state import Head
from src_plugin.night.sleep import sleep_head
from src_plugin.night.stages import prepare
from src_plugin.night.stimulus import as_generator
from src_plugin.report import SleepReport, Status, summarise
from src_plugin.waking.boundary import stay_awake, sum_up
from src_plugin.waking.known import Known, Seen
from src_plugin.waking.observer import Waking
from src_plugin.waking.snapshot import check_same_head, restore, snapshot
from src_plugin.waking.summary import TrainingSummary

SLEPT: weakref.WeakSet[nn.Module] = weakref.WeakSet()
"""Layers that a night has changed, in this process; they are not kept alive."""

Seed = int | np.random.Generator | torch.Generator | None


class Sleeper:
    """Watches the training of one model, and puts its head to sleep.

    Args:
        config: A `SleepConfig`, or the name of a preset; None is `auto`.
        speaker: Who uses it, for messages: "SRC", "SRCPlugin" or "SRCCallback".
        head: Name(s) of the head's layers; None finds them.
        seed: Seed of the sleep's noise, or a generator.
        seen: Classes that the model knows already, or the number of images of each.
        mean_input: Mean input of the head over them, shape (n_0,); None where it is not known.
        holds: Keep batch norm below the head in eval mode if all is frozen there; never with a config that is off.

    Attributes:
        config: How to sleep.
        waking: What training showed.
        generator: The only source of randomness.
        warn: Warns of each topic once.
        reports: One `SleepReport` per night, in order.

    Raises:
        ConfigError: A setting that cannot be meant.
    """

    def __init__(
        self,
        config: SleepConfig | str | None,
        *,
        speaker: str,
        head: str | Sequence[str] | None = None,
        seed: Seed = 0,
        seen: Seen = None,
        mean_input: ArrayLike | Tensor | None = None,
        holds: bool = True,
    ) -> None:
        self.config = as_config(config)
        known = Known.of(seen, mean_input, as_rates=self.config.needs_rates)
        self.generator = as_generator(seed)
        self.reports: list[SleepReport] = []
        self.warn = Warner(speaker)
        prepare(self.config)
        self.waking = Waking(
            head,
            needs_classes=not self.config.is_pure,
            needs_rates=self.config.needs_rates,
            holds=holds and not self.config.is_off,
            class_means=self.config.refits,
            known=known if known.counts else None,
        )

    def begin(self, model: nn.Module) -> None:
        """Warn of a model that has slept under another object, whose memory this one does not have."""
        is_new = not (self.reports or self.waking.ledger.seen or self.config.is_off)
        if is_new and any(module in SLEPT for module in model.modules()):
            self.warn(
                "reuse",
                f"this {type(model).__name__} has slept under another object, whose mean input and classes this one "
                "does not know: use one for all tasks, load its state here, load_state_dict(other.state_dict()), or "
                "tell what the model knows, seen=[...] and mean_input=...",
            )

    def sleep(
        self,
        model: nn.Module,
        *,
        has_task_heads: bool = False,
        reference: Callable[[Head], Tensor] | None = None,
        complete: Callable[[Head, TrainingSummary], TrainingSummary] | None = None,
        around: AbstractContextManager[Any] | None = None,
        night: Callable[[Head, TrainingSummary], SleepReport] | None = None,
        whole: nn.Module | None = None,
    ) -> SleepReport:
        """Sleep after what was watched since the last `forget`, or stay awake; the report is appended to `reports`.

        Args:
            model: The model.
            has_task_heads: Whether the model is known to have a head for each task.
            reference: Gives inputs of the head, shape (n, n_0), to be taken instead of those that were seen.
            complete: Adds what else is known of training.
            around: Entered when the night begins, and left when its report is there.
            night: Passes the night; None is `pass_night`.
            whole: What the model is a part of, all of which must be finite; None is the model.

        Raises:
            SRCError: As `src_plugin.sleep` does.
        """
        index = len(self.reports)
        awake = stay_awake(
            self.waking, whole or model, self.config, index=index, warn=self.warn, has_task_heads=has_task_heads
        )
        if awake is not None:
            self.reports.append(awake)
            return awake
        head = self._current_head(model)
        inputs = None if reference is None else reference(head)
        # A reference passes through the backbone as it is now.
        warn = None if reference is not None or self.config.is_off else self.warn
        training = sum_up(self.waking, model, head, index=index, warn=warn, inputs=inputs)
        if complete is not None:
            training = complete(head, training)
        with around or nullcontext():
            self.reports.append((night or self.pass_night)(head, training))
        if self.reports[-1].status is not Status.AWAKE:
            SLEPT.update(head.modules)
        return self.reports[-1]

    def stay_awake(self, reason: str) -> SleepReport:
        """Report a night of which nothing can be planned."""
        self.reports.append(SleepReport("awake", reason, [], []))
        return self.reports[-1]

    def pass_night(self, head: Head, training: TrainingSummary) -> SleepReport:
        """Put a head to sleep after a training."""
        return sleep_head(head, training, self.config, self.generator)

    def summary(self) -> str:
        """Return what the nights so far did, e.g. "5 nights: 1 slept, 4 levelled"."""
        return summarise(self.reports)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is known, as plain numbers and tensors; see `src_plugin.waking.snapshot`."""
        return {
            "waking": snapshot(self.waking),
            "reports": [report.to_dict() for report in self.reports],
            "generator": self.generator.bit_generator.state,
            "config": self.config.to_dict(),
        }

    def load_state_dict(
        self, state: Mapping[str, Any], device: torch.device | str = "cpu", model: nn.Module | None = None
    ) -> None:
        """Go on from `state_dict`.

        Args:
            state: What it returned.
            device: Where the head is going to be.
            model: The model, where it is known by now.

        Raises:
            ConfigError: It is of another config.
            HeadNotFoundError: It is of another head than the one that is named now, or that the model has.
        """
        check_same_config(self.config, state["config"])
        check_same_layers(state["reports"], self.waking.head_names, model)
        restore(self.waking, state["waking"], device)
        check_same_head(self.waking)
        self.reports[:] = [SleepReport.from_dict(told) for told in state["reports"]]
        self.generator.bit_generator.state = state["generator"]

    def _current_head(self, model: nn.Module) -> Head:
        """Return the head as it is in the model now: evaluation and others may have replaced modules."""
        head = self.waking.head
        assert head is not None
        return head if head.is_in(model) else renewed(head, model)


def check_same_config(config: SleepConfig, saved: Mapping[str, Any]) -> None:
    """Refuse to go on from a state of another config.

    Raises:
        ConfigError: A setting is another one.
    """
    now = config.to_dict()
    differ = [name for name in now if now[name] != saved.get(name)]
    if differ:
        told = ", ".join(f"{name}={saved.get(name)!r} (now {now[name]!r})" for name in differ)
        raise ConfigError(
            f"this state is of another config: {told}. Go on with the same one, or load the weights of the model alone"
        )


def check_same_layers(
    reports: Sequence[Mapping[str, Any]], named: str | Sequence[str] | None, model: nn.Module | None
) -> None:
    """Refuse to go on from a state of another head.

    Args:
        reports: Of the nights so far, as `SleepReport.to_dict` gives them.
        named: Name(s) of the head now; None finds it.
        model: The model; None where it is not known yet.

    Raises:
        HeadNotFoundError: The layers of the last night are not those that are named, or the model has none such.
    """
    last = next((report for report in reversed(reports) if report["layers"]), None)
    if last is None:
        return
    layers, sizes = list(last["layers"]), list(last["sizes"])
    began = f"this state is of the head {', '.join(layers)} ({'-'.join(map(str, sizes))})"
    names = (named,) if isinstance(named, str) else tuple(named or ())
    if names and not all(any(f"{layer}.".startswith(f"{name}.") for name in names) for layer in layers):
        raise HeadNotFoundError(
            f"{began}, and head={named!r} is named now: name the same one, head={layers}, or make a new object"
        )
    if model is None:
        return
    modules = dict(getattr(model, "_orig_mod", model).named_modules())
    missing = [layer for layer in layers if not hasattr(modules.get(layer), "weight")]
    n_inputs = None if missing else getattr(modules[layers[0]], "in_features", sizes[0])
    if missing or n_inputs != sizes[0]:
        why = f"no such layer {missing[0]!r}" if missing else f"{n_inputs} inputs at {layers[0]!r}"
        raise HeadNotFoundError(
            f"{began}, and {type(model).__name__} has {why}: load it beside the weights of the model that it was saved "
            "with"
        )
