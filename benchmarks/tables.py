"""Records -> tables for the terminal: mean, spread, number of seeds, and what a method kept. No number is typed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.metrics import forgetting
from benchmarks.records import Record, config_hash

BASELINE, UPPER_BOUND = "naive", "joint"  # the first and the last row of every table


def setting_of(record: Record) -> tuple[str, str]:
    """Return what records must share to stand in one table: config name, hash of stream, backbone, model, training."""
    same = {key: record.config.get(key) for key in ("stream", "backbone", "model", "training") if key in record.config}
    return record.config_name, config_hash(same)


def group_records(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    """Return the records of each setting; only these may be compared with each other."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault(setting_of(record), []).append(record)
    return groups


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


@dataclass(frozen=True)
class Summary:
    """One row of a table; accuracies are fractions, times are s per run.

    Attributes:
        name: The strategy, as shown.
        sleep: What its sleep was, see `sleep_label`, or "".
        n: Seeds that are done.
        mean: Mean final accuracy; None without a done run.
        sd: Standard deviation over seeds (ddof 1); None below two seeds.
        difference: Mean over shared seeds of final accuracy minus naive's; None without shared seeds.
        difference_sd: Its standard deviation (ddof 1).
        n_pairs: Shared seeds.
        forgetting: Mean forgetting; None for joint training.
        train: Mean seconds of training; None without a done run.
        asleep: Mean seconds of sleep; None without a done run.
        kept_bytes: Bytes kept between experiences; None if not said, or if the sleep sees earlier images again.
        lost: Runs that diverged or failed, in words.
    """

    name: str
    sleep: str
    n: int
    mean: float | None
    sd: float | None
    difference: float | None
    difference_sd: float | None
    n_pairs: int
    forgetting: float | None
    train: float | None
    asleep: float | None
    kept_bytes: int | None
    lost: str


def sleep_label(sleep: Mapping[str, Any]) -> str:
    """Return what a sleep was: the preset of a paper by its name, any other by the stages that were on; "" without."""
    numbers, preset = sleep.get("numbers"), str(sleep.get("preset", ""))
    if numbers and not preset.startswith("paper/"):
        stages = [label for key, label in (("replay", "SRC"), ("settle", "settle"), ("level", "level")) if numbers[key]]
        preset = "SRC only" if stages == ["SRC"] else " + ".join(stages)
    return preset + (", changed" if sleep.get("changed") else "")


def _spread(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def summarise(records: Sequence[Record]) -> list[Summary]:
    """Return one row per strategy of one setting, naive first and joint last."""
    groups = group_strategies(records)
    baseline = {r.seed: r.final_accuracy for r in groups.get(BASELINE, []) if r.final_accuracy is not None}
    rows = []
    for name, group in groups.items():
        final = {r.seed: r.final_accuracy for r in group if r.status == "done" and r.final_accuracy is not None}
        done = [r for r in group if r.status == "done"]
        pairs = [final[seed] - baseline[seed] for seed in final if seed in baseline and name != BASELINE]
        forgot = [value for r in done if r.accuracy and (value := forgetting(r.accuracy)) is not None]
        bad = {status: sum(r.status == status for r in group) for status in ("diverged", "failed", "skipped")}
        sleep = group[0].config.get("sleep") or {}
        label = sleep_label(sleep)
        rows.append(
            Summary(
                name=name,
                sleep=label,
                n=len(final),
                mean=_mean(list(final.values())),
                sd=_spread(list(final.values())),
                difference=_mean(pairs),
                difference_sd=_spread(pairs),
                n_pairs=len(pairs),
                forgetting=_mean(forgot),
                train=_mean([r.seconds.train for r in done]),
                asleep=_mean([r.seconds.sleep for r in done]),
                # A reference looks at images of earlier experiences again: whatever is stored, it is not these bytes.
                kept_bytes=done[0].kept_bytes if done and sleep.get("reference", "none") == "none" else None,
                lost=", ".join(f"{count} {status}" for status, count in bad.items() if count),
            )
        )
    return rows


def percent(value: float | None, sd: float | None = None, *, signed: bool = False) -> str:
    """Return a fraction as a percentage with its spread, e.g. "72.5 ± 1.3"; "-" for None."""
    if value is None:
        return "-"
    text = f"{100 * value:+.1f}" if signed else f"{100 * value:.1f}"
    return text if sd is None else f"{text} ± {100 * sd:.1f}"


def make_table(records: Sequence[Record]) -> Table:
    """Return the table of one setting: accuracies in percent over all test images after the last experience."""
    rows = summarise(records)
    title = f"{records[0].config_name}: accuracy in percent over all test images after the last experience"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("strategy", no_wrap=True)
    table.add_column("sleep")
    for heading in ("mean ± sd", "n", f"vs {BASELINE} ± sd (pairs)", "forgets", "train s", "sleep s", "kept"):
        table.add_column(heading, justify="right", no_wrap=True)
    has_lost = any(row.lost for row in rows)
    if has_lost:
        table.add_column("lost")
    for row in rows:
        pairs = f" ({row.n_pairs})" if row.n_pairs else ""
        cells = [
            row.name,
            row.sleep or "-",
            percent(row.mean, row.sd),
            str(row.n),
            percent(row.difference, row.difference_sd, signed=True) + pairs,
            percent(row.forgetting),
            "-" if row.train is None else f"{row.train:.1f}",
            f"{row.asleep:.1f}" if row.sleep and row.asleep is not None else "-",
            "-" if row.kept_bytes is None else f"{row.kept_bytes:,} B",
        ]
        table.add_row(*cells, *([row.lost] if has_lost else []))
    return table


def describe(records: Sequence[Record]) -> str:
    """Return one line saying with which versions and on what the records of a table were made, and what they cost."""
    facts = {
        json.dumps([r.commit[:12], r.tree_clean, r.versions.get("torch"), r.hardware], sort_keys=True) for r in records
    }
    first = records[0]
    state = {True: "", False: ", changed files", None: ""}[first.tree_clean]
    line = (
        f"commit {first.commit[:12]}{state}; torch {first.versions.get('torch')}; {first.hardware.get('cpu')}, "
        f"{first.hardware.get('threads')} threads, {first.hardware.get('device')}"
    )
    if len(facts) > 1:
        line += f"; and {len(facts) - 1} more commits or machines among these records"
    return f"{line}; {len(records):,} runs took {_duration(sum(r.seconds.total for r in records))}, one after the other"


def _duration(seconds: float) -> str:
    """Return a time for people, e.g. "12 s", "8 min", "3.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
