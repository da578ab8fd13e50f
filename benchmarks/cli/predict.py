"""Say what a model that a run has left sees in images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from benchmarks.cli._options import check_device
from src_plugin.errors import ConfigError


def add(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of the command."""
    parser.add_argument("model", type=Path, metavar="FILE", help="a model file: run CONFIG --save-models leaves them")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="so many classes of each image; default: 3")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="weights of the backbone, if they lie elsewhere now"
    )
    parser.add_argument("--device", default="cpu", help="where the network computes: cpu (default), cuda, ...")


def main(options: argparse.Namespace, console: Console) -> int:
    """Print the likeliest classes of each image, with their probabilities."""
    if options.top < 1:
        raise ConfigError(f"--top must be 1 or more; got {options.top}")
    check_device(options.device)

    from benchmarks.runs.saved import load_model

    model = load_model(options.model, weights=options.weights).to(options.device)
    values, classes = model.predict(options.images).sort(dim=1, descending=True, stable=True)
    answers = [
        [(model.class_names[c], p) for c, p in zip(some[: options.top], row, strict=False)]
        for some, row in zip(classes.tolist(), values.tolist(), strict=True)
    ]
    if options.json:
        print(json.dumps([_as_json(*pair) for pair in zip(options.images, answers, strict=True)], indent=1))
    else:
        _print_table(options.images, answers, console)
    return 0


def _as_json(path: Path, answers: list[tuple[str, float]]) -> dict[str, object]:
    return {"image": str(path), "classes": [{"class": name, "probability": p} for name, p in answers]}


def _print_table(paths: list[Path], answers: list[list[tuple[str, float]]], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("image", "class", "probability", "then")
    for path, (first, *others) in zip(paths, answers, strict=True):
        then = ", ".join(f"{name} {p:.1%}" for name, p in others)
        table.add_row(*(Text(cell, overflow="fold") for cell in (str(path), first[0], f"{first[1]:.1%}", then)))
    console.print(table)
