"""Show what sleep does: figures of the article made again, nights taken apart, and what may stand in their place."""

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

CLOSED_FORM, PREDICTION, PATCHES, CONTROLS, NIGHT = "closed_form", "prediction", "patches", "controls", "night"
CORRELATIONS, NEURONS, DEPTH = "correlations", "neurons", "depth"
"""Folders of records."""

Act = Callable[[argparse.Namespace, Console], str]
"""Makes what is missing, and returns the tables."""

ADAM = ("training.optimizer=adam", "training.lr=0.001")


def add(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(dest="what", required=True)
    for name, (words, act) in OF_STREAMS.items():
        command = what.add_parser(name, help=words, description=words)
        _add_streams(command)
        command.set_defaults(act=act)
        if act in OF_SLEEPS:
            presets = "presets of the sleep, each for every config; default: the config's own"
            command.add_argument("--sleeps", nargs="+", metavar="PRESET", help=presets)
    words = "figure 1 of the article: four binary images that overlap"
    command = what.add_parser("patches", help=words, description=words)
    command.add_argument("--overlaps", nargs="+", type=int, metavar="N", help="shared pixels; default: 0 to 20")
    command.add_argument("--trials", type=int, default=10, metavar="N", help="of each overlap; default: 10")
    _add_results(command)
    command.set_defaults(act=_patches)


def _add_streams(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configs", type=Path, nargs="+", help="files of configs/; measured on held-out images")
    add_changes(parser)
    parser.add_argument("--adam", action="store_true", help="each config once more, trained by Adam 0.001")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], metavar="N", help="default: 0 1")
    _add_results(parser)
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch; default: torch's own choice")
    add_places(parser)


def _add_results(parser: argparse.ArgumentParser) -> None:
    place = "folder of folders of records; default: runs/explain"
    parser.add_argument("--out", type=Path, default=Path("runs/explain"), metavar="DIR", help=place)
    parser.add_argument("--write", type=Path, metavar="FILE", help="also make the marked tables of a document anew")


def main(options: argparse.Namespace, console: Console) -> int:
    """Make what is missing of the records of an explanation, its pictures and its tables."""
    if options.write is not None:
        check_marks(options.write)  # to be refused now, not after hours
    tables = options.act(options, console)
    say(console, tables)
    if options.write is not None:
        write_between_marks(options.write, tables)
        say(console, f"wrote the tables of {options.write}")
    return 0


def _patches(options: argparse.Namespace, console: Console) -> str:
    from benchmarks.explain.patches.running import OVERLAPS, check_request, explain_patches

    overlaps = tuple(sorted(set(OVERLAPS if options.overlaps is None else options.overlaps)))
    check_request(overlaps, options.trials)
    from benchmarks.explain.patches.picture import draw_patches_figure
    from benchmarks.explain.patches.table import markdown
    from benchmarks.explain.records import read, write
    from benchmarks.records.packed import exists

    path = options.out / PATCHES / f"patches-seed0-{options.trials}trials-{_short(overlaps)}.json"
    if not exists(path):
        write(explain_patches(overlaps, n_trials=options.trials), path)
        say(console, path)
    record = read(path)
    for picture in draw_patches_figure(record, path.with_suffix(".png")):
        say(console, picture)
    return markdown(record)


def _short(overlaps: tuple[int, ...]) -> str:
    """Return overlaps as a part of a file's name."""
    is_range = overlaps == tuple(range(overlaps[0], overlaps[-1] + 1))
    return f"{overlaps[0]}to{overlaps[-1]}" if is_range else "_".join(map(str, overlaps))


def _configs(options: argparse.Namespace) -> list[RunConfig]:
    """Return all configs, after every check that costs no time."""
    configs = []
    for path in dict.fromkeys(options.configs):
        configs.append(load_config(path, changes=options.changes))
        if options.adam:
            configs.append(load_config(path, changes=[*options.changes, *ADAM]))
    for config in configs:
        check_names(config, ())
    check_device(options.device)

    import torch

    from benchmarks.explain.running import measured_on_held_out
    from benchmarks.streams.loading import check_dataset

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    for config in configs:
        check_dataset(measured_on_held_out(config), places=places(options), seeds=options.seeds)
    return configs


def _of_sleeps(
    options: argparse.Namespace, console: Console, folder: str, explain_one: Callable[..., dict[str, Any]]
) -> list[dict[str, Any]]:
    """Make what is missing of every config under every preset asked for, and return all records of the folder."""
    from benchmarks.explain.controls.streams import with_sleep
    from benchmarks.explain.records import read_all
    from benchmarks.explain.running import measured_on_held_out

    sleeps: list[str | None] = options.sleeps or [None]
    configs = [measured_on_held_out(with_sleep(config, preset)) for config in options.found for preset in sleeps]
    for path, make in _missing(configs, options.out / folder, explain_one, options, console):
        make()
        say(console, path)
    return read_all(options.out / folder)


