"""A small search for the numbers of the methods, the same for each: six candidates, on the first experiences alone.

    config -> first 3 experiences, a sixth of the training images held out -> six runs per method and seed -> settings

No test image and no later experience is seen, as in Chaudhry et al. 2019 (ICLR), who choose on the first three tasks.
Of a stream with no more than three experiences all are seen, for methods that hold weights act from the second one on;
then no experience is later, and test images are not seen all the same.
Candidates stand in the method's row of STRATEGIES. The best mean accuracy on the held-out images of these
experiences wins; a run that diverges counts nothing; of equals the first. The runs are ordinary runs with records of
their own, so a search resumes, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.table import Table

from benchmarks.configs.run import RunConfig
from benchmarks.records.record import Record
from benchmarks.runs.attempt import Job
from benchmarks.runs.suite import plan
from benchmarks.tables.summary import percent
from src_plugin.errors import ConfigError
from strategies import find_row

FIRST = 3


@dataclass(frozen=True)
class Trial:
    """One candidate of one method.

    Attributes:
        strategy: The method.
        settings: What is tried.
        jobs: A run for each seed.
    """

    strategy: str
    settings: Mapping[str, float]
    jobs: Sequence[Job]

    @property
    def name(self) -> str:
        """The settings, for people."""
        return ", ".join(f"{key} {value:g}" for key, value in self.settings.items())


def plan_search(config: RunConfig, *, strategies: Sequence[str], seeds: Sequence[int], out: Path) -> list[Trial]:
    """List the trials of some methods.

    Args:
        config: What the methods will be run on.
        strategies: Rows of STRATEGIES that have candidates.
        seeds: The same for every trial; not those of the runs that will be reported.
        out: Folder of the records.

    Raises:
        ConfigError: A method has nothing to search for.
    """
    trials = []
    for strategy in strategies:
        row, suffix = find_row(strategy)
        if suffix or not row.candidates:
            raise ConfigError(f"{strategy!r} has no numbers of its own to search for; leave it out")
        for settings in row.candidates:
            changed = _first_experiences(config, settings)
            trials.append(Trial(strategy, settings, plan(changed, strategies=[strategy], seeds=seeds, out=out)))
    return trials


def _first_experiences(config: RunConfig, settings: Mapping[str, float]) -> RunConfig:
    raw = config.model_dump()
    raw["name"] = f"search-{config.name}"
    raw["stream"] |= {"first": min(FIRST, config.stream.length), "validation": True}
    raw["settings"] |= settings
    return RunConfig.model_validate(raw)


def seen_by_search(config: RunConfig) -> str:
    """Return which images a search looks at, for people, and whether any experience is left that it does not see."""
    n = config.stream.length
    part = f"the first {FIRST} experiences" if n > FIRST else f"all {n} experiences (none is later)"
    return f"held-out training images of {part}"


@dataclass(frozen=True)
class Found:
    """What a search found for one method.

    Attributes:
        strategy: The method.
        trials: All of them, in order.
        scores: Mean accuracy of each on the held-out images, a fraction; a run that diverged counts 0.
        spreads: Standard deviation of each over seeds (ddof 1).
        diverged: Runs of each that diverged.
        best: Index of the chosen one.
    """

    strategy: str
    trials: Sequence[Trial]
    scores: Sequence[float]
    spreads: Sequence[float]
    diverged: Sequence[int]
    best: int

    @property
    def is_at_the_edge(self) -> bool:
        """Whether the best candidate is the first or the last of a line, so that a better one may lie outside."""
        return len(self.trials[0].settings) == 1 and self.best in (0, len(self.trials) - 1)

    @property
    def is_beside_a_divergence(self) -> bool:
        """Whether a neighbour of the best candidate diverged, so that this one may do so in a longer stream."""
        return any(self.diverged[max(0, self.best - 1) : self.best + 2])

    @property
    def remark(self) -> str:
        """What to say of the best candidate."""
        edge = ", at the edge" if self.is_at_the_edge else ""
        return f"chosen{edge}" + (", beside one that diverged" if self.is_beside_a_divergence else "")


def choose(trials: Sequence[Trial], records: Mapping[Job, Record]) -> list[Found]:
    """Choose the best trial of each method.

    Args:
        trials: From `plan_search`.
        records: The record of every job.

    Raises:
        ConfigError: A method has a run that failed or was skipped; it is named, with the reason.
    """
    found = []
    for strategy in dict.fromkeys(trial.strategy for trial in trials):
        own = [trial for trial in trials if trial.strategy == strategy]
        finals = [[_final(records[job], trial) for job in trial.jobs] for trial in own]
        scores = [float(np.mean(values)) for values in finals]
        spreads = [float(np.std(values, ddof=1)) if len(values) > 1 else 0.0 for values in finals]
        diverged = [sum(records[job].status == "diverged" for job in trial.jobs) for trial in own]
        found.append(Found(strategy, own, scores, spreads, diverged, best=int(np.argmax(scores))))
    return found


def _final(record: Record, trial: Trial) -> float:
    if record.status in ("failed", "skipped"):
        raise ConfigError(f"{trial.strategy} with {trial.name}, seed {record.seed}, {record.status}: {record.error}")
    return record.final_accuracy or 0.0


def make_search_table(found: Sequence[Found], title: str) -> Table:
    """Return a row per trial, the chosen ones marked."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in ("strategy", "settings"):
        table.add_column(heading, no_wrap=True)
    table.add_column("held-out images, mean ± sd", justify="right", no_wrap=True)
    table.add_column("")
    for item in found:
        table.add_section()
        for i, trial in enumerate(item.trials):
            mark = item.remark if i == item.best else ""
            lost, n = item.diverged[i], len(trial.jobs)
            score = f"{lost} of {n} diverged" if lost else percent(item.scores[i], item.spreads[i])
            table.add_row(item.strategy if i == 0 else "", trial.name, score, mark, style="bold" if mark else None)
    return table


def settings_file(found: Sequence[Found], *, extends: str, seen: str, command: str) -> str:
    """Return a config that extends another one by what was found, with the command that found it.

    Args:
        found: What was found.
        extends: Path of the config that it was found for.
        seen: On which images, see `seen_by_search`.
        command: What found it.
    """
    chosen: dict[str, Any] = {}
    for item in found:
        chosen |= item.trials[item.best].settings
    body = yaml.safe_dump({"extends": extends, "settings": chosen}, sort_keys=False)
    return f"# Found on {seen} by\n#   {command}\n{body}"
