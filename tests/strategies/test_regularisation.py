"""Methods that hold weights or answers: each does its work, and a sleep comes before what it notes for later."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import dill  # type: ignore[import-untyped]
import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import IncrementalClassifier
from avalanche.training.plugins import MASPlugin
from torch import nn

from strategies import Settings, TrainingSetup, build_strategy
from strategies.regularisation import EWC, MAS, SI, LwF
from strategy_samples import (
    N_WEIGHTS,
    Penalty,
    Points,
    equal,
    experiences,
    plugin,
    setup,
    train,
    weights,
    witnessed,
)

KINDS = {"ewc": EWC, "ewc_online": EWC, "si": SI, "mas": MAS, "lwf": LwF}


def with_network(model: nn.Module, **changes: Any) -> TrainingSetup:
    return setup(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.2), **changes)


def with_dropout() -> TrainingSetup:
    return with_network(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4)))


def parameters(strategy: Any) -> list[torch.Tensor]:
    return [p.detach().clone() for p in strategy.model.parameters()]


def asleep(name: str) -> bool:
    """Whether a sleep has left other weights than training alone."""
    return not equal(weights(name, setup()), weights(name.removesuffix("+src"), setup()))


@pytest.mark.parametrize("name", KINDS)
def test_each_trains_other_weights_than_plain_fine_tuning(name: str) -> None:
    assert not equal(weights(name, setup()), weights("naive", setup()))


@pytest.mark.parametrize("name", KINDS)
def test_a_penalty_holds_the_second_experience_and_not_the_first(name: str) -> None:
    penalty = Penalty()
    witnessed(name, penalty)
    assert set(penalty.seen[:40]) == {0.0}
    assert penalty.seen[40] == pytest.approx(0.0, abs=1e-6)  # the weights are still those of the anchor or teacher
    assert min(penalty.seen[41:]) > 0.0


@pytest.mark.parametrize("name", KINDS)
def test_a_run_goes_on_with_a_plugin_that_was_stored(name: str) -> None:
    given = setup()
    strategy = build_strategy(name, given)
    first, second = experiences(at_once=False)
    strategy.train(first)
    place = strategy.plugins.index(plugin(strategy, KINDS[name]))
    strategy.plugins[place] = dill.loads(dill.dumps(strategy.plugins[place]))
    strategy.train(second)
    assert equal(parameters(strategy), weights(name, setup()))


@pytest.mark.parametrize("name", ["ewc", "ewc_online", "si", "mas"])
def test_outputs_that_come_later_are_free(name: str) -> None:
    class Grown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(12, 16, bias=False)
            self.outputs = IncrementalClassifier(16, initial_out_features=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.outputs(self.hidden(x).relu())
            return scores

    penalty = Penalty()
    strategy = build_strategy(name, with_network(Grown()))
    strategy.plugins.append(penalty)
    for experience in experiences(at_once=False):
        strategy.train(experience)
    assert strategy.model.outputs.classifier.out_features == 4
    assert penalty.seen[40] == pytest.approx(0.0, abs=1e-6)  # nothing pulls the new rows towards 0
    assert min(penalty.seen[41:]) > 0.0


@pytest.mark.parametrize("name", ["ewc", "ewc+src", "ewc_online", "ewc_online+src"])
def test_ewc_anchors_are_the_weights_training_left_after_the_sleep(name: str) -> None:
    for k, strategy in enumerate(train(name, setup())):
        ewc = plugin(strategy, EWC)
        anchors = [kept.data for kept in ewc.saved_params[k].values()]
        assert equal(anchors, parameters(strategy))
        assert ewc.kept_bytes == (1 if "online" in name else k + 1) * 2 * 4 * N_WEIGHTS
    assert asleep(name) == name.endswith("+src")


@pytest.mark.parametrize("name", ["ewc", "ewc+src", "ewc_online", "ewc_online+src"])
def test_fisher_information_is_that_of_the_slept_network_and_online_adds_a_share_of_the_older(name: str) -> None:
    share = 0.5 if "online" in name else 0.0
    expected = [torch.zeros(16, 12), torch.zeros(4, 16)]
    given = setup(settings=replace(setup().settings, ewc_decay=0.5))
    for k, strategy in enumerate(train(name, given)):
        ewc = plugin(strategy, EWC)
        dataset = experiences(at_once=False)[k].dataset
        now = ewc.compute_importances(strategy.model, nn.CrossEntropyLoss(), strategy.optimizer, dataset, "cpu", 10)
        expected = [share * old + new.data for old, new in zip(expected, now.values(), strict=True)]
        assert equal([kept.data for kept in ewc.importances[k].values()], expected)


def walk(si: SI, model: nn.Linear, loss: Any, *, rate: float, n: int) -> None:
    """Call the hooks of SI as training by n gradient steps does."""
    strategy = SimpleNamespace(model=model)
    si.before_training_exp(strategy)
    for _ in range(n):
        si.before_training_iteration(strategy)
        model.zero_grad()
        strategy.loss = loss(model.weight).sum()
        si.before_backward(strategy)
        strategy.loss.backward()
        gradient = model.weight.grad
        assert gradient is not None
        with torch.no_grad():
            model.weight -= rate * gradient
        si.after_training_iteration(strategy)
    si.after_training_exp(strategy)


def test_si_importance_is_what_the_way_of_a_weight_lowered_the_loss_by() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    si = SI(si_lambda=0.5, xi=0.0625)
    # w^2 / 2 has gradient w: from 1 to 0.5 to 0.25. Gained 1 * 0.5 + 0.5 * 0.25 = 0.625; moved 0.75, 0.5625 squared.
    walk(si, model, lambda w: w.square() / 2, rate=0.5, n=2)
    assert model.weight.item() == 0.25
    assert si.importance["weight"].item() == 0.625 / (0.5625 + 0.0625)
    nn.init.constant_(model.weight, 0.5)  # a sleep
    # -w has gradient -1: from 0.5 to 1. Then the penalty 0.5 * 1 * 0.5^2 takes 2 * 0.5 * 0.5 = 0.5 of that: to 1.25.
    # Gained 1 * 0.5 + 1 * 0.25 = 0.75, what the penalty pulled not counted; moved 0.75 again.
    walk(si, model, lambda w: -w, rate=0.5, n=2)
    assert model.weight.item() == 1.25
    assert si.importance["weight"].item() == pytest.approx(1.0 + 0.75 / 0.625)


def test_si_importance_is_never_negative() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    si = SI(si_lambda=1.0)
    walk(si, model, lambda w: w.square() / 2, rate=-0.5, n=1)  # uphill
    assert si.importance["weight"].item() == 0.0


def test_si_importance_leaves_the_sleep_out_and_the_next_anchor_is_the_slept_network() -> None:
    class Anchors(SupervisedPlugin):  # type: ignore[misc]
        seen: list[torch.Tensor]

        def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            self.seen = [anchor.clone() for anchor in plugin(strategy, SI).anchor.values()]

    awake = next(train("si", setup()))
    strategy = build_strategy("si+src", setup())
    strategy.plugins.append(anchors := Anchors())
    first, second = experiences(at_once=False)
    strategy.train(first)
    slept = parameters(strategy)
    assert not equal(slept, parameters(awake))
    assert equal([*plugin(strategy, SI).importance.values()], [*plugin(awake, SI).importance.values()])
    strategy.train(second)
    assert equal(anchors.seen, slept)


def test_si_leaves_frozen_layers_alone() -> None:
    strategy = build_strategy("si", setup())
    first, second = experiences(at_once=False)
    strategy.train(first)
    frozen, trained = (plugin(strategy, SI).importance[name].clone() for name in ("0.weight", "2.weight"))
    strategy.model[0].requires_grad_(False)
    strategy.train(second)
    assert torch.equal(plugin(strategy, SI).importance["0.weight"], frozen)
    assert not torch.equal(plugin(strategy, SI).importance["2.weight"], trained)


def test_si_keeps_one_number_for_each_weight() -> None:
    for strategy in train("si", setup()):
        assert plugin(strategy, SI).kept_bytes == 4 * N_WEIGHTS


@pytest.mark.parametrize("name", ["mas", "mas+src"])
def test_mas_anchors_and_importance_are_those_of_the_network_training_left_after_the_sleep(name: str) -> None:
    expected = [torch.zeros(16, 12), torch.zeros(4, 16)]
    for k, strategy in enumerate(train(name, setup())):
        mas = plugin(strategy, MAS)
        assert equal([anchor.data for anchor in mas.params.values()], parameters(strategy))
        strategy.experience = experiences(at_once=False)[k]
        upstream = MASPlugin._get_importance(mas, strategy)  # without dropout, Avalanche's own is right
        share = 0.5 if k else 0.0
        expected = [share * a + (1 - share) * b.data for a, b in zip(expected, upstream.values(), strict=True)]
        torch.testing.assert_close([kept.data for kept in mas.importance.values()], expected)
        assert mas.kept_bytes == 2 * 4 * N_WEIGHTS
    assert asleep(name) == name.endswith("+src")


def test_mas_importance_with_dropout_is_the_same_twice() -> None:
    strategy = next(train("mas", with_dropout()))
    mas, strategy.experience = plugin(strategy, MAS), experiences(at_once=False)[0]
    strategy.model.train()
    again = mas._get_importance(strategy)
    assert equal([kept.data for kept in mas.importance.values()], [kept.data for kept in again.values()])
    assert strategy.model.training


def test_mas_trains_on_where_the_loss_is_exactly_zero() -> None:
    class Indifferent(nn.Module):
        def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return 0.0 * output.sum()

    untrained = [p.detach().clone() for p in setup().model.parameters()]
    assert equal(weights("mas", setup(criterion=Indifferent())), untrained)


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_kept_before_the_first_experience(name: str) -> None:
    assert plugin(build_strategy(name, setup()), KINDS[name]).kept_bytes == 0


@pytest.mark.parametrize(
    ("name", "field"),
    [("ewc", "ewc_lambda"), ("ewc_online", "ewc_online_lambda"), ("si", "si_lambda"), ("mas", "mas_lambda")],
)
def test_the_weight_of_a_penalty_is_that_of_the_settings(name: str, field: str) -> None:
    seen = []
    for factor in (1.0, 2.0):
        value = factor * getattr(Settings, field)
        penalty = Penalty()
        strategy = build_strategy(name, setup(settings=replace(setup().settings, **{field: value})))
        strategy.plugins.append(penalty)
        for experience in experiences(at_once=False):
            strategy.train(experience)
        seen.append(penalty.seen[41])  # one update after the anchor, where the weights of both are still the same
    assert seen[1] == pytest.approx(2 * seen[0], rel=1e-3)


@pytest.mark.parametrize("name", ["lwf", "lwf+src"])
def test_the_teacher_is_the_network_training_left_after_the_sleep(name: str) -> None:
    for k, strategy in enumerate(train(name, setup())):
        lwf = plugin(strategy, LwF)
        teacher = lwf.lwf.prev_model
        assert teacher is not strategy.model
        assert equal([*teacher.parameters()], [*strategy.model.parameters()])
        assert lwf.kept_bytes == 4 * N_WEIGHTS + 8 * 2 * (k + 1)
    assert asleep(name) == name.endswith("+src")


def test_a_teacher_with_dropout_gives_the_same_answer_twice() -> None:
    strategy = next(train("lwf", with_dropout()))
    x = Points(5, 2).tensors[0]
    teacher = plugin(strategy, LwF).lwf.prev_model
    assert torch.equal(teacher(x), teacher(x))
    assert not torch.equal(strategy.model(x), strategy.model(x))  # which is in training mode still