def _controls(options: argparse.Namespace, console: Console) -> str:
    options.found = _configs(options)  # before anything heavy is imported
    from benchmarks.explain.controls.picture import draw_controls
    from benchmarks.explain.controls.streams import explain_controls
    from benchmarks.explain.controls.table import markdown

    records = _of_sleeps(options, console, CONTROLS, explain_controls)
    for picture in draw_controls(records, options.out / CONTROLS / "controls.png"):
        say(console, picture)
    return markdown(records)


def _correlations(options: argparse.Namespace, console: Console) -> str:
    options.found = _configs(options)  # before anything heavy is imported
    from benchmarks.explain.correlations.picture import draw_correlations
    from benchmarks.explain.correlations.running import explain_correlations
    from benchmarks.explain.correlations.table import markdown

    records = _of_sleeps(options, console, CORRELATIONS, explain_correlations)
    for picture in draw_correlations(records, options.out / CORRELATIONS / "correlations.png"):
        say(console, picture)
    return markdown(records)


def _neurons(options: argparse.Namespace, console: Console) -> str:
    options.found = _configs(options)  # before anything heavy is imported
    from benchmarks.explain.neurons.picture import draw_neurons
    from benchmarks.explain.neurons.running import explain_neurons
    from benchmarks.explain.neurons.table import markdown

    records = _of_sleeps(options, console, NEURONS, explain_neurons)
    for picture in draw_neurons(records, options.out / NEURONS / "neurons.png"):
        say(console, picture)
    return markdown(records)


def _depth(options: argparse.Namespace, console: Console) -> str:
    options.found = _configs(options)  # before anything heavy is imported
    from benchmarks.explain.depth.picture import draw_depth
    from benchmarks.explain.depth.running import explain_depth
    from benchmarks.explain.depth.table import markdown

    records = _of_sleeps(options, console, DEPTH, explain_depth)
    for picture in draw_depth(records, options.out / DEPTH / "depth.png"):
        say(console, picture)
    return markdown(records)


def _night(options: argparse.Namespace, console: Console) -> str:
    given = _configs(options)  # before anything heavy is imported
    from benchmarks.explain.one_night.picture import draw_night
    from benchmarks.explain.one_night.running import explain_one_night
    from benchmarks.explain.one_night.table import markdown
    from benchmarks.explain.records import paths_in, read
    from benchmarks.explain.running import held_out

    configs = [held_out(config) for config in given]
    folder = options.out / NIGHT
    for path, make in _missing(configs, folder, explain_one_night, options, console):
        make()
        say(console, path)
    records = {path: read(path) for path in paths_in(folder)}
    for path, record in records.items():
        for picture in draw_night(record, path.with_suffix(".png")):
            say(console, picture)
    return "\n\n".join(markdown(record) for record in records.values())


def _closed_form(options: argparse.Namespace, console: Console) -> str:
    given = _configs(options)  # before anything heavy is imported
    from benchmarks.explain.picture import draw_nights
    from benchmarks.explain.records import read_all
    from benchmarks.explain.running import explain as explain_run
    from benchmarks.explain.running import held_out

    configs = [held_out(config) for config in given]
    folder = options.out / CLOSED_FORM
    for path, make in _missing(configs, folder, explain_run, options, console):
        make()
        say(console, path)
    for picture in draw_nights(read_all(folder), folder / "nights.png"):
        say(console, picture)
    return _tables(options.out)


def _prediction(options: argparse.Namespace, console: Console) -> str:
    given = _configs(options)  # before anything heavy is imported
    from benchmarks.explain.prediction import predict_grid
    from benchmarks.explain.prediction_picture import draw_grid
    from benchmarks.explain.records import paths_in, read
    from benchmarks.explain.running import held_out

    configs = [held_out(config) for config in given]
    folder = options.out / PREDICTION
    for path, make in _missing(configs, folder, predict_grid, options, console):
        make()
        say(console, path)
    for path in paths_in(folder):
        for picture in draw_grid(read(path), path.with_suffix(".png")):
            say(console, picture)
    return _tables(options.out)


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


def _tables(out: Path) -> str:
    """Return the tables of `docs/closed_form.md`: of all records of nights and of predictions there are."""
    from benchmarks.explain.prediction_table import prediction_table
    from benchmarks.explain.records import read_all
    from benchmarks.explain.tables import markdown

    nights = read_all(out / CLOSED_FORM)
    tables = [markdown(nights)] if nights else []
    return "\n\n".join([*tables, *(prediction_table(record) for record in read_all(out / PREDICTION))])


OF_STREAMS: dict[str, tuple[str, Act]] = {
    "closed-form": ("each night again with something else in the place of its sleep", _closed_form),
    "controls": ("whole streams again with each control in the place of every sleep", _controls),
    "correlations": ("figure 4 of the article: hidden activity before and after each sleep", _correlations),
    "depth": ("heads of one to six hidden layers, likeness to task 1, one task trained little", _depth),
    "neurons": ("figures 5 and 6: neurons of each class, their input, and who fires in noise", _neurons),
    "night": ("the last night of a stream as a page: spikes, rates, weights, accuracy", _night),
    "prediction": ("a grid of sleeps, beside what formulas say of them", _prediction),
}
"""Explanations that take configs -> what they show, and what makes them."""

OF_SLEEPS = (_controls, _correlations, _depth, _neurons)
"""Those of them that take presets of the sleep."""
