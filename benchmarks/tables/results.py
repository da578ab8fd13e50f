"""Records -> results: one for every strategy of a setting and every way in which it answers. All tables are of these.

A renderer takes columns: heading -> what stands there of a result.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np

from benchmarks.records.metrics import forgetting, pooled_accuracy
from benchmarks.records.published import Published
from benchmarks.records.record import Record, config_hash, leaves
from strategies import STRATEGIES, split_name

BASELINE, UPPER_BOUND = "naive", "joint"  # the first and the last row of every table
ALL_IMAGES = "all images"
ENOUGH = 3  # runs below which nobody knows whether they reproduce a published number
SETTING = ("stream", "backbone", "model", "training")
"""Parts of a config that records must share to be compared."""

Matrix = list[list[float]]
Sleeps = Literal["off", "settling", "on"]
SomeResult = TypeVar("SomeResult", bound="Result")
Columns = Mapping[str, Callable[[SomeResult], str]]
"""Heading -> what stands in the column."""


@dataclass(frozen=True)
class Result:
    """What one strategy reached in one setting, in one way of answering; accuracies are fractions, times s per run.

    Attributes:
        name: The strategy, as shown: with the hash of its config where a setting has several of one strategy.
        strategy: The strategy.
        way: The way of answering, "" where there is but one.
        variant: Settings in which it differs from its namesakes, e.g. "ewc_lambda 100"; "" where it has none.
        records: All of its records, those that are lost included; none of what was only published.
        published: What was published of it; None where nothing was, or is not known.
        against: The same strategy, settings and way without sleep; None where it does not sleep.
        baseline: Naive training in the same setting; None where there is none, and of itself.
    """

    name: str
    strategy: str
    way: str = ""
    variant: str = ""
    records: tuple[Record, ...] = ()
    published: Published | None = None
    against: Result | None = None
    baseline: Result | None = None

    @property
    def title(self) -> str:
        """Name and way, for people."""
        return self.name + self.way_text

    @property
    def way_text(self) -> str:
        """The way of answering as it follows the name, "" where there is but one."""
        return f", {self.way.replace('_', ' ')}" if self.way else ""

    @property
    def base(self) -> str:
        """The strategy without its suffix."""
        return split_name(self.strategy)[0]

    @property
    def suffix(self) -> str:
        """What the strategy ends in, "" without a sleep."""
        return split_name(self.strategy)[1]

    @property
    def config_of_sleep(self) -> Mapping[str, Any]:
        """The sleep in the config; empty without one."""
        return (self.records[0].config.get("sleep") if self.records else None) or {}

    @property
    def sleep(self) -> str:
        """What its sleep was, see `sleep_label`."""
        return sleep_label(self.config_of_sleep)

    @property
    def sleeps(self) -> Sleeps:
        """Whether it slept: "settling" where all of the sleep but the sleep itself was done."""
        if not self.records:
            slept = self.suffix in ("+src", "+simulated", "+before", "+means", "+only")
            return "on" if slept else "settling" if self.suffix else "off"
        if not self.config_of_sleep:
            return "off"
        return "on" if (self.config_of_sleep.get("numbers") or {}).get("replay", True) else "settling"

    @property
    def sees_earlier_images(self) -> bool:
        """Whether its sleep looks at images of earlier experiences again, whatever is stored."""
        return bool(self.config_of_sleep.get("reference", "none") != "none")

    @property
    def stores(self) -> bool | None:
        """Whether images of earlier experiences are at hand: stored, or looked at again; None of what is unknown."""
        row = STRATEGIES.get(self.base)
        if self.sees_earlier_images:
            return True
        return None if row is None else not row.is_counted or "memory_size" in row.settings

    @cached_property
    def done(self) -> list[Record]:
        """The records of runs that are done."""
        return [record for record in self.records if record.status == "done" and record.accuracy]

    @cached_property
    def matrices(self) -> dict[int, Matrix]:
        """Accuracy by seed, see `benchmarks.records.metrics`."""
        return {r.seed: (r.accuracy_by or {}).get(self.way) or r.accuracy or [] for r in self.done}

    @cached_property
    def finals(self) -> dict[int, float]:
        """Final accuracy by seed; each seed has its own test images in a column."""
        return {r.seed: pooled_accuracy(self.matrices[r.seed][-1], r.n_test) for r in self.done}

    @property
    def mean(self) -> float | None:
        """Mean final accuracy; None without a done run."""
        return _mean(list(self.finals.values()))

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds (ddof 1); None below two."""
        return _spread(list(self.finals.values()))

    @property
    def over_baseline(self) -> list[float]:
        """Final accuracy minus that of naive training, for each seed that both have."""
        theirs = self.baseline.finals if self.baseline else {}
        return [self.finals[seed] - theirs[seed] for seed in self.finals if seed in theirs]

    @property
    def forgetting(self) -> float | None:
        """Mean forgetting; None for joint training."""
        return _mean([value for m in self.matrices.values() if (value := forgetting(m)) is not None])

    @property
    def reproduced(self) -> bool | None:
        """Whether ours agrees with what was published; None below three runs, and where ours differs by design."""
        there, mean, sd = self.published, self.mean, self.sd
        if there is None or there.differs is not None or len(self.finals) < ENOUGH or mean is None or sd is None:
            return None
        return there.agrees_with(100 * mean, 100 * sd)

    @property
    def train(self) -> float | None:
        """Mean seconds of training; None without a done run."""
        return _mean([r.seconds.train for r in self.done])

    @property
    def asleep(self) -> float | None:
        """Mean seconds of sleep; None without a done run."""
        return _mean([r.seconds.sleep for r in self.done])

    @property
    def seconds(self) -> float | None:
        """Training and sleep together."""
        return None if self.train is None or self.asleep is None else self.train + self.asleep

    @property
    def kept_bytes(self) -> int | None:
        """Bytes kept between experiences; None if not said, or if the sleep sees earlier images again."""
        return self.done[0].kept_bytes if self.done and not self.sees_earlier_images else None

    @property
    def kept(self) -> str:
        """What is kept, in words where there is no number: "all images"; "" without a done run."""
        return ALL_IMAGES if self.done and self.kept_bytes is None else ""

    @property
    def kept_text(self) -> str:
        """What is kept, as a number or in words."""
        return self.kept if self.kept_bytes is None else f"{self.kept_bytes:,} B"

    @property
    def counts(self) -> Mapping[str, int]:
        """Runs by status, only those that occur."""
        return Counter(record.status for record in self.records)

    @property
    def lost(self) -> str:
        """Runs that are not done, in words."""
        return ", ".join(f"{self.counts[s]} {s}" for s in ("diverged", "failed", "skipped") if s in self.counts)

    @property
    def after(self) -> Matrix | None:
        """Mean accuracy matrix after each sleep; None where seeds differ in its shape or nothing is done."""
        return mean_matrix(list(self.matrices.values()))

    @property
    def before(self) -> Matrix | None:
        """The same before each sleep, which is measured for the first way of answering only."""
        first = next(iter(self.done[0].accuracy_by or {}), "") if self.done else ""
        return mean_matrix([r.accuracy_before_sleep or [] for r in self.done]) if self.way == first else None


