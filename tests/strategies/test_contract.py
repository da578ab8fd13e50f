"""What every row of STRATEGIES promises; a new row is tested by being added."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.core import SupervisedPlugin
from torch import nn
from torch.utils.data import TensorDataset

from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError
from strategies import STRATEGIES, SUFFIXES, TrainingSetup, build_strategy, find_row, sleep_of

N_CLASSES = 4
SLEEPERS = [name for name, row in STRATEGIES.items() if row.sleeps]


class Points(TensorDataset):
    """Four well separated clusters in the positive orthant: sleep needs inputs that are not negative."""

    def __init__(self, per_class: int, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        labels = torch.arange(N_CLASSES).repeat_interleave(per_class)
        centres = torch.eye(N_CLASSES).repeat_interleave(3, dim=1)  # (4, 12)
        super().__init__((centres[labels] + 0.1 * torch.rand(len(labels), 12, generator=rng)), labels)
        self.targets = labels.tolist()


def experiences(*, at_once: bool) -> Any:
    return nc_benchmark(
        Points(40, 0),
        Points(20, 1),
        n_experiences=1 if at_once else 2,
        task_labels=False,
        shuffle=False,
        fixed_class_order=list(range(N_CLASSES)),
    ).train_stream


def setup(seed: int = 0, **changes: Any) -> TrainingSetup:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 16, bias=False), nn.ReLU(), nn.Linear(16, N_CLASSES, bias=False))
    given = TrainingSetup(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.2),
        criterion=nn.CrossEntropyLoss(),
        batch_size=10,
        epochs=5,
        seed=seed,
    )
    return replace(given, **changes)


def train(name: str, given: TrainingSetup) -> Iterator[Any]:
    """Train on one experience after the other, yielding the strategy after each."""
    strategy = build_strategy(name, given)
    for experience in experiences(at_once=find_row(name)[0].at_once):
        strategy.train(experience)
        yield strategy


def accuracy(model: nn.Module, classes: set[int]) -> float:
    images, labels = Points(20, 1).tensors
    rows = torch.isin(labels, torch.tensor(sorted(classes)))
    with torch.no_grad():
        return (model.eval()(images[rows]).argmax(1) == labels[rows]).float().mean().item()


def weights(name: str, given: TrainingSetup) -> list[torch.Tensor]:
    *_, strategy = train(name, given)
    return [parameter.detach().clone() for parameter in strategy.model.parameters()]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", STRATEGIES)
def test_learns_what_it_is_shown(name: str) -> None:
    strategy = next(train(name, setup()))
    shown = set(range(N_CLASSES)) if STRATEGIES[name].at_once else {0, 1}
    assert accuracy(strategy.model, shown) > 0.9


@pytest.mark.parametrize("name", STRATEGIES)
def test_learns_every_experience(name: str) -> None:
    for k, strategy in enumerate(train(name, setup())):
        if not STRATEGIES[name].at_once:
            assert accuracy(strategy.model, {2 * k, 2 * k + 1}) > 0.6


@pytest.mark.parametrize("name", [*STRATEGIES, *(name + end for name in SLEEPERS for end in SUFFIXES)])
def test_same_seed_same_weights_other_seed_others(name: str) -> None:
    first = weights(name, setup(seed=1))
    assert equal(weights(name, setup(seed=1)), first)
    assert not equal(weights(name, setup(seed=2)), first)


@pytest.mark.parametrize("name", [*STRATEGIES, *(name + end for name in SLEEPERS for end in SUFFIXES)])
def test_the_callers_plugins_are_used_and_their_list_is_left_alone(name: str) -> None:
    class Counter(SupervisedPlugin):  # type: ignore[type-arg, misc]
        seen = 0

        def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            self.seen += 1

    counter = Counter()
    plugins = [counter]
    assert len(list(train(name, setup(plugins=plugins)))) == counter.seen
    assert plugins == [counter]


@pytest.mark.parametrize("name", SLEEPERS)
def test_sleep_is_added_by_its_suffix(name: str) -> None:
    strategy = build_strategy(f"{name}+src", setup())
    assert [type(plugin).__name__ for plugin in strategy.plugins].count("SRCPlugin") == 1
    assert "SRCPlugin" not in [type(plugin).__name__ for plugin in build_strategy(name, setup()).plugins]


@pytest.mark.parametrize("name", SLEEPERS)
def test_no_sleep_steps_means_the_very_same_weights(name: str) -> None:
    assert equal(weights(f"{name}+src", setup(sleep=SleepConfig(steps=0))), weights(name, setup()))


def test_every_way_of_sleeping_changes_weights_in_its_own_way() -> None:
    naive, slept, settled = (weights(name, setup()) for name in ("naive", "naive+src", "naive+settle"))
    assert not equal(slept, naive)
    assert not equal(settled, naive)
    assert not equal(slept, settled)


def test_settling_alone_leaves_out_the_sleep_and_nothing_else() -> None:
    assert sleep_of("naive+settle", SleepConfig(depth=0.7)) == SleepConfig(depth=0.7, replay=False)
    assert sleep_of("naive+src", SleepConfig(depth=0.7)) == SleepConfig(depth=0.7)
    with pytest.raises(ConfigError, match="nothing is left of it; use a preset that does, such as auto"):
        build_strategy("naive+settle", setup(sleep="paper/patches"))


def test_averages_of_weights_are_those_of_all_experiences_so_far() -> None:
    # W1, then (W1 + W2) / 2, then (2 / 3) of that + W3 / 3: what training starts from is what averaging left.
    starts: list[list[torch.Tensor]] = []
    ends: list[list[torch.Tensor]] = []

    class Recorder(SupervisedPlugin):  # type: ignore[type-arg, misc]
        def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            starts.append([p.detach().clone() for p in strategy.model.parameters()])

        def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:  # before the averaging: it comes last
            ends.append([p.detach().clone() for p in strategy.model.parameters()])

    last = weights("average", setup(plugins=[Recorder()]))
    for k, (start, end, after) in enumerate(zip(starts, ends, [*starts[1:], last], strict=True), start=1):
        torch.testing.assert_close(after, [a + (b - a) / k for a, b in zip(start, end, strict=True)])


def test_settings_of_the_sleep_arrive() -> None:
    def reference(strategy: Any) -> torch.Tensor:
        return Points(40, 0).tensors[0]

    config = SleepConfig(steps=5)
    strategy = build_strategy("naive+src", setup(sleep=config, every=2, reference=reference))
    (plugin,) = (p for p in strategy.plugins if type(p).__name__ == "SRCPlugin")
    assert (plugin.config, plugin.every, plugin.reference) == (config, 2, reference)


@pytest.mark.parametrize(
    ("name", "message"),
    [("naiv", "did you mean 'naive'"), ("naive+scr", r"did you mean 'naive\+src'"), ("+src", "unknown strategy")],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_strategy(name, setup())


def test_what_cannot_sleep_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "headless", replace(STRATEGIES["naive"], sleeps=False))
    find_row("headless")
    with pytest.raises(ConfigError, match="'headless' cannot be combined"):
        find_row("headless+src")


@pytest.mark.parametrize("row", STRATEGIES.values(), ids=STRATEGIES)
def test_every_row_says_where_it_is_from_and_what_it_keeps(row: Any) -> None:
    assert len(row.paper) > 10
    assert row.keeps
