"""Records of depths -> tables, beside what the supplement says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.explain.claims import Claim, claim_table
from benchmarks.explain.controls.table import groups_of_sleeps
from benchmarks.explain.depth.running import DEPTHS
from benchmarks.explain.records import Told
from benchmarks.markdown import table
from benchmarks.records.metrics import Difference, paired_difference


def of_depth(records: Sequence[Told], depth: int, get: Callable[[Mapping[str, Any]], float]) -> dict[int, float]:
    """Return a number of one depth by seed."""
    return {record["seed"]: get(record["depths"][str(depth)]) for record in records}


def gain(records: Sequence[Told], depth: int) -> Difference:
    """Return what sleep gains at the end over plain training, paired by seed."""
    slept, naive = (of_depth(records, depth, lambda told, k=k: told[k]) for k in ("slept", "naive"))  # type: ignore[misc]
    found = paired_difference(slept, naive)
    assert found is not None
    return found


def nearer(records: Sequence[Told], depth: int) -> Difference:
    """Return by how much a night brings the weights nearer to those of task 1, as cosine similarity."""
    before, after = (of_depth(records, depth, lambda told, k=k: told["cosine"][k]) for k in (0, 1))  # type: ignore[misc]
    found = paired_difference(after, before)
    assert found is not None
    return found


def trained(records: Sequence[Told]) -> dict[int, Difference]:
    """Return what a sleep adds to the accuracy on one task, by its number of images, ascending."""
    sizes = sorted({int(n) for record in records for n in record["trained"]})
    found = {}
    for n in sizes:
        own = {record["seed"]: record["trained"][str(n)] for record in records if str(n) in record["trained"]}
        by = paired_difference({s: x[1] for s, x in own.items()}, {s: x[0] for s, x in own.items()})
        assert by is not None
        found[n] = by
    return found


def before_sleep(records: Sequence[Told], n: int) -> float:
    """Return accuracy on one task before a sleep, mean over seeds."""
    return float(np.mean([record["trained"][str(n)][0] for record in records if str(n) in record["trained"]]))


def claims(records: Sequence[Told]) -> list[Claim]:
    """Return what the supplement is about, as questions, beside one sleep; its words and numbers are not known here."""
    gains = {depth: gain(records, depth) for depth in DEPTHS}
    near = {depth: nearer(records, depth) for depth in DEPTHS}
    little = trained(records)
    least, most = min(little), max(little)
    return [
        _one("sleep brings old tasks back in heads of one to six hidden layers", list(gains.values())),
        _one("a sleep brings the weights nearer to those of the network trained on task 1 alone", list(near.values())),
        _one(f"a sleep helps one task that was trained little ({least} images)", [little[least]]),
        _one(f"a sleep costs nothing on one task that was trained well ({most} images)", [little[most]], 0),
    ]


def _one(words: str, found: Sequence[Difference], floor: int = 1) -> Claim:
    """Judge differences: above 0 for sure, or with floor 0 not below it for sure."""
    sure_up = [one.half_width is not None and one.mean > one.half_width for one in found]
    sure_down = [one.half_width is not None and -one.mean > one.half_width for one in found]
    holds: bool | None = all(sure_up)
    if floor == 0:
        holds = None if any(one.half_width is None for one in found) else not any(sure_down)
    elif not holds and not any(sure_down) and any(one.mean > 0 for one in found):
        holds = None
    return Claim(words, "", ", ".join(difference_text(one) for one in found), holds)


def difference_text(found: Difference) -> str:
    """Return a difference of fractions in points, with its interval."""
    width = "" if found.half_width is None else f" ± {100 * found.half_width:.1f}"
    return f"{100 * found.mean:+.1f}{width}"


def markdown(records: Sequence[Told]) -> str:
    """Return the tables of all sleeps."""
    groups = dict(sorted(groups_of_sleeps(records).items()))
    if not groups:
        return ""
    parts = []
    for label, group in groups.items():
        rows = [[str(depth), *_cells(group, depth)] for depth in DEPTHS]
        heads = ["hidden layers", "% right, no sleep", "with sleep", "gain", "newest classes"]
        heads += ["cosine to task 1 before", "after"]
        little = trained(group)
        sizes = [[f"{n:,}", f"{100 * before_sleep(group, n):.1f}", difference_text(by)] for n, by in little.items()]
        parts += [f"### {label}", table(heads, rows, align="r"), claim_table(claims(group), first="asked")]
        parts += [table(["images of the one task", "% right before sleep", "the sleep adds"], sizes, align="r")]
    return "\n\n".join([*parts, describe(groups)])


def _cells(records: Sequence[Told], depth: int) -> list[str]:
    told = [record["depths"][str(depth)] for record in records]
    naive, slept, newest = (100 * float(np.mean([one[k] for one in told])) for k in ("naive", "slept", "newest"))
    before, after = np.mean([one["cosine"] for one in told], axis=0)
    cells = [f"{naive:.1f}", f"{slept:.1f}", difference_text(gain(records, depth)), f"{newest:.1f}"]
    return [*cells, f"{before:.3f}", f"{after:.3f}"]


def describe(groups: Mapping[str, Sequence[Told]]) -> str:
    """Return what tables and picture show: of what, how many seeds, of which commit."""
    every = [record for group in groups.values() for record in group]
    seeds = ", ".join(f"{len(group)} ({label})" for label, group in groups.items())
    commits = ", ".join(sorted({record["commit"][:7] for record in every}))
    width = every[0]["config"]["model"]["hidden"][0]
    return (
        f"Hidden layers of {width} units. Percent right of held-out training images of all classes at the end; gain in "
        "points with Student's 95 % interval over seeds, paired. Newest classes: accuracy on those just learnt, before "
        "a night. Cosine: of all weights to those of the head right after task 1, before its sleep; mean over later "
        "nights; its differences are times 100. One task: all classes at once. "
        f"Seeds: {seeds}. Commit {commits}."
    )
