"""SRCTrainerCallback: a sleep at the end of `train` of a Trainer of Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from transformers import TrainerCallback

from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError, SRCError
from src_plugin.files.checkpoint import rewrite
from src_plugin.files.night import NightOfCopies
from src_plugin.head.state import Head
from src_plugin.loop import SRC
from src_plugin.report import SleepReport, Status, summarise
from src_plugin.sleeper import Seed
from src_plugin.waking.known import Known, Seen
from src_plugin.waking.summary import TrainingSummary

STATE = "src_plugin.pt"
"""File of a checkpoint folder with the state of the callback."""

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files of a checkpoint folder, one of which has the weights; larger ones are cut into several."""


class SRCTrainerCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Watches the training of a Trainer's model, and puts its classifier head to sleep when `train` ends.

    Use one callback for the Trainers of a sequence of tasks on one model. The sleep comes after the best model was
    loaded, if that is asked for; what `trainer.save_model` then writes has slept, and so have the last checkpoint and
    the best one, each on its own weights. Targets are read from the loss, as `SRC` says. `on_train_end` of callbacks
    that come later sees the slept network. Training that broke off does not sleep.

    Args:
        config: A `SleepConfig` or the name of a preset; None is `auto`.
        head: Name(s) of the head's layers; None finds them.
        seed: Seed of the sleep's noise, or a generator.
        seen: Classes that the model knows already, or {class: number of its images}; None: it knows none.
        mean_input: Mean of what reached the head over them, shape (n_0,); None where it is not known.

    Raises:
        ConfigError: Several processes train, or another model than before.
        SRCError: As `SRC`.

    Example:
        >>> src = SRCTrainerCallback()  # doctest: +SKIP
        >>> Trainer(model, args, train_dataset=task, callbacks=[src]).train()  # doctest: +SKIP
    """

    def __init__(
        self,
        config: SleepConfig | str | None = None,
        *,
        head: str | Sequence[str] | None = None,
        seed: Seed = 0,
        seen: Seen = None,
        mean_input: ArrayLike | Tensor | None = None,
    ) -> None:
        Known.of(seen, mean_input)  # or a bad value is told of when training begins
        self._settings: dict[str, Any] = {"config": config, "head": head, "seed": seed}
        self._settings |= {"seen": seen, "mean_input": mean_input}
        self._src: SRC | None = None
        self._task: AbstractContextManager[None] | None = None
        self._copies: NightOfCopies | None = None

    @property
    def reports(self) -> list[SleepReport]:
        """One report per `train`, in order."""
        return [] if self._src is None else self._src.reports

    def summary(self) -> str:
        """Return what all nights so far did, e.g. "5 nights: 1 slept, 4 levelled"."""
        return summarise(self.reports)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        """Begin to watch the model; go on with what a checkpoint has, if training does."""
        if args.world_size > 1 or getattr(args, "deepspeed", None) or getattr(args, "fsdp", None):
            raise ConfigError(
                "SRCTrainerCallback sleeps in one process alone, with whole weights: run it without torchrun, FSDP and "
                "DeepSpeed, or take SRCCallback in Lightning with strategy='ddp'"
            )
        if self._src is None:
            self._src = SRC(model, **self._settings)
        if self._src.model is not model:
            raise ConfigError(
                f"this SRCTrainerCallback has watched another {type(self._src.model).__name__}: give every Trainer of "
                "a sequence of tasks the same model, or make a new callback for a new sequence"
            )
        self._leave(RuntimeError("training broke off"))
        if state.global_step:
            self._go_on(_folder(args, state.global_step), args.device)
        self._task = self._src.task()
        self._task.__enter__()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count recall of rehearsed classes anew."""
        if self._src is not None:
            self._src.begin_epoch()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save what is known beside the weights, for training that goes on from there."""
        folder = _folder(args, state.global_step)
        if self._src is not None and folder.is_dir():
            torch.save(self._src.state_dict(), folder / STATE)

    def on_train_end(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        """Sleep, and put checkpoints to sleep."""
        assert self._src is not None

        def night(head: Head, training: TrainingSummary) -> SleepReport:
            sleeper = src._sleeper
            self._copies = NightOfCopies(model, head, training, sleeper.config, sleeper.generator)
            report = sleeper.pass_night(head, training)
            self._copies.woke()
            return report

        src = self._src
        self._copies, src._night = None, night
        self._leave(None)
        report = src.reports[-1]
        state.log_history.append(
            {
                "sleep/slept": float(report.status is Status.SLEPT),
                "sleep/depth": float(report.strength),
                "sleep/seconds": report.seconds,
                "step": state.global_step,
            }
        )
        folders = [
            _folder(args, state.global_step),
            *([state.best_model_checkpoint] * bool(state.best_model_checkpoint)),
        ]
        for folder in dict.fromkeys(map(Path, folders)):
            if folder.is_dir() or str(folder) == str(state.best_model_checkpoint):
                self._sleep_folder(folder)
        self._copies = src._night = None

    def _leave(self, error: BaseException | None) -> None:
        """End the task: asleep, or after an error awake."""
        task, self._task = self._task, None
        if task is None:
            return
        try:
            task.__exit__(None if error is None else type(error), error, None if error is None else error.__traceback__)
        except BaseException as raised:
            if raised is not error:
                raise

    def _go_on(self, folder: Path, device: torch.device) -> None:
        assert self._src is not None
        path = folder / STATE
        if not path.is_file():
            raise ConfigError(
                f"training goes on from a checkpoint, and {str(path)!r} is not there: SRCTrainerCallback goes on from "
                "checkpoints in the output folder that it has written itself"
            )
        self._src._sleeper.load_state_dict(torch.load(path, weights_only=True), device)

    def _sleep_folder(self, folder: Path) -> None:
        assert self._src is not None
        sleeper = self._src._sleeper
        try:
            if len(torch.load(folder / STATE, weights_only=True)["reports"]) == len(sleeper.reports):
                return  # it has slept
            name = next((name for name in WEIGHTS if (folder / name).is_file()), None)
            if name is None:
                raise SRCError(f"it has none of {', '.join(WEIGHTS)}")
            rewrite(str(folder / name), self._change, _Weights())
            torch.save(sleeper.state_dict(), folder / STATE)
        except Exception as error:  # training that went well must not fail for a file
            why = "it is no longer there" if isinstance(error, FileNotFoundError) else str(error)
            sleeper.warn(
                str(folder),
                f"{str(folder)!r} holds a network that has not slept: {why}. The network in memory has; write it by "
                "trainer.save_model(path)",
            )

    def _change(self, weights: dict[str, Tensor]) -> bool:
        if self._copies is None:
            return False
        self._copies.sleep(weights)
        return True


class _Weights:
    """Reads and writes files of weights."""

    def load_checkpoint(self, path: str) -> dict[str, Any]:
        if not path.endswith(".safetensors"):
            weights: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return weights
        from safetensors.torch import load_file

        return dict(load_file(path))

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str) -> None:
        if ".safetensors" not in Path(path).name:
            torch.save(checkpoint, path)
            return
        from safetensors.torch import save_file

        save_file(checkpoint, path, metadata={"format": "pt"})

    def teardown(self) -> None:
        """Nothing is written in a thread."""


def _folder(args: Any, step: int) -> Path:
    return Path(args.output_dir) / f"checkpoint-{step}"
