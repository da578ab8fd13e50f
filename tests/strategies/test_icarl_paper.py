"""The paper's iCaRL: one loss, in which the network's own earlier answers stand for the labels of exemplars."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch import nn

from benchmarks.runs.models import MultiHead, SquaredError, StraightThroughReLU
from src_plugin.errors import ConfigError, HeadNotFoundError
from strategies import build_strategy
from strategies.herding import Teacher
from strategies.icarl_paper import PaperLoss, soften
from strategies.prediction import classifiers
from strategy_samples import Points, answers, equal, experiences, plugin, setup, train, witnessed

CRITERIA: dict[str, nn.Module] = {"cross_entropy": nn.CrossEntropyLoss(), "squared_error": SquaredError()}


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
def test_without_a_teacher_the_loss_is_the_criterion(criterion: nn.Module) -> None:
    outputs, labels = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 5
    torch.testing.assert_close(PaperLoss(soften(criterion))(outputs, labels), criterion(outputs, labels))


class Fixed(nn.Module):
    """A teacher that answers 0, log 3 and 5 to everything."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.0, math.log(3.0), 5.0]).expand(len(x), 3)


def taught(criterion: nn.Module, outputs: torch.Tensor) -> float:
    """Loss of an exemplar of class 0 and a new image of class 2; the teacher knows classes 0 and 1."""
    loss, labels = PaperLoss(soften(criterion)), torch.tensor([0, 2])
    loss.network, loss.old_classes = Fixed(), [0, 1]
    loss.answers = loss.ask(torch.zeros(2, 1), labels)
    return float(loss(outputs, labels))


def test_cross_entropy_takes_the_teachers_probabilities_over_the_classes_it_knows() -> None:
    # Softmax of (0, log 3) is (1/4, 3/4); the third output, 5, is of no class it knows. -log softmax of zeros: log 3.
    outputs = torch.tensor([[0.0, math.log(2.0), 0.0], [0.0, 0.0, 0.0]])  # softmax (1/4, 1/2, 1/4)
    wanted = (0.25 * math.log(4.0) + 0.75 * math.log(2.0) + math.log(3.0)) / 2.0
    assert taught(nn.CrossEntropyLoss(), outputs) == pytest.approx(wanted)


def test_squared_error_takes_the_teachers_outputs_as_they_are() -> None:
    # Targets (0, log 3, 0) and (0, 0, 1).
    outputs = torch.tensor([[0.5, math.log(3.0), 1.0], [0.0, 0.0, 0.0]])
    assert taught(SquaredError(), outputs) == pytest.approx((0.5 * (0.25 + 1.0) + 0.5) / 2.0)


@pytest.mark.parametrize(
    "criterion",
    [
        nn.MSELoss(),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(weight=torch.ones(4)),
        nn.CrossEntropyLoss(reduction="sum"),
        nn.CrossEntropyLoss(reduction="none"),
    ],
    ids=["MSELoss", "smoothed", "weighted", "sum", "none"],
)
def test_a_criterion_that_cannot_be_taught_with_is_refused(criterion: nn.Module) -> None:
    with pytest.raises(ConfigError, match=f"{type(criterion).__name__} would be.*; use nn.CrossEntropyLoss"):
        build_strategy("icarl_mlp", setup(criterion=criterion))


def test_only_exemplars_are_taught_and_by_the_network_from_before_the_experience() -> None:
    class Witness(SupervisedPlugin):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.start: list[torch.Tensor] = []
            self.taught = 0

        def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            self.start = [p.detach().clone() for p in strategy.model.parameters()]

        def before_backward(self, strategy: Any, **kwargs: Any) -> None:
            loss = plugin(strategy, PaperLoss)
            if loss.answers is None:
                assert strategy.clock.train_exp_counter == 0
                return
            first, last = self.start
            x = strategy.mb_x[strategy.mb_y < 2]
            outputs = (x @ first.T).relu() @ last.T
            torch.testing.assert_close(loss.answers, outputs[:, :2].softmax(1))
            self.taught += len(x)

        def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            assert plugin(strategy, PaperLoss).answers is None

    witness = Witness()
    witnessed("icarl_mlp", witness)
    assert witness.taught == 16 * 5  # exemplars, epochs


def test_what_the_teacher_says_matters() -> None:
    def second(*, changed: bool) -> list[torch.Tensor]:
        strategy = next(train("icarl_mlp", setup()))
        if changed:
            teacher = plugin(strategy, Teacher).network
            with torch.no_grad():
                next(teacher.parameters()).mul_(0.5)
        strategy.train(experiences(at_once=False)[1])
        return [*strategy.model.parameters()]

    assert equal(second(changed=False), second(changed=False))
    assert not equal(second(changed=True), second(changed=False))


@pytest.mark.parametrize("name", ["icarl_mlp", "icarl_mlp+src"])
def test_rectified_outputs_learn_by_squared_error(name: str) -> None:
    model = nn.Sequential(nn.Linear(12, 16, bias=False), nn.ReLU(), nn.Linear(16, 4, bias=False), StraightThroughReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    *_, strategy = train(name, setup(model=model, optimizer=optimizer, criterion=SquaredError()))
    labels = Points(20, 1).tensors[1]
    for scores in answers(strategy):
        assert (scores.argmax(1) == labels).float().mean() > 0.9


def test_features_are_those_of_the_network_in_use() -> None:
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))
    strategy = next(train("icarl_mlp", setup(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.2))))
    x = Points(5, 2).tensors[0]
    state = torch.get_rng_state()
    scores = classifiers(strategy)["nearest_mean"]
    assert torch.equal(scores(x), scores(x))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training  # its mode is left as it was


def test_a_network_whose_outputs_are_not_those_of_a_linear_layer_is_refused_before_training() -> None:
    model = nn.Sequential(nn.Linear(12, 4), nn.BatchNorm1d(4))
    strategy = build_strategy("icarl_mlp", setup(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1)))
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(HeadNotFoundError, match="in Sequential there is none: end the model in one"):
        strategy.train(experiences(at_once=False)[0])
    assert equal(before, [*model.parameters()])


def test_one_head_per_task_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"icarl_mlp: MultiHead has one head per task.*use one head"):
        build_strategy("icarl_mlp", setup(model=MultiHead(nn.Sequential(nn.Linear(12, 8), nn.ReLU()), 8)))
