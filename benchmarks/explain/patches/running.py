"""All trials of the figure -> one record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.explain.origin import made_here
from benchmarks.explain.patches.images import check_overlap
from benchmarks.explain.patches.trials import PUBLISHED, SETTINGS, SLEEPS, Setting, told, try_once
from src_plugin.errors import ConfigError

OVERLAPS, TRIALS = tuple(range(21)), 10
LOOKED_AT = 14
"""Overlap whose weights are shown: the middle of 12 to 16, where the article finds sleep best."""


def check_request(overlaps: Sequence[int], n_trials: int) -> None:
    """Refuse what cannot be made, before anything is learnt.

    Raises:
        ConfigError: An overlap that cannot be made, none under which images differ in every setting, or no trial.
    """
    if n_trials < 1:
        raise ConfigError(f"--trials must be 1 or more; got {n_trials}")
    fewest, most = (bound(setting.pixels for setting in SETTINGS.values()) for bound in (min, max))
    if max(overlaps) > most:
        raise ConfigError(f"an overlap of {max(overlaps)} pixels cannot be made: no image has more than {most}")
    if min(overlaps) >= fewest:
        raise ConfigError(
            f"with {min(overlaps)} shared pixels and more, images of {fewest} are all the same: add an overlap below "
            f"{fewest}"
        )
    for setting in SETTINGS.values():
        for overlap in overlaps:
            check_overlap(overlap, pixels=setting.pixels, side=setting.side)


def explain_patches(overlaps: Sequence[int] = OVERLAPS, *, n_trials: int = TRIALS) -> dict[str, Any]:
    """Learn and sleep for every overlap, setting and sleep.

    Args:
        overlaps: Pixels that all images share.
        n_trials: Trials of each; all sleeps have the same ones.

    Returns:
        A record, as JSON holds it. `accuracy[setting][sleep][overlap]` has for each trial what `Trial.accuracy` is.
    """
    check_request(overlaps, n_trials)
    started = time.perf_counter()
    looked_at = min(overlaps, key=lambda overlap: abs(overlap - LOOKED_AT))
    accuracy: dict[str, Any] = {}
    with torch.random.fork_rng():
        for name, setting in SETTINGS.items():
            accuracy[name] = {sleep: _rows(setting, sleep, overlaps, n_trials) for sleep in SLEEPS}
    shown = {
        name: [
            told(try_once(setting, SLEEPS[PUBLISHED], overlap=looked_at, seed=seed)) for seed in range(min(n_trials, 3))
        ]
        for name, setting in SETTINGS.items()
    }
    return {
        "schema": 1,
        "kind": "patches",
        "overlaps": list(overlaps),
        "trials": n_trials,
        "settings": {name: asdict(s) for name, s in SETTINGS.items()},
        "sleeps": {name: config.to_dict() for name, config in SLEEPS.items()},
        "accuracy": accuracy,
        "looked_at": looked_at,
        "shown": shown,
        "seconds": time.perf_counter() - started,
        **made_here(),
    }


def _rows(setting: Setting, sleep: str, overlaps: Sequence[int], n_trials: int) -> dict[str, list[list[list[float]]]]:
    return {
        str(overlap): [
            try_once(setting, SLEEPS[sleep], overlap=overlap, seed=seed).accuracy for seed in range(n_trials)
        ]
        for overlap in overlaps
    }