def results_of(records: Sequence[Record], published: Mapping[str, Published] | None = None) -> list[Result]:
    """Return the results of one setting, naive first and joint last; those without any run are left out.

    Args:
        records: Of one setting.
        published: Strategy -> what was published of it in this setting; it stands at the first result of a strategy.
    """
    groups = group_strategies(records)
    found: list[Result] = []
    by_key: dict[tuple[str, str, str], Result] = {}
    first = {name: group[0] for name, group in groups.items()}
    for is_asleep in (False, True):  # what sleeps is compared with what does not
        for name, group in groups.items():
            record = group[0]
            base, suffix = split_name(record.strategy)
            if bool(suffix) != is_asleep:
                continue
            done = next((r for r in group if r.status == "done" and r.accuracy), None)
            alike = _apart_from_sleep(record)
            for i, way in enumerate(list((done.accuracy_by if done else None) or {}) or [""]):
                result = Result(
                    name=name,
                    strategy=record.strategy,
                    way=way,
                    variant=_variant(record, list(first.values())),
                    records=tuple(group),
                    published=None if i else (published or {}).get(record.strategy),
                    against=by_key.get((base, way, alike)) if suffix else None,
                    baseline=next((r for r in found if r.name == BASELINE), None) if name != BASELINE else None,
                )
                found.append(result)
                by_key.setdefault((record.strategy, way, alike), result)
    order = list(groups)
    return sorted(found, key=lambda result: order.index(result.name))


