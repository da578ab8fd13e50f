"""Replay, EWC and LwF: each does its work, and a sleep comes before what it notes for later."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch import nn

from src_plugin.errors import ConfigError
from strategies import Settings, build_strategy
from strategies.established import EWC, LwF, Replay
from strategy_samples import Points, equal, experiences, setup, train, weights

N_WEIGHTS = 12 * 16 + 16 * 4


def plugin(strategy: Any, kind: type) -> Any:
    (found,) = (p for p in strategy.plugins if isinstance(p, kind))
    return found


def witnessed(name: str, witness: Any) -> Any:
    """Train on both experiences with a last plugin that looks on, and return the strategy."""
    strategy = build_strategy(name, setup())
    strategy.plugins.append(witness)
    for experience in experiences(at_once=False):
        strategy.train(experience)
    return strategy


@pytest.mark.parametrize("name", ["replay", "ewc", "lwf"])
def test_each_trains_other_weights_than_plain_fine_tuning(name: str) -> None:
    assert not equal(weights(name, setup()), weights("naive", setup()))


def test_exemplars_of_old_classes_come_with_every_batch_of_new_ones() -> None:
    class Witness(SupervisedPlugin):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.batches: list[Counter[int]] = []

        def before_forward(self, strategy: Any, **kwargs: Any) -> None:
            self.batches.append(Counter(strategy.mb_y.tolist()))

    witness = Witness()
    witnessed("replay", witness)
    first, second = witness.batches[:40], witness.batches[40:]  # 80 images in batches of 10, five times
    assert len(second) == 40
    assert all(set(batch) <= {0, 1} for batch in first)
    for batch in second:
        assert batch[2] + batch[3] == 10
        assert batch[0] + batch[1] in (6, 10)  # 16 exemplars in batches of 10


def test_exemplars_are_balanced_over_classes_within_the_budget() -> None:
    for strategy, wanted in zip(train("replay", setup()), ({0: 8, 1: 8}, {0: 4, 1: 4, 2: 4, 3: 4}), strict=True):
        memory = plugin(strategy, Replay)
        assert Counter(memory.storage_policy.buffer.targets) == wanted  # a tenth of 160 images
        assert memory.kept_bytes == 16 * (12 * 4 + 8)
    shown = {tuple(x.tolist()) for x in Points(40, 0).tensors[0]}
    assert all(tuple(x.tolist()) in shown for x, *_ in memory.storage_policy.buffer)


def test_a_memory_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"0\.001 of 160 training images keeps nothing; raise settings"):
        build_strategy("replay", setup(settings=Settings(memory_fraction=0.001)))


class Penalty(SupervisedPlugin):  # type: ignore[misc]
    """Notes by how much the loss that is minimised exceeds that of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.seen.append((strategy.loss - strategy.criterion()).item())


@pytest.mark.parametrize("name", ["ewc", "lwf"])
def test_a_penalty_holds_the_second_experience_and_not_the_first(name: str) -> None:
    penalty = Penalty()
    witnessed(name, penalty)
    assert set(penalty.seen[:40]) == {0.0}
    assert penalty.seen[40] == pytest.approx(0.0, abs=1e-6)  # the weights are still those of the anchor or teacher
    assert min(penalty.seen[41:]) > 0.0


@pytest.mark.parametrize("name", ["ewc", "ewc+src"])
def test_ewc_anchors_are_the_weights_training_left_after_the_sleep(name: str) -> None:
    for k, strategy in enumerate(train(name, setup())):
        ewc = plugin(strategy, EWC)
        anchors = [kept.data for kept in ewc.saved_params[k].values()]
        assert equal(anchors, [p.detach() for p in strategy.model.parameters()])
        assert ewc.kept_bytes == (k + 1) * 2 * 4 * N_WEIGHTS
    assert not equal(anchors, weights("ewc", setup())) or name == "ewc"  # there was a sleep


@pytest.mark.parametrize("name", ["lwf", "lwf+src"])
def test_the_teacher_is_the_network_training_left_after_the_sleep(name: str) -> None:
    for k, strategy in enumerate(train(name, setup())):
        lwf = plugin(strategy, LwF)
        teacher = lwf.lwf.prev_model
        assert teacher is not strategy.model
        assert equal([*teacher.parameters()], [*strategy.model.parameters()])
        assert lwf.kept_bytes == 4 * N_WEIGHTS + 8 * 2 * (k + 1)
    assert not equal([*teacher.parameters()], weights("lwf", setup())) or name == "lwf"  # there was a sleep


def test_a_teacher_with_dropout_gives_the_same_answer_twice() -> None:
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))
    given = setup(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.2))
    strategy = next(train("lwf", given))
    x = Points(5, 2).tensors[0]
    teacher = plugin(strategy, LwF).lwf.prev_model
    assert torch.equal(teacher(x), teacher(x))
    assert not torch.equal(strategy.model(x), strategy.model(x))  # which is in training mode still
