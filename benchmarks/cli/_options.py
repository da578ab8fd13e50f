"""Options that several commands share: what they are called, what they come to, and what they must not be."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src_plugin.errors import ConfigError

if TYPE_CHECKING:  # what these import takes seconds
    from benchmarks.streams.loading import Places
    from benchmarks.tracking.settings import WandbSettings


def add_conditions(parser: argparse.ArgumentParser, *, seeds: Sequence[int] = (0, 1, 2)) -> None:
    """Add what `run`, `search` and `regimes` share."""
    add = parser.add_argument
    usual = " ".join(map(str, seeds))
    add("--seeds", nargs="+", type=int, default=list(seeds), metavar="N", help=f"default: {usual}")
    add("--out", type=Path, default=Path("runs"), metavar="DIR", help="folder of records; default: runs")
    many = "runs made at the same time, in processes; default: 1, on a cluster as many as it has room for"
    add("--workers", type=int, metavar="N", help=many)
    add("--cluster", metavar="ADDRESS", help="make them on a Ray cluster: auto, host:port or ray://host:port")
    threads = "threads of torch; default: torch's own choice, with more workers one each"
    add("--threads", type=int, metavar="N", help=threads)
    add("--dry-run", action="store_true", help="check the configs, say what would run, and stop")
    add_places(parser)
    add_wandb(parser)


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add --set."""
    changes = "change configs, e.g. --set training.lr=0.1 sleep.set.prior=equal; their names then say so"
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="changes", help=changes
    )


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add where data and features are, and where they are computed."""
    add_data(parser)
    add = parser.add_argument
    kept = "folder where features of backbones are kept; default: features"
    add("--features", type=Path, default=Path("features"), metavar="DIR", help=kept)
    add("--openers", type=int, default=0, metavar="N", help="processes that open images for a backbone; default: 0")
    add("--device", default="cpu", help="where networks compute: cpu (default), cuda, cuda:1, ...")


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add where data are."""
    roots = "folder with a data set's files; give it again for another folder; default: data"
    parser.add_argument("--data-root", type=Path, action="append", default=[], metavar="DIR", help=roots)
    parser.add_argument("--download", action="store_true", help="fetch missing files into --data-root")


def add_wandb(parser: argparse.ArgumentParser) -> None:
    """Add what Weights & Biases is told."""
    what = "mirror runs in Weights & Biases; without a MODE online if there is a key, else offline"
    modes = ("auto", "online", "offline", "disabled")
    parser.add_argument("--wandb", nargs="?", choices=modes, const="auto", metavar="MODE", help=f"{what}; {modes}")
    parser.add_argument("--wandb-project", metavar="NAME", help="default: WANDB_PROJECT, or src-plugin")


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
    if device == "cpu":  # is always here
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device} cannot be used here: {str(error).splitlines()[0]}") from error
