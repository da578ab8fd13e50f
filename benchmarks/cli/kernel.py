"""Time the kernel's backends on the Split-MNIST head, or at other widths, with real stimuli."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console


def add(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--steps", type=_positive, default=15000, help="of the event backend (default: 15000)")
    add("--reference-steps", type=_positive, default=300, help="of the reference (default: 300)")
    add("--repeats", type=_positive, default=3, help="timings of each, the median counts (default: 3)")
    add("--widths", type=_positive, nargs="+", default=[1200], metavar="N", help="of hidden layers (default: 1200)")
    add("--before", type=Path, metavar="FILE", help="time another version of event.py beside it")
    add("--data-root", type=Path, metavar="DIR", help="take the mean image from MNIST's IDX files here")


def main(options: argparse.Namespace, console: Console) -> int:
    """Print the table, and whether the wanted ratio is reached."""
    from benchmarks.data.load import load_dataset
    from benchmarks.speed.kernel import WANTED_RATIO, load_backend, make_table, measure
    from src_plugin.kernel import BACKENDS

    image = None
    if options.data_root is not None:
        images = load_dataset("mnist", data_root=options.data_root).train_images
        image = images[:].mean(dim=0).double().reshape(28, 28).numpy()
    if options.before is not None:
        BACKENDS["before"] = load_backend(options.before)
    result = measure(
        options.steps, options.reference_steps, mean_image=image, widths=options.widths, repeats=options.repeats
    )
    console.print(make_table(result))
    ratio = result["rows"][0]["ratio"]["reference"]
    verdict = "reached" if ratio >= WANTED_RATIO else "missed"
    console.print(f"Wanted on the first row: at least {WANTED_RATIO}; {verdict}.", highlight=False)
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more; got {number}")
    return number
