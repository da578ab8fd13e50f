"""Records -> tables for the terminal: mean, spread, number of seeds, and what a method kept. No number is typed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from benchmarks.records.metrics import forgetting
from benchmarks.records.record import Record, config_hash, leaves

BASELINE, UPPER_BOUND = "naive", "joint"  # the first and the last row of every table
ALL_IMAGES = "all images"

SETTING = ("stream", "backbone", "model", "training")
"""Parts of a config that records must share to be compared."""


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
        kept: The same for people: "all images" where a method keeps them or a sleep sees them again; "" without a done
            run.
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
    kept: str
    lost: str


def sleep_label(sleep: Mapping[str, Any]) -> str:
    """Return what a sleep was: the preset of a paper by its name, any other by the stages that were on; "" without."""
    numbers, preset = sleep.get("numbers"), str(sleep.get("preset", ""))
    if numbers and not preset.startswith("paper/"):
        sleep_itself = "closed form" if numbers.get("engine") == "closed_form" else "SRC"
        named = (("replay", sleep_itself), ("settle", "settle"), ("level", "level"))
        stages = [label for key, label in named if numbers[key]]
        preset = f"{sleep_itself} only" if stages == [sleep_itself] else " + ".join(stages)
    return preset + (", changed" if sleep.get("changed") else "")


def _kept(kept_bytes: int | None, *, is_done: bool) -> str:
    """Return what is kept, for people; what is done and has no bytes counted keeps, or sees again, all images."""
    if kept_bytes is not None:
        return f"{kept_bytes:,} B"
    return ALL_IMAGES if is_done else ""


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
        # A reference looks at images of earlier experiences again: whatever is stored, it is not the bytes counted.
        kept_bytes = done[0].kept_bytes if done and sleep.get("reference", "none") == "none" else None
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
                kept_bytes=kept_bytes,
                kept=_kept(kept_bytes, is_done=bool(done)),
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


def make_table(records: Sequence[Record], *, width: int | None = None, note: str = "") -> Table:
    """Return the table of one setting: accuracies in percent over all test images after the last experience.

    Args:
        records: Of one setting.
        width: Characters there are. Where not all columns fit, those of SPARED are left out, one after the other, and a
            line under the table says which; None shows all.
        note: What the title says of them besides their config's name, see `what_differs`.
    """
    rows = summarise(records)
    name = records[0].config_name + (f" ({note})" if note else "")
    headings = [heading for heading in CELLS if heading != "lost" or any(row.lost for row in rows)]
    table = _table_of(name, rows, headings)
    if width is None or _widths(table).minimum <= width:
        return table  # a label of a sleep may be broken into lines, a number never
    left_out: list[str] = []
    for heading in SPARED:
        if _widths(table).maximum <= width:
            break
        left_out.append(heading)
        table = _table_of(name, rows, [h for h in headings if h not in left_out])
    table.caption = f"left out for lack of room: {', '.join(left_out)}; a wider window shows all"
    return table


def _table_of(name: str, rows: Sequence[Summary], headings: Sequence[str]) -> Table:
    title = f"{name}: accuracy in percent over all test images after the last experience"
    table = Table(title=title, title_justify="left", title_style="bold", caption_justify="left")
    for heading in headings:
        is_text = heading in ("strategy", "sleep", "lost")
        may_break = {"sleep": LABEL, "lost": LABEL}.get(heading)
        table.add_column(
            heading, justify="left" if is_text else "right", no_wrap=may_break is None, min_width=may_break
        )
    for row in rows:
        table.add_row(*(CELLS[heading](row) for heading in headings))
    return table


def _widths(table: Table) -> Measurement:
    """Return the least width that breaks no number, and the one that breaks nothing."""
    endless = Console(width=10_000)
    return Measurement.get(endless, endless.options, table)


CELLS: dict[str, Callable[[Summary], str]] = {
    "strategy": lambda row: row.name,
    "sleep": lambda row: row.sleep or "-",
    "mean ± sd": lambda row: percent(row.mean, row.sd),
    "n": lambda row: str(row.n),
    f"vs {BASELINE} (pairs)": lambda row: (
        percent(row.difference, row.difference_sd, signed=True) + (f" ({row.n_pairs})" if row.n_pairs else "")
    ),
    "forgets": lambda row: percent(row.forgetting),
    "train s": lambda row: "-" if row.train is None else f"{row.train:.1f}",
    "sleep s": lambda row: f"{row.asleep:.1f}" if row.sleep and row.asleep is not None else "-",
    "kept": lambda row: row.kept or "-",
    "lost": lambda row: row.lost,
}
"""Columns of a table, and what stands in them. "lost" is there where a run was."""

LABEL = 14
"""Characters that the label of a sleep, or of what was lost, has at least before it is broken into lines."""

SPARED = ("sleep", "sleep s", "train s", "kept", "forgets")
"""Columns that a narrow window goes without, first those that are missed least."""


def describe(records: Sequence[Record]) -> str:
    """Return one line saying with which versions and on what the records of a table were made, and what they cost."""
    facts = {
        json.dumps([r.commit[:12], r.tree_clean, r.versions.get("torch"), r.hardware], sort_keys=True) for r in records
    }
    first = records[0]
    state = {True: "", False: ", changed files", None: ""}[first.tree_clean]
    threads = first.hardware.get("threads")
    line = (
        f"commit {first.commit[:12]}{state}; torch {first.versions.get('torch')}; {first.hardware.get('cpu')}, "
        f"{threads} thread{'s' * (threads != 1)}, {first.hardware.get('device')}"
    )
    if len(facts) > 1:
        line += f"; and {len(facts) - 1} more commits or machines among these records"
    cost = _duration(sum(r.seconds.total for r in records))
    return (
        f"{line}; {len(records):,} runs took {cost}, one after the other"
        if len(records) > 1
        else f"{line}; took {cost}"
    )


def _duration(seconds: float) -> str:
    """Return a time for people, e.g. "12 s", "8 min", "3.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
