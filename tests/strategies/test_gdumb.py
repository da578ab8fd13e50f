"""GDumb: a fresh network for every experience, and nothing but exemplars to train it on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor

from strategies import Settings, build_strategy
from strategies.gdumb import GDumb
from strategy_samples import N_WEIGHTS, equal, experiences, plugin, setup, train, weights


class Witness(SupervisedPlugin):  # type: ignore[misc]
    """Notes, for each experience, the weights it began with, what was trained on, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[list[Tensor]] = []
        self.images: list[set[tuple[float, ...]]] = []
        self.updates: list[int] = []

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.begun.append([p.detach().clone() for p in strategy.model.parameters()])
        self.images.append(set())
        self.updates.append(0)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.images[-1].update(tuple(x) for x in strategy.mb_x.tolist())
        self.updates[-1] += 1


def test_trains_other_weights_than_plain_fine_tuning() -> None:
    assert not equal(weights("gdumb", setup()), weights("naive", setup()))


def test_every_experience_begins_with_the_first_weights_and_shows_exemplars_only() -> None:
    witness = Witness()
    given = setup(plugins=[witness])
    first = [p.detach().clone() for p in given.model.parameters()]
    for strategy, wanted in zip(train("gdumb", given), ({0: 8, 1: 8}, {0: 4, 1: 4, 2: 4, 3: 4}), strict=True):
        buffer = plugin(strategy, GDumb).storage_policy.buffer
        assert Counter(buffer.targets) == wanted
        assert witness.images[-1] == {tuple(x.tolist()) for x, *_ in buffer}
        assert equal(witness.begun[-1], first)
        assert not equal([*strategy.model.parameters()], first)


@pytest.mark.parametrize(
    ("size", "updates"),
    [
        (16, [40, 40]),  # 80 images in batches of 10, five times; 16 make two batches, so twenty times
        (30, [42, 42]),  # three batches, 13.3 times, so fourteen
        (160, [40, 48]),  # all 80, as often as others; then all 160, of which half as many passes are three
    ],
)
def test_as_many_updates_are_made_as_the_experience_would_have_taken(size: int, updates: list[int]) -> None:
    witness = Witness()
    *_, strategy = train("gdumb", setup(plugins=[witness], settings=Settings(memory_size=size)))
    assert witness.updates == updates
    assert strategy.train_epochs == 5


def test_the_optimizer_goes_with_the_network_and_begins_anew() -> None:
    class Fresh(SupervisedPlugin):  # type: ignore[misc]
        def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            if strategy.clock.train_exp_epochs == 0:
                assert not any(strategy.optimizer.state.values())

    given = setup(plugins=[Fresh()])
    given.optimizer.param_groups[0]["momentum"] = 0.9
    strategy = build_strategy("gdumb", given)
    models = []
    for experience in experiences(at_once=False):
        strategy.train(experience)
        models.append(strategy.model)
        own = {id(p) for p in strategy.model.parameters()}
        assert {id(p) for group in strategy.optimizer.param_groups for p in group["params"]} == own
        assert {id(p) for p in strategy.optimizer.state} == own
        assert all(state["momentum_buffer"] is not None for state in strategy.optimizer.state.values())
    assert models[0] is not models[1]


def test_exemplars_and_the_first_weights_are_what_it_keeps() -> None:
    strategy = build_strategy("gdumb", setup())
    assert plugin(strategy, GDumb).kept_bytes == 0
    strategy.train(experiences(at_once=False)[0])
    assert plugin(strategy, GDumb).kept_bytes == 16 * (12 * 4 + 8) + 4 * N_WEIGHTS


def test_it_can_sleep_and_is_told_that_this_does_not_last() -> None:
    with pytest.warns(UserWarning, match="nothing of it stays"):
        slept = [[p.detach() for p in s.model.parameters()] for s in train("gdumb+src", setup())]
    awake = [[p.detach() for p in s.model.parameters()] for s in train("gdumb", setup())]
    assert not equal(slept[0], awake[0])
    assert all(torch.isfinite(p).all() for p in slept[1])
