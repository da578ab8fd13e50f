"""The command `explain`: run what has no record yet, print tables, draw pictures."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.options import check_device, places

if TYPE_CHECKING:  # what these import takes seconds
    from benchmarks.config import RunConfig

ADAM = ("training.optimizer=adam", "training.lr=0.001")


def explain(options: argparse.Namespace, console: Console) -> int:
    """Show what simulated nights do, and what may stand in their place; or how well formulas predict them."""
    import torch

    from benchmarks.config_files import load_config

    check_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    configs = []
    for path in dict.fromkeys(options.configs):
        configs.append(load_config(path, changes=options.changes))
        if options.adam:
            configs.append(load_config(path, changes=[*options.changes, *ADAM]))
    return {"closed-form": _closed_form, "prediction": _prediction}[options.what](configs, options, console)


def _closed_form(configs: list[RunConfig], options: argparse.Namespace, console: Console) -> int:
    from benchmarks.explain.picture import draw_nights
    from benchmarks.explain.records import path_of, read_all, write
    from benchmarks.explain.running import explain as explain_run
    from benchmarks.explain.running import held_out
    from benchmarks.explain.tables import markdown
    from benchmarks.loading import check_dataset, load_for
    from benchmarks.readme import between_marks, read_document, write_between_marks

    if options.write is not None:
        between_marks(read_document(options.write), "", where=str(options.write))  # to be refused now
    for config in configs:
        check_dataset(held_out(config), places=places(options), seeds=options.seeds)
    folder = options.out / "closed_form"
    for seed in dict.fromkeys(options.seeds):
        for config in configs:
            path = path_of(folder, config, seed)
            if path.exists():
                continue
            data = load_for(held_out(config), places(options), console=console, seeds=options.seeds)
            write(explain_run(config, seed=seed, data=data), path)
            console.print(f"wrote {path}", soft_wrap=True, highlight=False, markup=False)
    records = read_all(folder)
    console.print(markdown(records), soft_wrap=True, highlight=False, markup=False)
    for picture in draw_nights(records, folder / "nights.png"):
        console.print(str(picture), soft_wrap=True, highlight=False, markup=False)
    if options.write is not None:
        write_between_marks(options.write, markdown(records))
        console.print(f"wrote the tables of {options.write}", highlight=False, markup=False)
    return 0


def _prediction(configs: list[RunConfig], options: argparse.Namespace, console: Console) -> int:
    from benchmarks.explain.prediction import predict_grid
    from benchmarks.explain.prediction_picture import draw_grid
    from benchmarks.explain.records import path_of, write
    from benchmarks.explain.running import held_out
    from benchmarks.loading import load_for

    for config in configs:
        for seed in dict.fromkeys(options.seeds):
            path = path_of(options.out / "prediction", config, seed)
            data = load_for(held_out(config), places(options), console=console, seeds=options.seeds)
            record = predict_grid(config, seed=seed, data=data)
            write(record, path)
            for made in (path, *draw_grid(record, path.with_suffix(".png"))):
                console.print(str(made), soft_wrap=True, highlight=False, markup=False)
    return 0
