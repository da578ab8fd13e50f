"""Choose numbers of methods on held-out images of first experiences."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console

from benchmarks.cli._jobs import check, run_jobs, say_what_would_run
from benchmarks.cli._options import add_conditions
from benchmarks.configs.files import load_config
from benchmarks.console import say


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="a file of configs/; its stream, network and training are used")
    parser.add_argument("--strategies", nargs="+", metavar="NAME", required=True, help="methods with numbers to choose")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write a config that extends this one by the choice")
    add_conditions(parser, seeds=[100, 101])


def main(options: argparse.Namespace, console: Console) -> int:
    """Try all candidates, and print the best of each method."""
    config = load_config(options.config)
    strategies, seeds = list(dict.fromkeys(options.strategies)), list(dict.fromkeys(options.seeds))
    check(config, strategies, options)

    from benchmarks.runs.search import choose, make_search_table, plan_search, seen_by_search, settings_file

    trials = plan_search(config, strategies=strategies, seeds=seeds, out=options.out)
    jobs = [job for trial in trials for job in trial.jobs]
    if options.dry_run:
        return say_what_would_run(jobs, options, console)
    records = run_jobs(jobs, options, console)
    found = choose(trials, dict(zip(jobs, records, strict=True)))
    seen = seen_by_search(config)
    console.print(make_search_table(found, f"{config.name}: {seen}"))
    if options.write is not None:
        extends = os.path.relpath(options.config, options.write.parent)
        given = f"--strategies {' '.join(strategies)} --seeds {' '.join(map(str, seeds))}"
        command = f"python -m benchmarks search {options.config.as_posix()} {given}"
        options.write.write_text(settings_file(found, extends=extends, seen=seen, command=command), encoding="utf-8")
        say(console, f"wrote {options.write}")
    return 0
