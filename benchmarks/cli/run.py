"""Run what configs say and has no record yet; print tables, draw pictures."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.cli._jobs import check, run_jobs, say_what_would_run
from benchmarks.cli._options import add_changes, add_conditions
from benchmarks.configs.files import load_config
from benchmarks.console import say
from src_plugin.errors import ConfigError

if TYPE_CHECKING:  # what this imports takes seconds
    from benchmarks.configs.run import RunConfig


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configs", type=Path, nargs="+", help="files of configs/, e.g. configs/split_digits.yaml")
    parser.add_argument("--strategies", nargs="+", metavar="NAME", help="instead of those of the configs")
    add_changes(parser)
    kept = "leave a model file beside each record: python -m benchmarks predict FILE IMAGE... answers by it"
    parser.add_argument("--save-models", action="store_true", help=kept)
    add_conditions(parser)


def main(options: argparse.Namespace, console: Console) -> int:
    """Run, and show what was found; 1 if a run failed."""
    configs = _load(options)
    chosen = {name: list(dict.fromkeys(options.strategies or c.strategies)) for name, c in configs.items()}
    for name, config in configs.items():
        check(config, chosen[name], options)

    from benchmarks.runs.suite import by_seed, plan

    seeds = list(dict.fromkeys(options.seeds))
    jobs = [job for n, c in configs.items() for job in plan(c, strategies=chosen[n], seeds=seeds, out=options.out)]
    jobs = [replace(job, saves_model=options.save_models) for job in by_seed(jobs, seeds)]
    if options.dry_run:
        return say_what_would_run(jobs, options, console)
    records = run_jobs(jobs, options, console)

    from benchmarks.tables.picture import draw
    from benchmarks.tables.summary import describe, make_table

    for name in configs:
        own = [record for record in records if record.config_name == name]
        console.print(make_table(own, width=console.width))
        console.print(describe(own), style="dim", highlight=False)
        picture = draw(own, options.out / name / "accuracy.png")
        if picture:
            say(console, picture)
    kept = [job.model_path for job in jobs if options.save_models and job.model_path.exists()]
    if kept:
        say(console, f"models: {len(kept)}; python -m benchmarks predict {kept[0]} IMAGE...")
    return 1 if any(record.status == "failed" for record in records) else 0


def _load(options: argparse.Namespace) -> dict[str, RunConfig]:
    """Return the configs by their names, which must differ."""
    configs: dict[str, RunConfig] = {}
    for path in dict.fromkeys(options.configs):
        config = load_config(path, changes=options.changes)
        if config.name in configs:
            raise ConfigError(
                f"{path} is the second config called {config.name}, and its records would lie among those of the "
                "first; run one after the other, each with its own --out, or give one file another name"
            )
        configs[config.name] = config
    return configs
