"""Mirror finished runs in Weights & Biases, from their records."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.cli._options import add_wandb


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a folder of records, e.g. runs")
    add_wandb(parser)


def main(options: argparse.Namespace, console: Console) -> int:
    """Mirror each record that is not there yet."""
    from benchmarks.tracking.settings import WandbSettings
    from benchmarks.tracking.sync import sync

    mode = None if options.wandb in (None, "auto") else options.wandb
    return sync(options.folder, settings=WandbSettings(mode=mode, project=options.wandb_project), console=console)
