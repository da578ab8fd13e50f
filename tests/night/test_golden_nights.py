"""Whole nights of three small heads, held against committed numbers: a night that changes is a result that changes.

`PYTHONPATH=.:tests python tests/night/test_golden_nights.py` writes the numbers anew. That is a commit of its own,
which says why they moved, with a line under Results in CHANGELOG.md.
"""

import copy
import json
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn

from models import mlp
from places import GOLDEN
from src_plugin.config import SleepConfig
from src_plugin.head.find import find_head
from src_plugin.night.sleep import sleep

FILE = GOLDEN / "nights.json"
OLD, NEW = (0, 1, 2), (3, 4)  # output 5 is that of a class not met yet
COUNTS = {0: 40, 1: 30, 2: 50, 3: 20, 4: 60}
HEADS = {
    "two layers": ((20, 24, 6), False),
    "three layers": ((20, 24, 16, 6), True),
    "one layer": ((20, 6), True),
}
simulated = partial(SleepConfig.preset, "simulated", steps=200)


def inputs_of(classes, n, *, seed):
    """Inputs of a head, and their classes in turn: each class has four inputs of its own that are high."""
    generator = np.random.default_rng(seed)
    labels = np.array([classes[i % len(classes)] for i in range(n)])
    centres = 0.1 + 0.8 * (np.arange(20) // 4 == np.arange(6)[:, None] % 5)
    x = np.clip(centres[labels] + 0.3 * generator.standard_normal((n, 20)), 0.0, None)
    return torch.from_numpy(x), torch.from_numpy(labels)


MEAN = inputs_of((*OLD, *NEW), 400, seed=1)[0].mean(0)
CURRENT, CLASSES = inputs_of(NEW, 80, seed=2)
SAMPLES = tuple(torch.cat(pair) for pair in zip(inputs_of(OLD, 60, seed=3), inputs_of(NEW, 40, seed=4), strict=True))


def uneven(x, y):
    """The same inputs, one of which is silent and another one hardly varies."""
    x = x.clone()
    x[:, 19], x[:, 18] = 0.0, 0.5 + 0.02 * x[:, 18]
    return x, y


def learn(model, x, y, *, steps):
    """Gradient descent on all samples at once, in double precision: the same everywhere but for rounding."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


@cache
def learnt(name, *, has_past=True, steps=60):
    """A head that learnt the old classes and then, in so many steps, the new ones.

    Args:
        name: Of HEADS.
        has_past: Whether the outputs of the new classes were there when the old ones were learnt.
        steps: Of learning the new classes.

    Returns:
        The model, and its parameters before the new classes.
    """
    sizes, bias = HEADS[name]
    model = mlp(*sizes, bias=bias, seed=5, dtype=torch.float64)
    last = find_head(model, head="").layers[-1].weight
    added = last.detach()[list(NEW)].clone()
    learn(model, *inputs_of(OLD, 60, seed=3), steps=100)
    if not has_past:
        with torch.no_grad():
            last[list(NEW)] = added
    before = find_head(model, head="").read()
    learn(model, CURRENT, CLASSES, steps=steps)
    return model, before


MANY = uneven(*inputs_of(NEW, 320, seed=8))[0]
UNEVEN_MEAN = uneven(*inputs_of((*OLD, *NEW), 400, seed=1))[0].mean(0)
JUDGED = {"samples": SAMPLES, "recall": 0.7}
NIGHTS = {
    # what is done: the config, what is told otherwise, and how the head is made
    "default": (SleepConfig(), {}, {}),
    "src_only": (SleepConfig.preset("src_only", steps=200), {}, {}),
    "settle and level": (SleepConfig.preset("auto", replay=False), {}, {}),
    "simulated": (simulated(), {}, {}),
    "before": (simulated(input_share=1.0, noise="binary", prior="equal"), {}, {}),
    "default, first": (SleepConfig(), {"new_classes": OLD, "old_classes": ()}, {}),
    "simulated, first": (simulated(inc=0.3, dec=0.0), {"new_classes": OLD, "old_classes": ()}, {}),
    "default, new rows without a past": (SleepConfig(), {}, {"has_past": False}),
    "hidden gate off": (SleepConfig.preset("auto", hidden_gate=False), {}, {}),
    "too deep": (SleepConfig.preset("auto", depth=8.0, hidden_gate=False), {}, {"steps": 12}),
    "balanced": (SleepConfig(), JUDGED, {"steps": 3}),
    "default, judged": (SleepConfig(), JUDGED, {}),
    "too deep, judged": (simulated(inc=0.3, dec=0.0, settle=False), JUDGED, {"steps": 16}),
    "memorised, judged": (
        SleepConfig.preset("auto", depth=1.0, settle=False),
        {**JUDGED, "recall": 0.97},
        {"steps": 20},
    ),
    "simulated, judged": (simulated(), JUDGED, {}),
    "many inputs, uneven": (SleepConfig(), {"inputs": MANY, "mean_input": UNEVEN_MEAN}, {}),
}
CASES = [(head, night) for head in HEADS for night in NIGHTS]


def pass_night(head, night):
    """What one night did: the report as records hold it, and numbers that stand for each parameter after it."""
    config, told, how = NIGHTS[night]
    model, before = copy.deepcopy(learnt(head, **how))
    known = {
        "before": before,
        "new_classes": NEW,
        "old_classes": OLD,
        "class_counts": COUNTS,
        "inputs": CURRENT,
        "mean_input": MEAN,
        **told,
    }
    report = sleep(model, config=config, generator=7, **known).to_dict()
    del report["seconds"]
    signs = [torch.cos(torch.arange(p.numel(), dtype=p.dtype)).reshape(p.shape) for p in model.parameters()]
    left = [p.detach() for p in model.parameters()]
    sums = [[float(p.sum()), float((s * p).sum()), float(p.norm())] for s, p in zip(signs, left, strict=True)]
    return {"report": report, "parameters": sums}


def flat(value, name=""):
    """Every number and text in nested lists and dictionaries, by its path."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {path: leaf for key, part in items for path, leaf in flat(part, f"{name}/{key}").items()} or {
            name: value
        }
    return {name: value}


@pytest.mark.parametrize(("head", "night"), CASES, ids=[" | ".join(case) for case in CASES])
def test_a_night_is_what_it_was(head, night):
    wanted = flat(json.loads(FILE.read_text("utf-8"))[head][night])
    found = flat(pass_night(head, night))
    assert set(found) == set(wanted)
    for path, value in wanted.items():
        close = pytest.approx(value, rel=1e-6, abs=1e-6) if isinstance(value, float) else value
        assert found[path] == close, path


def test_golden_nights_go_through_every_stage_and_end_in_every_way():
    reports = [night["report"] for head in json.loads(FILE.read_text("utf-8")).values() for night in head.values()]
    assert {report["decision"] for report in reports} == {"slept", "awake"}
    assert {report["engine"] for report in reports} == {"closed_form", "simulated", None}
    assert {report["settled_towards"] for report in reports} == {"before", "trained", None}
    assert {tuple(v["kept"] for v in report["verdicts"]) for report in reports} >= {(), (True,), (False, True)}
    assert any(0 < (report["kept_fraction"] or 0.0) < 1 for report in reports)


if __name__ == "__main__":
    torch.set_num_threads(1)
    nights = {head: {night: pass_night(head, night) for night in NIGHTS} for head in HEADS}
    FILE.write_text(json.dumps(nights, indent=1) + "\n", "utf-8")