def _apart_from_sleep(record: Record) -> str:
    config = {key: value for key, value in record.config.items() if key not in ("sleep", "strategy")}
    return json.dumps(config, sort_keys=True)


def _variant(record: Record, records: Sequence[Record]) -> str:
    """Return in what a strategy differs from its namesakes of the same setting: "key value, ...", "" without any."""
    namesakes = [leaves(r.config) for r in records if r.strategy == record.strategy]
    keys = sorted({key for config in namesakes for key in config})
    differing = [key for key in keys if len({json.dumps(config.get(key)) for config in namesakes}) > 1]
    own = leaves(record.config)
    return ", ".join(f"{key.removeprefix('settings.')} {_short(own[key])}" for key in differing if key in own)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def mean_matrix(matrices: Sequence[Sequence[Sequence[float]]]) -> Matrix | None:
    """Return the mean of matrices; None without one, or if their shapes differ."""
    if not matrices or len({(len(m), *map(len, m)) for m in matrices}) > 1 or not matrices[0]:
        return None
    mean: Matrix = np.mean(np.asarray(matrices, dtype=np.float64), axis=0).tolist()
    return mean


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _spread(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def setting_of(record: Record) -> tuple[str, str]:
    """Return what records must share to stand in one table: config name, hash of stream, backbone, model, training."""
    return record.config_name, setting_hash(record.config)


def setting_hash(config: Mapping[str, Any]) -> str:
    """Return the hash of the parts of a resolved config that records must share."""
    return config_hash({key: config[key] for key in SETTING if key in config})


def group_records(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    """Return the records of each setting, by name; only these may be compared with each other.

    Numbers in names count as such: k50, k100, k1000.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault(setting_of(record), []).append(record)
    return dict(sorted(groups.items(), key=lambda item: (_naturally(item[0][0]), item[0][1])))


def _naturally(name: str) -> list[tuple[float, str]]:
    """Return what to sort a name by; text and numbers take turns in it."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(float(part), "") if i % 2 else (0.0, part) for i, part in enumerate(parts)]


def what_differs(groups: Mapping[tuple[str, str], Sequence[Record]]) -> dict[tuple[str, str], str]:
    """Return for each setting of a config name that several share what tells it apart, e.g. "training.lr 0.1"."""
    said = dict.fromkeys(groups, "")
    for name in {name for name, _ in groups}:
        flat = {key: leaves(records[0].config) for key, records in groups.items() if key[0] == name}
        keys = {k for one in flat.values() for k in one if k.partition(".")[0] in SETTING}
        differing = sorted(k for k in keys if len({json.dumps(one.get(k)) for one in flat.values()}) > 1)
        for key, one in flat.items():
            said[key] = ", ".join(f"{k} {json.dumps(one.get(k))}" for k in differing)
    return said


def group_strategies(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the records of each strategy by the name it is shown with, naive first and joint last.

    Records of one strategy whose configs differ (another sleep) are kept apart, with the hash in the name.
    """
    kinds: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        kinds.setdefault((record.strategy, record.hash), []).append(record)
    names = [strategy for strategy, _ in kinds]
    in_order = sorted(kinds.items(), key=lambda item: (item[0][0] == UPPER_BOUND) - (item[0][0] == BASELINE))
    return {s if names.count(s) == 1 else f"{s} ({h})": group for (s, h), group in in_order}


def sleep_label(sleep: Mapping[str, Any]) -> str:
    """Return what a sleep was: the preset of a paper by its name, any other by the stages that were on; "" without."""
    numbers, preset = sleep.get("numbers"), str(sleep.get("preset", ""))
    if numbers and not preset.startswith("paper/"):
        sleep_itself = "closed form" if numbers.get("engine") == "closed_form" else "SRC"
        named = (("replay", sleep_itself), ("settle", "settle"), ("level", "level"))
        stages = [label for key, label in named if numbers[key]]
        stages += ["class means"] if numbers.get("keep", "mean") != "mean" else []
        preset = f"{sleep_itself} only" if stages == [sleep_itself] else " + ".join(stages)
    return preset + (", changed" if sleep.get("changed") else "")
