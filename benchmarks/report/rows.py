"""Runs -> benchmarks and their rows: one row for every strategy and way of answering, beside what was published."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from benchmarks.data.sets import dataset_title
from benchmarks.records.published import Published
from benchmarks.records.record import Record
from benchmarks.report.runs import PUBLISHED, SELF_REPORTED, VERIFIED, Run, slug, unique
from benchmarks.report.statistics import Gain, bootstrap_interval, gain, holm
from benchmarks.tables.comparison import Line, lines_of
from benchmarks.tables.summary import group_records, sleep_label, summarise
from strategies import STRATEGIES, split_name

ENOUGH = 3  # runs below which nobody knows whether they reproduce a published number
Sleeps = Literal["off", "settling", "on"]
Matrix = list[list[float]]


@dataclass(frozen=True)
class Row:
    """One strategy, or one way in which it answers; accuracies are fractions, times are s per run.

    Attributes:
        name: The strategy, as shown.
        base: The strategy without its suffix.
        sleeps: "on", "settling" where all of the sleep but the sleep itself was done, or "off".
        stores: Whether examples of earlier experiences are stored or looked at again; None of an unknown strategy.
        provenance: "verified" if all runs are, "published" of a row without runs of ours, else "self-reported".
        way: The way of answering, "" where there is but one.
        variant: Settings in which it differs from its namesakes, e.g. "ewc_lambda 100"; "" where it has none.
        against: Name of the row without sleep that `gain` compares with; "" without one.
        sleep: What its sleep was, "" without.
        finals: Final accuracy by seed, of runs that are done.
        mean: Mean over seeds; None without a done run.
        sd: Standard deviation (ddof 1); None below two seeds.
        interval: Bootstrap interval of the mean; None below two seeds.
        gain: Against the same strategy without sleep; None where nothing can be paired.
        published: What was published; None where nothing was, or is not known.
        reproduced: Whether ours agrees with it; None below three runs.
        forgetting: Mean forgetting; None for joint training.
        kept_bytes: Kept between experiences besides the model; None if not said, or if earlier images are seen again.
        kept: The same in words where there is no number.
        train: Mean seconds of training; None without a done run.
        asleep: Mean seconds of sleep; None without a done run.
        counts: Runs by status, only those that occur.
        runs: By seed.
        after: Mean accuracy matrix after each sleep; None where seeds differ in its shape or nothing is done.
        before: The same before each sleep; None for a way of answering that was not measured there.
    """

    name: str
    base: str
    sleeps: Sleeps
    stores: bool | None
    provenance: str
    way: str = ""
    variant: str = ""
    against: str = ""
    sleep: str = ""
    finals: Mapping[int, float] = field(default_factory=dict)
    mean: float | None = None
    sd: float | None = None
    interval: tuple[float, float] | None = None
    gain: Gain | None = None
    published: Published | None = None
    reproduced: bool | None = None
    forgetting: float | None = None
    kept_bytes: int | None = None
    kept: str = ""
    train: float | None = None
    asleep: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    after: Matrix | None = None
    before: Matrix | None = None

    @property
    def title(self) -> str:
        """Name and way, for people."""
        return self.name + (f", {self.way.replace('_', ' ')}" if self.way else "")

    @property
    def seconds(self) -> float | None:
        """Training and sleep together."""
        return None if self.train is None or self.asleep is None else self.train + self.asleep

    @property
    def lost(self) -> str:
        """Runs that are not done, in words."""
        return ", ".join(f"{count} {status}" for status, count in self.counts.items() if status != "done")


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
        rows = _rows(lines_of(records), run_of, published.get(config_name, {}))
        benchmarks.append(Benchmark(name, place, own[0].family, tuple(rows), own))
    return benchmarks


def _rows(lines: Sequence[Line], run_of: Mapping[int, Run], published: Mapping[str, Published]) -> list[Row]:
    rows = [_row(line, lines, run_of, published) for line in lines]
    corrected = holm([row.gain.p if row.gain else None for row in rows])
    for i, (row, p) in enumerate(zip(rows, corrected, strict=True)):
        if row.gain is not None:
            rows[i] = replace(row, gain=replace(row.gain, p_holm=p))
    present = {line.records[0].strategy for line in lines}
    return rows + [_published_row(name, there) for name, there in published.items() if name not in present]


def _row(line: Line, lines: Sequence[Line], run_of: Mapping[int, Run], published: Mapping[str, Published]) -> Row:
    (summary,) = summarise(line.records)  # of all ways: bytes and times
    record = line.records[0]
    base, _ = split_name(record.strategy)
    values = np.array(list(line.finals.values()))
    is_first = line is next(x for x in lines if x.strategy == line.strategy)
    there = published.get(record.strategy) if is_first else None
    plain = _without_sleep(line, lines)
    runs = tuple(sorted((run_of[id(r)] for r in line.records), key=lambda run: run.record.seed))
    done = [r for r in line.records if r.status == "done"]
    return Row(
        name=line.strategy,
        way=line.way,
        variant=_variant(record, [x.records[0] for x in lines]),
        base=base,
        against=plain.strategy if plain else "",
        sleep=sleep_label(record.config.get("sleep") or {}),
        sleeps=_sleeps(record),
        stores=_stores(base, record),
        finals=line.finals,
        mean=float(values.mean()) if len(values) else None,
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        interval=bootstrap_interval(values),
        gain=gain(line.finals, plain.finals) if plain else None,
        published=there,
        reproduced=_reproduces(there, values),
        forgetting=line.forgetting,
        kept_bytes=summary.kept_bytes,
        kept=summary.kept if summary.kept_bytes is None else "",
        train=summary.train if done else None,
        asleep=summary.asleep if done else None,
        counts=Counter(r.status for r in line.records),
        provenance=VERIFIED if all(run.provenance == VERIFIED for run in runs) else SELF_REPORTED,
        runs=runs,
        after=mean_matrix(list(line.matrices.values())),
        before=_before(line, done),
    )


def _published_row(name: str, there: Published) -> Row:
    """Return the row of a strategy that is published here and was not run."""
    base, suffix = split_name(name)
    sleeps: Sleeps = "on" if suffix in ("+src", "+simulated", "+before", "+only") else "settling" if suffix else "off"
    return Row(name, base, sleeps, _stores(base, None), PUBLISHED, published=there)


def _without_sleep(line: Line, lines: Sequence[Line]) -> Line | None:
    """Return the line of the same strategy, settings and way without sleep; None of one that does not sleep."""
    base, suffix = split_name(line.records[0].strategy)
    wanted = _apart_from_sleep(line.records[0])
    for other in lines:
        record = other.records[0]
        if suffix and record.strategy == base and other.way == line.way and _apart_from_sleep(record) == wanted:
            return other
    return None


def _apart_from_sleep(record: Record) -> dict[str, Any]:
    return {key: value for key, value in record.config.items() if key not in ("sleep", "strategy")}


def _sleeps(record: Record) -> Sleeps:
    sleep = record.config.get("sleep")
    if not sleep:
        return "off"
    return "on" if (sleep.get("numbers") or {}).get("replay", True) else "settling"


def _stores(base: str, record: Record | None) -> bool | None:
    """Return whether a strategy has examples of earlier experiences at hand: a memory of given size, or all of them."""
    sleep = (record.config.get("sleep") if record else None) or {}
    if sleep.get("reference", "none") != "none":
        return True
    row = STRATEGIES.get(base)
    return None if row is None else not row.is_counted or "memory_size" in row.settings


def _reproduces(there: Published | None, values: np.ndarray) -> bool | None:
    if there is None or there.differs is not None or len(values) < ENOUGH:
        return None
    return there.agrees_with(100 * float(values.mean()), 100 * float(values.std(ddof=1)))


def _before(line: Line, done: Sequence[Record]) -> Matrix | None:
    """Return the mean matrix before sleep, which is measured for the first way of answering only."""
    first = next(iter(done[0].accuracy_by or {}), "") if done else ""
    return mean_matrix([r.accuracy_before_sleep or [] for r in done]) if line.way == first else None


def mean_matrix(matrices: Sequence[Sequence[Sequence[float]]]) -> Matrix | None:
    """Return the mean of matrices; None without one, or if their shapes differ."""
    if not matrices or len({(len(m), *map(len, m)) for m in matrices}) > 1 or not matrices[0]:
        return None
    mean: Matrix = np.mean(np.asarray(matrices, dtype=np.float64), axis=0).tolist()
    return mean


def _variant(record: Record, records: Sequence[Record]) -> str:
    """Return in what a strategy differs from its namesakes of the same setting: "key value, ...", "" without any."""
    namesakes = [flatten(r.config) for r in records if r.strategy == record.strategy]
    keys = sorted({key for config in namesakes for key in config})
    differing = [key for key in keys if len({json.dumps(config.get(key)) for config in namesakes}) > 1]
    own = flatten(record.config)
    return ", ".join(f"{key.removeprefix('settings.')} {_short(own[key])}" for key in differing if key in own)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a tree of mappings by their dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves
