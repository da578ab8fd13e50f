"""Show what simulated nights do, and what may stand in their place."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks.cli._options import add_changes, add_places, check_device, places
from benchmarks.configs.checks import check_names
from benchmarks.configs.files import load_config
from benchmarks.console import say
from benchmarks.markdown import check_marks, write_between_marks

if TYPE_CHECKING:  # what these import takes seconds
    from benchmarks.configs.run import RunConfig

CLOSED_FORM, PREDICTION = "closed_form", "prediction"
"""Folders of records."""

ADAM = ("training.optimizer=adam", "training.lr=0.001")


def add(parser: argparse.ArgumentParser) -> None:
    what = "closed-form: each night again with something else in the place of its sleep; prediction: a grid of sleeps"
    parser.add_argument("what", choices=("closed-form", "prediction"), help=what)
    parser.add_argument("configs", type=Path, nargs="+", help="files of configs/; measured on held-out images")
    add_changes(parser)
    parser.add_argument("--adam", action="store_true", help="each config once more, trained by Adam 0.001")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], metavar="N", help="default: 0 1")
    place = "folder of folders of records; default: runs/explain"
    parser.add_argument("--out", type=Path, default=Path("runs/explain"), metavar="DIR", help=place)
    parser.add_argument("--write", type=Path, metavar="FILE", help="also make the marked tables of a document anew")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch; default: torch's own choice")
    add_places(parser)


def main(options: argparse.Namespace, console: Console) -> int:
    """Show what simulated nights do, and what may stand in their place; or how well formulas predict them."""
    configs = []
    for path in dict.fromkeys(options.configs):
        configs.append(load_config(path, changes=options.changes))
        if options.adam:
            configs.append(load_config(path, changes=[*options.changes, *ADAM]))
    for config in configs:
        check_names(config, ())
    if options.write is not None:
        check_marks(options.write)  # to be refused now, not after hours
    check_device(options.device)

    import torch

    from benchmarks.explain.running import held_out
    from benchmarks.streams.loading import check_dataset

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    for config in configs:
        check_dataset(held_out(config), places=places(options), seeds=options.seeds)
    {"closed-form": _closed_form, "prediction": _prediction}[options.what](configs, options, console)
    tables = "\n\n".join(_tables(options.out))
    say(console, tables)
    if options.write is not None:
        write_between_marks(options.write, tables)
        say(console, f"wrote the tables of {options.write}")
    return 0


def _closed_form(configs: list[RunConfig], options: argparse.Namespace, console: Console) -> None:
    from benchmarks.explain.picture import draw_nights
    from benchmarks.explain.records import read_all
    from benchmarks.explain.running import explain as explain_run

    folder = options.out / CLOSED_FORM
    for path, make in _missing(configs, folder, explain_run, options, console):
        make()
        say(console, path)
    for picture in draw_nights(read_all(folder), folder / "nights.png"):
        say(console, picture)


def _prediction(configs: list[RunConfig], options: argparse.Namespace, console: Console) -> None:
    from benchmarks.explain.prediction import predict_grid
    from benchmarks.explain.prediction_picture import draw_grid
    from benchmarks.explain.records import paths_in, read

    folder = options.out / PREDICTION
    for path, make in _missing(configs, folder, predict_grid, options, console):
        make()
        say(console, path)
    for path in paths_in(folder):
        for picture in draw_grid(read(path), path.with_suffix(".png")):
            say(console, picture)


def _missing(
    configs: list[RunConfig],
    folder: Path,
    explain_one: Callable[..., dict[str, Any]],
    options: argparse.Namespace,
    console: Console,
) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Yield where records are not yet, and what makes them; seed by seed, so that all configs soon have one."""
    from benchmarks.explain.records import path_of, write
    from benchmarks.records.packed import exists
    from benchmarks.streams.loading import load_for

    for seed in dict.fromkeys(options.seeds):
        for config in configs:
            path = path_of(folder, config, seed)

            def make(config: RunConfig = config, seed: int = seed, path: Path = path) -> None:
                data = load_for(config, places(options), console=console, seeds=options.seeds)
                write(explain_one(config, seed=seed, data=data), path)

            if not exists(path):
                yield path, make


def _tables(out: Path) -> Iterator[str]:
    """Yield the tables of all records there are."""
    from benchmarks.explain.prediction_table import prediction_table
    from benchmarks.explain.records import read_all
    from benchmarks.explain.tables import markdown

    nights = read_all(out / CLOSED_FORM)
    if nights:
        yield markdown(nights)
    for record in read_all(out / PREDICTION):
        yield prediction_table(record)
