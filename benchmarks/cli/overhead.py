"""Time what a suite costs beyond training and sleep."""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.configs.files import load_config
from benchmarks.configs.run import RunConfig


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, nargs="?", default=Path("configs/split_digits.yaml"))
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="folder with the data set's files")
    parser.add_argument("--repeats", type=int, default=3, help="turns, of which the median counts (default: 3)")
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", metavar="N", help="one table each (default: the config's)"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")


def main(options: argparse.Namespace, console: Console) -> int:
    """Print the tables, and whether the wanted share is reached."""
    config = load_config(options.config)

    import torch

    torch.set_num_threads(options.threads)
    for size in options.batch_sizes or [config.training.batch_size]:
        training = config.training.model_copy(update={"batch_size": size})
        _print_one(config.model_copy(update={"training": training}), options, console)
    return 0


def _print_one(config: RunConfig, options: argparse.Namespace, console: Console) -> None:
    from benchmarks.speed.overhead import WANTED, make_table, measure
    from benchmarks.streams.loading import Places

    places = Places(data_roots=(options.data_root,)) if options.data_root else Places()
    turns = measure(config, places=places, repeats=max(1, options.repeats))
    console.print(make_table(turns))
    own, over, watching = (
        100 * median(getattr(turn, name) for turn in turns) for name in ("own", "over_plain", "watching")
    )
    verdict = "reached" if own < 100 * WANTED else "missed"
    us = {clock: median(turn.us(clock) for turn in turns) for clock in ("training", "watching", "nights")}
    console.print(
        f"The suite adds {own:+.1f} % to a measured run (wanted: below {100 * WANTED:.0f}; {verdict}); with all of its "
        f"measuring it takes {over:+.1f} % of plain training and sleep. Watching adds {watching:+.1f} % to "
        f"training, sleep apart. A batch of {config.training.batch_size} takes {us['training']:.0f} us to train on in "
        f"memory, {us['watching']:.0f} us to watch, and {us['nights']:.0f} us of the nights.",
        highlight=False,
    )
