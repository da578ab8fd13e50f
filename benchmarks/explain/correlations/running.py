"""One stream, and hidden activity before and after each of its nights -> one record."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.configs.run import RunConfig, resolve
from benchmarks.data.dataset import Dataset
from benchmarks.explain.nights import Night
from benchmarks.explain.origin import made_here
from benchmarks.explain.running import accuracy_after, learn, measured_on_held_out, watching
from benchmarks.explain.shown import hidden_answers, shown_by_class
from benchmarks.records.record import finite
from benchmarks.streams.stream import Stream
from src_plugin.errors import ConfigError
from src_plugin.head.state import Head

N_IMAGES = 50
"""Images of each class that are looked at."""

STAGES = ("evening", "morning")


def explain_correlations(config: RunConfig, *, seed: int, data: Dataset) -> dict[str, Any]:
    """Learn a stream, and look at the hidden layers before and after every night.

    Args:
        config: What is run; its images are measured on as `measured_on_held_out` says.
        seed: Of everything.
        data: The images.

    Returns:
        A record, as JSON holds it: of each night and stage, layer by layer, what `look` returns.

    Raises:
        ConfigError: The head has no hidden layer.
    """
    started = time.perf_counter()
    config = measured_on_held_out(config)
    if not config.model.hidden:
        raise ConfigError(f"{config.name}: there is no hidden layer to look at; give model.hidden, e.g. [200, 200]")
    nights: list[dict[str, Any]] = []

    def show(night: Night, stream: Stream, strategy: Any) -> None:
        i = strategy.experience.current_experience
        classes = [label for group in stream.classes[: i + 1] for label in group]
        inputs = shown_by_class(i, stream, strategy.model, night.head, classes=classes, most=N_IMAGES)
        accuracy = accuracy_after(i, stream, strategy, night)
        morning = night.head.read()
        told: dict[str, Any] = {"experience": i, "n_old": len(classes) - len(stream.classes[i])}
        for stage, state in zip(STAGES, (night.trained, morning), strict=True):
            night.head.write(state)
            told[stage] = {"accuracy": accuracy(state), "layers": look(night.head, inputs)}
        nights.append(told)

    stream = learn(config, seed=seed, data=data, sleeper=watching(show))
    record: dict[str, Any] = finite(
        {
            "schema": 1,
            "kind": "correlations",
            "config_name": config.name,
            "config": resolve(config, "naive+src"),
            "seed": seed,
            "class_order": stream.class_order,
            "images": N_IMAGES,
            "nights": nights,
            "features": data.provenance,
            "seconds": time.perf_counter() - started,
            **made_here(),
        }
    )
    return record


def look(head: Head, inputs: dict[int, Tensor]) -> list[dict[str, Any]]:
    """Return what hidden layers make of images, class by class in the order of `inputs`, rounded.

    Returns:
        Of each layer: `alike`, rows of the lower triangle of mean correlations between images of two classes;
        `silent`, share of units that do not answer an image; `sparseness`, 0 if all answer alike and 1 if one answers
        alone; `activity`, mean answer.
    """
    sizes = [len(rows) for rows in inputs.values()]
    found = []
    for answers in hidden_answers(head, torch.cat(list(inputs.values()))):
        groups = answers.double().split(sizes)
        alike = class_correlations(groups)
        found.append(
            {
                "alike": [[_short(x) for x in row[: k + 1]] for k, row in enumerate(alike.tolist())],
                "silent": [_short(float((group <= 0).double().mean())) for group in groups],
                "sparseness": [_short(sparseness(group)) for group in groups],
                "activity": [_short(float(group.mean())) for group in groups],
            }
        )
    return found


def class_correlations(groups: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """Return Pearson's correlation over units between two images, mean over all pairs of two classes.

    Images that a layer answers by the same number in all units have no correlation, and an image is no pair with
    itself.

    Args:
        groups: What a layer answers images of each class, shape (n_k, n_units) each.

    Returns:
        Shape (n_classes, n_classes); NaN where there is no pair.
    """
    centred = [group - group.mean(1, keepdim=True) for group in groups]
    unit = [rows[rows.norm(dim=1) > 0] for rows in centred]
    unit = [rows / rows.norm(dim=1, keepdim=True) for rows in unit]
    found = torch.empty(len(unit), len(unit), dtype=torch.float64)
    for k, ours in enumerate(unit):
        for j, theirs in enumerate(unit):
            pairs = ours @ theirs.T
            n = pairs.numel() - (len(ours) if j == k else 0)
            total = pairs.sum() - (pairs.trace() if j == k else 0.0)
            found[k, j] = total / n if n else float("nan")
    return found


def sparseness(answers: Tensor) -> float:
    """Return how sparse the answers to an image are, mean over images that any unit answers; NaN without one.

    Args:
        answers: Not negative, shape (n, n_units), two units or more.

    Source:
        Vinje and Gallant 2000, Science 287:1273: (1 - mean(a)^2 / mean(a^2)) / (1 - 1 / n_units).
    """
    answers = answers[(answers != 0).any(1)]
    if not len(answers):
        return float("nan")
    share = answers.mean(1).square() / answers.square().mean(1)
    return float(((1 - share) / (1 - 1 / answers.shape[1])).mean())


def _short(value: float) -> float | None:
    return None if value != value else round(value, 4)
