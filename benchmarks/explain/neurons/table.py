"""Records of the neurons of classes -> tables, beside what the article says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.explain.claims import Claim, claim_table
from benchmarks.explain.controls.table import groups_of_sleeps
from benchmarks.explain.records import Told
from benchmarks.markdown import table

KINDS = {"old": "old classes", "new": "new classes", "never": "classes never learnt"}
"""Kinds of classes, seen from the last night -> what people read."""

PUBLISHED_T = ("3.456", "5.215")
"""t(200) of the article: neurons of new digits against those of old ones, layer 1 and 2."""

LEVEL = 0.05


def values(records: Sequence[Told], layer: int, kind: str, get: Callable[[Mapping[str, Any]], Any]) -> list[float]:
    """Return a number of each class of a kind in each record, without those that have none."""
    found = []
    for record in records:
        for label, told in record["layers"][layer]["by_class"].items():
            if record["classes"][label] == kind:
                found.append(get(told))
    return [x for x in found if x is not None]


def mean(numbers: Sequence[float]) -> float | None:
    """Return the mean, None of nothing."""
    return float(np.mean(numbers)) if numbers else None


def excess(records: Sequence[Told], layer: int, kind: str) -> float | None:
    """Return how many times more the neurons of classes of a kind spike in noise than all of the layer do."""
    every = float(np.mean([record["layers"][layer]["spikes"] for record in records]))
    own = mean(values(records, layer, kind, lambda told: told["spikes"]))
    return None if own is None or every == 0 else own / every


def inputs(records: Sequence[Told], layer: int, kind: str) -> tuple[float | None, float | None]:
    """Return the mean input of neurons of a kind of classes by their own images, before and after the sleep."""
    before, after = (
        values(records, layer, kind, lambda told, k=k: told["input"][k])  # type: ignore[misc]
        for k in (0, 1)
    )
    return mean(before), mean(after)


def claims(records: Sequence[Told], layer: int) -> list[Claim]:
    """Return what the article says of its Figs. 5 and 6, beside one hidden layer."""
    where = f"layer {layer + 1}: "
    told = []
    for kind, sign, words in (("old", 1, "rises"), ("new", -1, "falls")):
        changes = [after - before for before, after in values_of_pairs(records, layer, kind)]
        measured = " to ".join(f"{x:.2f}" if x is not None else "-" for x in inputs(records, layer, kind))
        holds = all(change * sign > 0 for change in changes) if changes else None
        told.append(Claim(f"{where}input of neurons of {KINDS[kind]} {words} in sleep", "", measured, holds))
    for kind in KINDS:
        ps = values(records, layer, kind, lambda one: one["p"])
        times = excess(records, layer, kind)
        more = f"{sum(p < LEVEL for p in ps)} of {len(ps)}, {'no spike' if times is None else f'{times:.1f} times'}"
        words = f"{where}in noise neurons of {KINDS[kind]} fire more than random subsets"
        holds = None if times is None else all(p < LEVEL for p in ps)
        if kind == "never":
            words = f"{where}our control, {words.removeprefix(where)}"
        told.append(Claim(words, "", more, holds))
    told.append(_new_over_old(records, layer, where))
    return told


def values_of_pairs(records: Sequence[Told], layer: int, kind: str) -> list[tuple[float, float]]:
    """Return the input before and after of each class of a kind in each record."""
    before, after = (
        values(records, layer, kind, lambda told, k=k: told["input"][k])  # type: ignore[misc]
        for k in (0, 1)
    )
    return list(zip(before, after, strict=True))


def _new_over_old(records: Sequence[Told], layer: int, where: str) -> Claim:
    tests = [record["layers"][layer]["new_old"] for record in records]
    tests = [test for test in tests if test is not None]
    published = f"t = {PUBLISHED_T[layer]}" if layer < len(PUBLISHED_T) else ""
    words = f"{where}in noise neurons of new classes fire more than those of old ones"
    if not tests:
        return Claim(words, published, "no neurons to compare", None)
    sure = [test["p_exact"] < LEVEL and test["t"] > 0 for test in tests]
    measured = "; ".join(f"t = {test['t']:.2f}, exact p = {test['p_exact']:.2g}" for test in tests)
    return Claim(words, published, measured, all(sure))


def markdown(records: Sequence[Told]) -> str:
    """Return a table of all sleeps, and the claims of each."""
    groups = dict(sorted(groups_of_sleeps(records).items()))
    if not groups:
        return ""
    rows = []
    for label, group in groups.items():
        for layer in range(len(group[0]["layers"])):
            for kind, words in KINDS.items():
                if values(group, layer, kind, lambda told: told["n"]):
                    rows.append([label, str(layer + 1), words, *_cells(group, layer, kind)])
    heads = ["data, optimizer, sleep", "layer", "neurons of", "neurons", "shared", "input before", "after"]
    heads += ["spikes in noise", "of the layer", "largest exact p"]
    parts = [table(heads, rows, align="lrlr"), describe(groups)]
    for label, group in groups.items():
        told = [claim for layer in range(len(group[0]["layers"])) for claim in claims(group, layer)]
        parts += [f"### {label}", claim_table(told)]
    return "\n\n".join(parts)


def _cells(records: Sequence[Told], layer: int, kind: str) -> list[str]:
    before, after = inputs(records, layer, kind)
    shared = mean(values(records, layer, kind, lambda told: told["shared"]))
    spikes = mean(values(records, layer, kind, lambda told: told["spikes"]))
    ps = values(records, layer, kind, lambda told: told["p"])
    return [
        f"{mean(values(records, layer, kind, lambda told: told['n'])) or 0:.0f}",
        "" if shared is None else f"{100 * shared:.0f} %",
        *("" if x is None else f"{x:.3f}" for x in (before, after)),
        "" if spikes is None else f"{spikes:.2f}",
        f"{np.mean([record['layers'][layer]['spikes'] for record in records]):.2f}",
        f"{max(ps):.1g}" if ps else "",
    ]


def describe(groups: Mapping[str, Sequence[Told]]) -> str:
    """Return what table and picture show: of what, how many seeds, of which commit."""
    every = [record for group in groups.values() for record in group]
    few = sorted({(one["n_units"], one["asked"]) for record in every for one in record["layers"] if one["asked"] < 100})
    small = "".join(f" A layer of {n} units is too small for 100: {k} are taken." for n, k in few)
    seeds = ", ".join(f"{len(group)} ({label})" for label, group in groups.items())
    commits = ", ".join(sorted({record["commit"][:7] for record in every}))
    return (
        "Neurons of a class: the 100 that spike most while the spiking network sees "
        f"{every[0]['images']} held-out training images of it, {every[0]['passes']} steps each.{small} Shared: also "
        "among those of another learnt class. Input: mean by the class's own images, awake. Noise: a sleep as long as "
        "the last night, driven by the same mean on every input; spikes of a unit in it. Exact p: of all subsets of "
        "the layer as large, the share with as many spikes. New and old are compared by neurons that are of one side "
        f"only, by Student's t and by all ways to part them. Seeds: {seeds}. Commit {commits}."
    )
