"""Runs -> benchmarks and their rows: one row for every strategy and way of answering, beside what was published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from benchmarks.data.sets import dataset_title
from benchmarks.records.published import Published
from benchmarks.records.record import Record
from benchmarks.report.runs import PUBLISHED, SELF_REPORTED, VERIFIED, Run, slug, unique
from benchmarks.report.statistics import Gain, bootstrap_interval, gain, holm
from benchmarks.tables.results import Result, group_records, results_of


@dataclass(frozen=True)
class Row(Result):
    """A result with what a report adds.

    Attributes:
        runs: Its records and where they stand, by seed.
        gain: Against the same strategy without sleep; None where nothing can be paired.
    """

    runs: tuple[Run, ...] = ()
    gain: Gain | None = None

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """Bootstrap interval of the mean; None below two seeds."""
        return bootstrap_interval(list(self.finals.values()))

    @property
    def provenance(self) -> str:
        """Return "verified" if all runs are, "published" of a row without runs of ours, else "self-reported"."""
        if not self.runs:
            return PUBLISHED
        return VERIFIED if all(run.provenance == VERIFIED for run in self.runs) else SELF_REPORTED


@dataclass(frozen=True)
class Benchmark:
    """One setting: a config's stream, model and training.

    Attributes:
        name: Of the config; the hash of the setting is added where one name has several.
        slug: The same as a part of a path.
        family: See `Run`.
        rows: Naive first, joint last, then what is published and has no runs.
        runs: All of it.
    """

    name: str
    slug: str
    family: str
    rows: tuple[Row, ...]
    runs: tuple[Run, ...]

    @property
    def records(self) -> list[Record]:
        """Records of all runs."""
        return [run.record for run in self.runs]

    @property
    def measured(self) -> list[Record]:
        """Records of runs that met the stream; one that failed or was skipped has no class order, no experiences."""
        return [record for record in self.records if record.experiences]

    @property
    def config(self) -> dict[str, Any]:
        """Stream, model and training, the same for all."""
        return self.runs[0].record.config

    @property
    def dataset(self) -> str:
        """What the data set is called, images of one's own by their folders; "" if the config does not say."""
        stream = self.config.get("stream") or {}
        return dataset_title(str(stream.get("dataset", "")), stream.get("folder"), stream.get("then"))

    @property
    def n_experiences(self) -> int | None:
        """Experiences of the stream: as measured, else as configured; None if nothing says."""
        if self.measured:
            return len(self.measured[0].experiences)
        stream = self.config.get("stream") or {}
        counts = [stream.get("n_experiences"), stream.get("permutations")]
        counts += [len(stream[key]) for key in ("classes_per_experience", "experiences") if stream.get(key)]
        counts += [1 + len(stream["then"])] if stream.get("then") else []
        given = [count for count in (*counts, stream.get("first")) if count]
        return min(given) if given else None


def make_benchmarks(runs: Sequence[Run], published: Mapping[str, Mapping[str, Published]]) -> list[Benchmark]:
    """Return the benchmarks of some runs, in the order of their names.

    Args:
        runs: Of any settings.
        published: Config name -> strategy -> what was published.
    """
    run_of = {id(run.record): run for run in runs}
    groups = list(group_records(run.record for run in runs).items())
    names = Counter(config_name for (config_name, _), _ in groups)
    shown = [name if names[name] == 1 else f"{name} ({hash8})" for (name, hash8), _ in groups]
    benchmarks = []
    for name, place, ((config_name, _), records) in zip(shown, unique(list(map(slug, shown))), groups, strict=True):
        own = tuple(run_of[id(record)] for record in records)
        rows = _rows(results_of(records, there := published.get(config_name, {})), run_of, there)
        benchmarks.append(Benchmark(name, place, own[0].family, tuple(rows), own))
    return benchmarks


def _rows(results: Sequence[Result], run_of: Mapping[int, Run], published: Mapping[str, Published]) -> list[Row]:
    gains = [gain(result.finals, result.against.finals) if result.against else None for result in results]
    corrected = holm([found.p if found else None for found in gains])
    rows = []
    for result, found, p in zip(results, gains, corrected, strict=True):
        given = {field.name: getattr(result, field.name) for field in fields(result)}
        runs = tuple(sorted((run_of[id(r)] for r in result.records), key=lambda run: run.record.seed))
        rows.append(Row(**given, runs=runs, gain=replace(found, p_holm=p) if found else None))
    present = {result.strategy for result in results}
    return rows + [Row(name, name, published=there) for name, there in published.items() if name not in present]
