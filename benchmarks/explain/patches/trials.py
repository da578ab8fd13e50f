"""One trial: two tasks of two images each, learnt one after the other, and a sleep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.explain.patches.images import N_IMAGES, Patches, draw_patches
from src_plugin.config import SleepConfig
from src_plugin.head.find import find_head
from src_plugin.head.state import Head, HeadState
from src_plugin.night.sleep import sleep_head
from src_plugin.waking.classes import Classes
from src_plugin.waking.summary import TrainingSummary

TASKS = ((0, 1), (2, 3))
PUBLISHED = "paper/patches"


@dataclass(frozen=True)
class Setting:
    """What the two released scripts do differently, and the article leaves open.

    Attributes:
        title: What people read.
        side: Of an image, in pixels.
        pixels: Pixels that are on in each image.
        learning_rate: Of SGD.
        epochs: Of each task; one update each.
        momentum: Of SGD.
    """

    title: str
    side: int
    pixels: int
    learning_rate: float
    epochs: tuple[int, int]
    momentum: float


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "overlaps": Setting("script of the overlaps: 10 x 10, 16 pixels, 4 + 2 epochs", 10, 16, 0.05, (4, 2), 0.5),
        "weights": Setting("script of the weights: 11 x 11, 20 pixels, 4 + 4 epochs", 11, 20, 0.1, (4, 4), 0.5),
        "words": Setting("the article's words: 10 x 10, no momentum; 18 pixels fit", 10, 18, 0.05, (4, 4), 0.0),
        "quarter": Setting("the same with a quarter of the pixels, 25", 10, 25, 0.05, (4, 4), 0.0),
    }
)
"""Under which the figure is made again. The first two are the released scripts; 18 was chosen to fit the figure."""

SLEEPS: Mapping[str, SleepConfig] = MappingProxyType(
    {
        PUBLISHED: SleepConfig.preset(PUBLISHED),
        "auto": SleepConfig(),
        "auto, hidden_gate=False": SleepConfig(hidden_gate=False),
        "src_only": SleepConfig.preset("src_only"),
    }
)
"""How a network sleeps after the second task (`auto` and `src_only` after the first as well)."""

HALF_RANGE = 0.01
"""First weights are drawn from U(-a, a), as in both scripts."""


@dataclass(frozen=True)
class Trial:
    """What was seen in one trial.

    Attributes:
        patches: The images.
        accuracy: On task 1 and on task 2, after task 1, after task 2 and after the sleep; shape (3, 2).
        weights: Before and after the sleep, shape (4, side^2) each.
    """

    patches: Patches
    accuracy: list[list[float]]
    weights: tuple[NDArray[np.float64], NDArray[np.float64]]

    def inputs(self, after: bool) -> NDArray[np.float64]:
        """Return what each output unit is given by each image, shape (4 images, 4 units).

        Args:
            after: After the sleep, or before.
        """
        given: NDArray[np.float64] = self.patches.images.astype(np.float64) @ self.weights[after].T
        return given


def try_once(setting: Setting, config: SleepConfig, *, overlap: int, seed: int) -> Trial:
    """Learn two tasks, sleep after each as the config says, and look.

    Args:
        setting: Images and training.
        config: The sleep.
        overlap: Pixels that all images share.
        seed: Of images, first weights and sleep; the same for every config.
    """
    generator = np.random.default_rng([seed, overlap])
    patches = draw_patches(overlap, pixels=setting.pixels, side=setting.side, generator=generator)
    images = torch.from_numpy(patches.images)
    model = nn.Linear(setting.side**2, N_IMAGES, bias=False)
    first = generator.uniform(-HALF_RANGE, HALF_RANGE, (N_IMAGES, setting.side**2)).astype(np.float32)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(first))
    head = find_head(model, images[:1])
    optimizer = torch.optim.SGD(model.parameters(), lr=setting.learning_rate, momentum=setting.momentum)
    accuracy: list[list[float]] = []
    for index, (labels, epochs) in enumerate(zip(TASKS, setting.epochs, strict=True)):
        before = head.read()
        _train(model, optimizer, images, labels, epochs=epochs)
        accuracy.append(_accuracy(model, images))
        evening = head.read()
        sleep_head(head, _training(config, images, before, index), config, generator)
    morning = head.read()
    accuracy.append(_accuracy(model, images))
    return Trial(patches, accuracy, (_weights(head, evening), _weights(head, morning)))


def _train(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: tuple[int, ...], *, epochs: int
) -> None:
    rows = list(labels)
    for _ in range(epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[rows]), torch.tensor(rows)).backward()
        optimizer.step()


def _training(config: SleepConfig, images: Tensor, before: HeadState, index: int) -> TrainingSummary:
    """Return what a night is told; the script's gains are measured on all images so far, ours on those of the task."""
    new, old = TASKS[index], TASKS[0] if index else ()
    seen = images[: 2 * (index + 1)]
    inputs = seen if config.gain is not None else images[list(new)]
    classes = Classes(new=new, old=old, counts=dict.fromkeys((*old, *new), 1))
    mean = seen.double().mean(0).numpy()
    return TrainingSummary(mean=mean, inputs=inputs, before=before, classes=classes, index=index)


def _accuracy(model: nn.Module, images: Tensor) -> list[float]:
    """Return the accuracy on each task."""
    with torch.no_grad():
        is_right = (model(images).argmax(1) == torch.arange(N_IMAGES)).double()
    return [float(is_right[list(labels)].mean()) for labels in TASKS]


def _weights(head: Head, state: HeadState) -> NDArray[np.float64]:
    assert len(head.parts) == 1
    return state.weights[0].double().numpy()


def told(trial: Trial) -> dict[str, Any]:
    """Return inputs of output units and weights by kind of pixel of a trial, for a record."""
    return {
        "inputs": [trial.inputs(after=after).tolist() for after in (False, True)],
        "weights": [_by_pixel(trial, weights) for weights in trial.weights],
    }


KINDS = {
    "shared": "shared pixels",
    "own": "pixels of the own image alone",
    "other": "pixels of other images alone",
    "dark": "pixels of no image",
}
"""Kinds of pixels, seen from an output unit -> what people read."""


def _by_pixel(trial: Trial, weights: NDArray[np.float64]) -> dict[str, list[list[float]]]:
    """Return the weights from each kind of pixel to the output units of each task."""
    patches = trial.patches
    lit = patches.images.max(0) > 0
    found: dict[str, list[list[float]]] = {kind: [[], []] for kind in KINDS}
    for task, labels in enumerate(TASKS):
        for label in labels:
            own = patches.is_unique(label)
            masks = {"shared": patches.is_shared, "own": own, "other": lit & ~own & ~patches.is_shared, "dark": ~lit}
            for kind, mask in masks.items():
                found[kind][task] += [round(w, 5) for w in weights[label, mask].tolist()]
    return found
