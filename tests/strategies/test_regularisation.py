"""Methods that hold weights or answers: each does its work, and a sleep comes before what it notes for later."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from strategies.regularisation import EWC, LwF
from strategy_samples import N_WEIGHTS, Penalty, Points, equal, plugin, setup, train, weights, witnessed


@pytest.mark.parametrize("name", ["ewc", "lwf"])
def test_each_trains_other_weights_than_plain_fine_tuning(name: str) -> None:
    assert not equal(weights(name, setup()), weights("naive", setup()))


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
