"""What options that several commands have come to, and what they must not be."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what these import takes seconds, and complains until `main` asks it not to
    from benchmarks.streams.loading import Places
    from benchmarks.tracking.settings import WandbSettings


def places(options: argparse.Namespace) -> Places:
    """Return where data and features are."""
    from benchmarks.streams.loading import Places

    roots = tuple(options.data_root)
    return Places(roots, options.download, options.features, options.device, options.openers)


def wandb_settings(options: argparse.Namespace, *, beside: Path, n_runs: int = 1) -> WandbSettings | None:
    """Return where runs are mirrored; None if that is not asked for.

    Args:
        options: Of the command.
        beside: A folder of the runs, where wandb's files lie.
        n_runs: Of one process; a sweep starts one for every run.
    """
    if options.wandb in (None, "disabled"):
        return None
    from benchmarks.tracking.settings import WandbSettings, check_sweep

    check_sweep(n_runs)

    mode = None if options.wandb == "auto" else options.wandb
    return WandbSettings(mode=mode, project=options.wandb_project).decided(beside=beside)


def check_conditions(options: argparse.Namespace) -> None:
    """Refuse, before anything is computed, conditions under which nothing could run.

    Raises:
        ConfigError: A number that cannot be meant, a file as --out, or a device that is not here.
    """
    from src_plugin.errors import ConfigError

    if options.threads is not None and options.threads < 1:
        raise ConfigError(f"--threads must be 1 or more; got {options.threads}")
    if options.workers is not None and options.workers < 1:
        raise ConfigError(f"--workers must be 1 or more; got {options.workers}")
    if options.workers == 1 and options.cluster is not None:
        raise ConfigError("--workers 1 is this process alone; leave --cluster out, or give more --workers")
    if any(seed < 0 or seed >= 2**32 for seed in options.seeds):
        raise ConfigError(f"--seeds must be whole numbers from 0 to 2^32 - 1; got {options.seeds}")
    for place in (options.out, *options.out.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError(f"--out {options.out}: {place} is a file; give a folder for the records")
    check_device(options.device)


def check_device(device: str) -> None:
    """Refuse a device that is not here.

    Raises:
        ConfigError: It cannot be used; torch's reason is given.
    """
    import torch

    from src_plugin.errors import ConfigError

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device} cannot be used here: {str(error).splitlines()[0]}") from error
