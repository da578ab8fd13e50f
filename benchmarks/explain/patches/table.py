"""A record of the figure -> what the article says of it, and from which overlap on a task is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.explain.claims import Claim, claim_table
from benchmarks.explain.patches.trials import PUBLISHED, SETTINGS, SLEEPS
from benchmarks.markdown import table

HALF_LOST = 0.75
"""After a sleep something counts as lost where the mean over trials is below this: between both tasks and one."""

BETTER = 0.25
"""Sleep counts as clearly better where it adds at least this: half a task."""


def curve(
    record: Mapping[str, Any], setting: str, sleep: str, stage: int, *, task: int | None = None
) -> dict[int, float]:
    """Return mean accuracy over trials at each overlap, ascending.

    Args:
        record: Of `explain_patches`.
        setting: Of SETTINGS.
        sleep: Of SLEEPS.
        stage: 0 after task 1, 1 after task 2, 2 after the sleep.
        task: 0 or 1; None for both.
    """
    rows = record["accuracy"][setting][sleep]
    tasks = slice(None) if task is None else slice(task, task + 1)
    overlaps = sorted(rows, key=int)  # JSON has sorted them as text
    return {int(overlap): float(np.mean(np.array(rows[overlap])[:, stage, tasks])) for overlap in overlaps}


def first_lost(means: Mapping[int, float], *, threshold: float) -> int | None:
    """Return the smallest overlap from which on accuracy is below a threshold; None if it never is."""
    kept = [overlap for overlap, mean in means.items() if mean >= threshold]
    lost = [overlap for overlap in means if not kept or overlap > max(kept)]
    return min(lost) if lost else None


def where_better(record: Mapping[str, Any], setting: str, sleep: str) -> list[int]:
    """Return the overlaps at which a sleep is clearly better than none."""
    before, after = (curve(record, setting, sleep, stage) for stage in (1, 2))
    return [overlap for overlap in before if after[overlap] - before[overlap] >= BETTER]


def leads(record: Mapping[str, Any], setting: str) -> tuple[float, float]:
    """Return by how much images of task 1 excite their own output more than the best of task 2, before and after."""
    given = np.array([trial["inputs"] for trial in record["shown"][setting]])  # (trials, 2, images, units)
    own = np.stack([given[:, :, label, label] for label in (0, 1)], axis=-1)
    other = given[:, :, :2, 2:].max(-1)
    before, after = (own - other).mean((0, 2))
    return float(before), float(after)


def mean_weight(record: Mapping[str, Any], setting: str, kind: str, task: int) -> tuple[float, float]:
    """Return the mean weight from one kind of pixel to the output units of a task, before and after the sleep."""
    before, after = (
        float(np.mean(np.concatenate([trial["weights"][night][kind][task] for trial in record["shown"][setting]])))
        for night in (0, 1)
    )
    return before, after


def claims(record: Mapping[str, Any], setting: str) -> list[Claim]:
    """Return what the article says of the figure, beside a setting."""
    pixels = record["settings"][setting]["pixels"]
    tells_apart = [overlap for overlap in record["overlaps"] if overlap < pixels]
    learnt, after_two = (curve(record, setting, PUBLISHED, stage) for stage in (0, 1))
    old = curve(record, setting, PUBLISHED, 1, task=0)
    lost = first_lost({overlap: old[overlap] for overlap in tells_apart}, threshold=0.5)
    at_loss = [after_two[overlap] for overlap in tells_apart if lost is not None and overlap >= lost]
    better = where_better(record, setting, PUBLISHED)
    before, after = leads(record, setting)
    shared, other = (mean_weight(record, setting, kind, 1) for kind in ("shared", "other"))
    is_told = {12, 13, 16, 17} <= set(record["overlaps"])  # else the run cannot tell where a range ends
    half = float(np.median([learnt[overlap] for overlap in tells_apart]))
    return [
        Claim("half of the images are right after task 1", "50 %", _percent(half), abs(half - 0.5) < 0.05),
        Claim(
            "without sleep task 1 is lost above so many shared pixels", "12",
            "never lost" if lost is None else f"{lost - 1}", lost == 13,
        ),
        Claim(
            "half of the images are right where it is lost", "50 %",
            _percent(float(np.mean(at_loss))) if at_loss else "never lost",
            abs(float(np.mean(at_loss)) - 0.5) < 0.05 if at_loss else False,
        ),
        Claim(
            "sleep is clearly better there", "12 to 16", _range(better),
            bool(better) and min(better) in (12, 13) and max(better) == 16 if is_told else None,
        ),
        Claim(
            "before sleep images of task 1 excite outputs of task 2 more, after it their own, which are ahead by", "",
            f"{before:+.3f}, then {after:+.3f}", before < 0 < after,
        ),
        Claim(
            "sleep makes weights to the newer outputs inhibitory; here from other images' pixels, and from shared ones",
            "", f"{other[0]:+.3f}, then {other[1]:+.3f}; {shared[0]:+.3f}, then {shared[1]:+.3f}",
            other[1] < other[0] and other[1] < 0,
        ),
    ]  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _range(overlaps: list[int]) -> str:
    return f"{min(overlaps)} to {max(overlaps)}" if overlaps else "nowhere"


def markdown(record: Mapping[str, Any]) -> str:
    """Return all tables of a record."""
    parts = ["### From which overlap on something is lost", "", _lost(record), "", describe(record)]
    for name, setting in SETTINGS.items():
        parts += ["", f"### {setting.title[0].upper()}{setting.title[1:]}", "", claim_table(claims(record, name))]
    return "\n".join(parts)


def _lost(record: Mapping[str, Any]) -> str:
    rows = []
    for name, setting in SETTINGS.items():
        tasks = [curve(record, name, PUBLISHED, 1, task=task) for task in (0, 1)]
        slept = [curve(record, name, sleep, 2) for sleep in SLEEPS]
        cells = [*(_first(means, 0.5) for means in tasks), *(_first(means, HALF_LOST) for means in slept)]
        rows.append([setting.title, str(setting.pixels), *cells])
    heads = ["training", "all the same from", "no sleep: task 1", "no sleep: task 2", *(f"`{name}`" for name in SLEEPS)]
    return table(heads, rows, align="lr")


def _first(means: Mapping[int, float], threshold: float) -> str:
    lost = first_lost(means, threshold=threshold)
    return "never" if lost is None else str(lost)


def describe(record: Mapping[str, Any]) -> str:
    """Return what tables and picture show: how many trials, of which commit."""
    overlaps = record["overlaps"]
    return (
        f"Four images, two tasks of two, one layer of weights, {record['trials']} trials, {min(overlaps)} to "
        f"{max(overlaps)} shared pixels. A task is lost where fewer than half of its images are right, after a sleep "
        f"something is where fewer than 75 % of all four are; clearly better is 25 points. Commit "
        f"{record['commit'][:7]}."
    )
