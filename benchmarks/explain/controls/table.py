"""Records of controls -> what each keeps of the gain by sleep, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.explain.controls.rows import NONE, SIMULATED, TITLES
from benchmarks.explain.controls.streams import NAIVE, NAMES
from benchmarks.explain.records import Told, label_of
from benchmarks.markdown import table
from benchmarks.records.metrics import Difference, paired_difference
from benchmarks.records.record import config_hash

WORDS = {
    **TITLES,
    NAIVE: "plain training",
    NONE: "no sleep: what settling and levelling do",
    SIMULATED: "the whole sleep",
    "shuffled_weights": "what the sleep does to shuffled weights",
    "uniform_stimulus": "uniform mean input, the same in sum",
}
"""Control -> what people read where streams are compared."""


@dataclass(frozen=True)
class Kept:
    """What a control has at the end of a stream.

    Attributes:
        mean: Accuracy over all classes, mean over seeds.
        less: What it has more than the whole sleep, paired by seed.
        share: Its part of the gain by sleep over no sleep; None where sleep gains nothing.
    """

    mean: float
    less: Difference
    share: float | None


def groups_of_sleeps(records: Sequence[Told]) -> dict[str, list[Told]]:
    """Return records by data, optimizer and sleep, as people read them."""
    configs: dict[str, list[Told]] = {}
    for record in records:
        configs.setdefault(config_hash(record["config"]), []).append(record)
    return {f"{label_of(group[0])}, {sleep_of(group[0])}": group for group in configs.values()}


def sleep_of(record: Told) -> str:
    """Return the name of the preset of a record, "published" for one of the article."""
    preset: str = record["config"]["sleep"]["preset"]
    return "published" if preset.startswith("paper/") else preset


def finals(records: Sequence[Told], name: str) -> dict[int, float]:
    """Return what a control has at the end, by seed."""
    found = ((record["seed"], record["controls"].get(name)) for record in records)
    return {seed: told["final"] for seed, told in found if told is not None and "final" in told}


def kept(records: Sequence[Told]) -> dict[str, Kept]:
    """Return what each control has, of records of one config and sleep."""
    whole, base = finals(records, SIMULATED), finals(records, NONE)
    gain = float(np.mean(list(whole.values())) - np.mean(list(base.values())))
    found = {}
    for name in NAMES:
        ours = finals(records, name)
        less = paired_difference(ours, whole)
        if less is not None:
            found[name] = Kept(float(np.mean(list(ours.values()))), less, 1.0 + less.mean / gain if gain > 0 else None)
    return found


def markdown(records: Sequence[Told]) -> str:
    """Return the table, and what was left out and why."""
    groups = dict(sorted(groups_of_sleeps(records).items()))
    if not groups:
        return ""
    found = {label: kept(group) for label, group in groups.items()}
    rows = [[WORDS[name], *(_cell(name, one.get(name)) for one in found.values())] for name in NAMES]
    parts = [table(["in the place of every sleep", *groups], [row for row in rows if any(row[1:])], align="lr")]
    return "\n\n".join([*parts, describe(groups), _skipped(groups)])


def _cell(name: str, one: Kept | None) -> str:
    if one is None:
        return ""
    if name == SIMULATED:
        return f"**{100 * one.mean:.1f}**"
    width = "" if one.less.half_width is None else f" ± {100 * one.less.half_width:.1f}"
    share = "" if one.share is None or name == NAIVE else f"; {round(100 * one.share)} %"
    return f"{100 * one.mean:.1f} ({100 * one.less.mean:+.1f}{width}{share})"


def describe(groups: Mapping[str, Sequence[Told]]) -> str:
    """Return what table and picture show: of what, how many seeds, of which commit."""
    every = [record for group in groups.values() for record in group]
    seeds = ", ".join(f"{len({record['seed'] for record in group})} ({label})" for label, group in groups.items())
    commits = ", ".join(sorted({record["commit"][:7] for record in every}))
    return (
        "Percent right of held-out training images of all classes at the end of a stream with the control in the place "
        "of every sleep, mean over seeds. In brackets: difference to the whole sleep, paired by seed, with Student's "
        "95 % interval, and how much of the gain by sleep it keeps (the whole sleep: 100 %, no sleep: 0 %). "
        f"Seeds: {seeds}. Commit {commits}."
    )


def _skipped(groups: Mapping[str, Sequence[Told]]) -> str:
    """Return which controls have no meaning where, and why, and which diverged."""
    why: dict[tuple[str, str], list[str]] = {}
    for label, group in groups.items():
        for name, reason in group[0]["skipped"].items():
            why.setdefault((name, reason), []).append(label)
    lines = [f"- {WORDS[name]}: {reason} ({'; '.join(labels)})" for (name, reason), labels in why.items()]
    for label, group in groups.items():
        for name in NAMES:
            seeds = [str(r["seed"]) for r in group if "diverged" in r["controls"].get(name, {})]
            if seeds:
                lines.append(f"- {WORDS[name]}: weights were no longer finite under seed {', '.join(seeds)} ({label})")
    return "\n".join(["Left out:", "", *lines]) if lines else ""
