"""What the commands do: read configs, run, print. `__main__.py` parses what is asked for and calls them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from src_plugin.errors import SRCError

if TYPE_CHECKING:  # what these import takes seconds, and complains until `main` asks it not to
    from benchmarks.config import RunConfig
    from benchmarks.loading import Places
    from benchmarks.records import Record
    from benchmarks.suite import Job
    from benchmarks.wandb_settings import WandbSettings


def _run(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.config_files import load_config
    from benchmarks.suite import by_seed, plan
    from src_plugin.errors import ConfigError

    configs: dict[str, RunConfig] = {}
    for path in dict.fromkeys(options.configs):
        config = load_config(path, changes=options.changes)
        if config.name in configs:
            raise ConfigError(
                f"{path} is the second config called {config.name}, and its records would lie among those of the "
                "first; run one after the other, each with its own --out, or give one file another name"
            )
        configs[config.name] = config
    seeds = list(dict.fromkeys(options.seeds))
    jobs: list[Job] = []
    for config in configs.values():
        strategies = list(dict.fromkeys(options.strategies or config.strategies))
        _check(config, strategies, options)
        jobs += plan(config, strategies=strategies, seeds=seeds, out=options.out)
    jobs = by_seed(jobs, seeds)
    if options.dry_run:
        return _say_what_would_run(jobs, options, console)
    records = _run_jobs(jobs, options, console)

    from benchmarks.picture import draw
    from benchmarks.tables import describe, make_table

    for name in configs:
        own = [record for record in records if record.config_name == name]
        console.print(make_table(own, width=console.width))
        console.print(describe(own), style="dim", highlight=False)
        picture = draw(own, options.out / name / "accuracy.png")
        if picture:
            console.print(str(picture), soft_wrap=True, highlight=False, markup=False)
    return 1 if any(record.status == "failed" for record in records) else 0


def _search(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.config_files import load_config
    from benchmarks.search import choose, make_search_table, plan_search, seen_by_search, settings_file

    config = load_config(options.config)
    strategies, seeds = list(dict.fromkeys(options.strategies)), list(dict.fromkeys(options.seeds))
    _check(config, strategies, options)
    trials = plan_search(config, strategies=strategies, seeds=seeds, out=options.out)
    jobs = [job for trial in trials for job in trial.jobs]
    if options.dry_run:
        return _say_what_would_run(jobs, options, console)
    records = _run_jobs(jobs, options, console)
    found = choose(trials, dict(zip(jobs, records, strict=True)))
    seen = seen_by_search(config)
    console.print(make_search_table(found, f"{config.name}: {seen}"))
    if options.write is not None:
        extends = os.path.relpath(options.config, options.write.parent)
        given = f"--strategies {' '.join(strategies)} --seeds {' '.join(map(str, seeds))}"
        command = f"python -m benchmarks search {options.config.as_posix()} {given}"
        options.write.write_text(settings_file(found, extends=extends, seen=seen, command=command), encoding="utf-8")
        console.print(f"wrote {options.write}", highlight=False, markup=False)
    return 0


def _regimes(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.curves import draw_curves
    from benchmarks.heat_map import draw_heat_map
    from benchmarks.matrix import describe_matrix, make_rows, make_tables, markdown
    from benchmarks.readme import between_marks, read_document, write_between_marks
    from benchmarks.records import read_record
    from benchmarks.regimes import load_matrix
    from benchmarks.suite import plan_matrix

    matrix = load_matrix(options.matrix).select(regimes=options.only, datasets=options.datasets)
    _check_conditions(options)
    if options.write is not None:
        between_marks(read_document(options.write), "", where=str(options.write))  # to be refused now, not after hours
    seeds, out = list(dict.fromkeys(options.seeds)), options.out / matrix.stem
    jobs = plan_matrix(matrix, methods=options.methods, seeds=seeds, out=out)
    if options.dry_run:
        return _say_what_would_run(jobs, options, console)
    made = [] if options.table_only else _run_jobs(jobs, options, console)
    every = plan_matrix(matrix, methods=None, seeds=seeds, out=out)
    records = [read_record(job.path) for job in every if job.path.exists()]
    if not records:
        raise SRCError(f"{out} has no records of {options.matrix} with these seeds; without --table-only they are made")

    rows = make_rows(matrix, records)
    for table in make_tables(matrix, rows):
        console.print(table)
    console.print(describe_matrix(records), style="dim", highlight=False)
    draw = {"heat_map": draw_heat_map, "curves": draw_curves}[matrix.draws]
    picture = draw(rows, out / f"{matrix.draws}.png", title=matrix.title, note=describe_matrix(records))
    console.print(str(picture), soft_wrap=True, highlight=False, markup=False)
    if options.write is not None:
        write_between_marks(options.write, markdown(rows, records))
        console.print(f"wrote the tables of {options.write}", highlight=False, markup=False)
    return 1 if any(record.status == "failed" for record in made) else 0


def _say_what_would_run(jobs: Sequence[Job], options: argparse.Namespace, console: Console) -> int:
    from benchmarks.suite import expected_seconds, read_done

    _check_splits(jobs, options)
    is_one = len({job.config.name for job in jobs}) == 1
    todo = []
    for job in jobs:
        is_done = read_done(job, console) is not None
        todo += [] if is_done else [job]
        name = job.name if is_one else job.full_name
        state = "done" if is_done else "to run"
        console.print(f"{state:>6}  {name}  {job.path}", soft_wrap=True, highlight=False, markup=False)
    known = [seconds for seconds in expected_seconds(todo) if seconds is not None]
    cost = f"{len(todo)} of {len(jobs)} runs to make"
    if known:
        cost += f"; by the runs of other seeds {sum(known) / 60:.1f} min, one after the other"
    if len(known) < len(todo):
        cost += f"; of {len(todo) - len(known)} no seed was run yet, so their cost is not known"
    console.print(cost, soft_wrap=True, highlight=False)
    return 0


def _run_jobs(jobs: Sequence[Job], options: argparse.Namespace, console: Console) -> list[Record]:
    from benchmarks.suite import run_suite

    _check_splits(jobs, options)
    wandb = _wandb(options, beside=options.out, n_runs=len(jobs))
    if wandb is not None:
        from benchmarks.wandb_settings import announce

        announce(wandb, records=options.out, console=console)
    return run_suite(
        jobs,
        console=console,
        places=_places(options),
        device=options.device,
        threads=options.threads,
        workers=options.workers,
        cluster=options.cluster,
        wandb=wandb,
    )


def _check_splits(jobs: Sequence[Job], options: argparse.Namespace) -> None:
    """Refuse, before anything is computed, streams that cannot be cut as their configs say."""
    from benchmarks.loading import check_dataset

    for config in {id(job.config): job.config for job in jobs}.values():
        check_dataset(config, places=_places(options), seeds=options.seeds)


def _places(options: argparse.Namespace) -> Places:
    from benchmarks.loading import Places

    roots = tuple(options.data_root)
    return Places(roots, options.download, options.features, options.device, options.openers)


def _wandb(options: argparse.Namespace, *, beside: Path, n_runs: int = 1) -> WandbSettings | None:
    """Return where runs are mirrored; None if that is not asked for."""
    if options.wandb in (None, "disabled"):
        return None
    from benchmarks.wandb_settings import WandbSettings, check_sweep

    check_sweep(n_runs)

    mode = None if options.wandb == "auto" else options.wandb
    return WandbSettings(mode=mode, project=options.wandb_project).decided(beside=beside)


def _check(config: RunConfig, strategies: Sequence[str], options: argparse.Namespace) -> None:
    """Refuse, before anything runs, what could not run; of a method that only does not fit, the suite says so."""
    from benchmarks.loading import check_dataset
    from strategies import find_row

    check_dataset(config)
    _check_conditions(options)
    for strategy in strategies:
        find_row(strategy)


def _check_conditions(options: argparse.Namespace) -> None:
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
    _check_device(options.device)


def _check_device(device: str) -> None:
    import torch

    from src_plugin.errors import ConfigError

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device} cannot be used here: {str(error).splitlines()[0]}") from error


def _table(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.readme import write_between_marks
    from benchmarks.records import find_records
    from benchmarks.tables import describe, group_records, make_table, what_differs

    records = list(find_records(options.folder))
    groups = group_records(records)
    if not groups:
        raise SRCError(f"there are no records in {options.folder}; `python -m benchmarks run <config>` makes them")
    notes = what_differs(groups)
    for setting, group in groups.items():
        console.print(make_table(group, width=console.width, note=notes[setting]))
        console.print(describe(group), style="dim", highlight=False)
    if options.write is not None:
        write_between_marks(options.write, _markdown(records, compare=options.compare))
        console.print(f"wrote the table of {options.write}", highlight=False, markup=False)
    return 0


def _markdown(records: Sequence[Record], *, compare: bool) -> str:
    from benchmarks.comparison import comparison
    from benchmarks.published import load_published
    from benchmarks.readme import markdown_table

    return comparison(records, load_published()) if compare else markdown_table(records)


def _report(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.report import report

    page = report(options.folders, out=options.out, console=console)
    console.print(str(page), soft_wrap=True, highlight=False, markup=False)
    return 0


def _features(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.config_files import load_config
    from benchmarks.loading import check_dataset, load_for
    from src_plugin.errors import ConfigError

    _check_device(options.device)
    configs = [load_config(path) for path in options.configs]
    places = replace(_places(options), repair=options.repair, n_devices=options.devices, n_nodes=options.num_nodes)
    for config in configs:
        check_dataset(config)
        if config.backbone is None or not config.backbone.cached:
            raise ConfigError(f"{config.name} keeps no features: it has no backbone, or one with cached: false")
    for config in configs:
        if options.time is not None:
            _time_features(config, options, console)
            continue
        data = load_for(config, places, console=console)
        keys = (data.provenance or {})["key"].split("+")
        for found, key in zip((data, *data.then), keys, strict=True):
            shapes = f"{tuple(found.train_images.shape)} and {tuple(found.test_images.shape)}"
            where = options.features / key
            console.print(
                f"{config.name}: features {shapes} of {found.name} in {where}", highlight=False, soft_wrap=True
            )
    return 0


def _time_features(config: RunConfig, options: argparse.Namespace, console: Console) -> None:
    from benchmarks.features.backbones import build_backbone
    from benchmarks.features.dataset import check_weights_file
    from benchmarks.features.extraction_speed import time_extraction, write_time_record
    from benchmarks.loading import load_images_for

    assert config.backbone is not None
    check_weights_file(config.backbone)
    images = load_images_for(config, _places(options))
    backbone = build_backbone(config.backbone)
    found = time_extraction(
        images,
        backbone,
        config.backbone,
        n_images=options.time,
        repeats=options.turns,
        workers=options.openers,
        device=options.device,
    )
    if options.time_record is not None:
        write_time_record(options.time_record, found, config=config)
    n = len(images.train) + len(images.test)
    minutes = n / found["extraction"] / 60
    computing = found["processor_ratio"]
    alone = "" if computing is None else f", by processor time {computing:.2f}"
    console.print(
        f"{config.name}: {found['extraction']:.1f} images/s, the plain loop {found['plain']:.1f} "
        f"(ratio {found['ratio']:.2f}, in turns {found['ratios'][0]:.2f} to {found['ratios'][-1]:.2f}{alone}); "
        f"{n:,} images take {minutes:.1f} min",
        highlight=False,
        soft_wrap=True,
    )


def _pretrain(options: argparse.Namespace, console: Console) -> int:
    import hashlib

    from benchmarks.features.pretrain import pretrain
    from benchmarks.features.pretrain_config import load_pretrain_config
    from benchmarks.loading import load_first

    config = load_pretrain_config(options.config)
    devices = int(options.devices) if options.devices.lstrip("-").isdigit() else options.devices

    def train(root: Path | None, download: bool) -> Path:
        return pretrain(
            config,
            data_root=root,
            out=options.out,
            download=download,
            accelerator=options.accelerator,
            devices=devices,
            strategy=options.strategy,
            num_nodes=options.num_nodes,
            workers=options.openers,
            threads=options.threads,
            max_seconds=options.max_seconds,
            resume=not options.restart,
            wandb=_wandb(options, beside=options.out),
            console=console,
        )

    path = load_first(train, options.data_root, download=options.download)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = f"backbone:\n  name: paper_vgg\n  weights: {path}\n  weights_sha256: {digest}"
    console.print(f"for a config:\n{lines}", soft_wrap=True, highlight=False, markup=False)
    return 0


def _wandb_sync(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.wandb_settings import WandbSettings
    from benchmarks.wandb_sync import sync

    mode = None if options.wandb in (None, "auto") else options.wandb
    return sync(options.folder, settings=WandbSettings(mode=mode, project=options.wandb_project), console=console)


def _verify(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.verification.verifying import verify

    _check_device(options.device)
    return verify(
        options.paths,
        console=console,
        rerun=options.rerun,
        seeds=options.seeds,
        places=_places(options),
        device=options.device,
        threads=options.threads,
    )


def _submit(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.verification.submitting import submit

    folder = submit(
        options.folders,
        out=options.out,
        console=console,
        note=options.note,
        allow_dirty=options.allow_dirty,
        allow_failed=options.allow_failed,
    )
    console.print(str(folder), soft_wrap=True, highlight=False, markup=False)
    return 0


def _config_reference(options: argparse.Namespace, console: Console) -> int:
    from benchmarks.config_reference import reference, write_reference

    if options.write is None:
        print(reference())
        return 0
    write_reference(options.write)
    console.print(f"wrote {options.write}", highlight=False, markup=False)
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace, Console], int]] = {
    "run": _run,
    "search": _search,
    "regimes": _regimes,
    "table": _table,
    "report": _report,
    "verify": _verify,
    "submit": _submit,
    "features": _features,
    "pretrain": _pretrain,
    "wandb-sync": _wandb_sync,
    "config-reference": _config_reference,
}
