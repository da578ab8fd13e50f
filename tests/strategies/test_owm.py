"""OWM: the projector's recursion, what it lets training change, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import dill
import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch import nn

from src_plugin import SleepConfig, SRCPlugin
from src_plugin.errors import ConfigError
from strategies import Settings, TrainingSetup, build_strategy
from strategies.owm import OWMPlugin, mean_inputs, recurse, trained_layers
from strategy_samples import N_CLASSES, Points, equal, experiences, plugin, setup, train, weights

STRICT = Settings(owm_alpha=1e-3)


class Notes(SupervisedPlugin):  # type: ignore[misc]
    """Notes the gradients that update, and the means that each forward pass gives the layers."""

    def __init__(self) -> None:
        super().__init__()
        self.gradients: list[list[torch.Tensor]] = []

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        self.gradients.append([p.grad.clone() for p in strategy.model.parameters()])


def means_of(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad(), mean_inputs(trained_layers(model)) as means:
        model(images)
    return dict(means)


def momentum(**changes: Any) -> TrainingSetup:
    given = setup(settings=STRICT)
    optimizer = torch.optim.SGD(given.model.parameters(), lr=0.05, momentum=0.9)
    return setup(model=given.model, optimizer=optimizer, settings=STRICT, **changes)


def test_one_input_along_an_axis_shrinks_that_axis_alone() -> None:
    # P = inv(I + x x' / alpha) with x = (2, 0), alpha = 1: diag(1 / (1 + 4), 1).
    P = torch.eye(2, dtype=torch.float64)
    recurse(P, torch.tensor([2.0, 0.0], dtype=torch.float64), alpha=1.0)
    torch.testing.assert_close(P, torch.diag(torch.tensor([0.2, 1.0], dtype=torch.float64)))


@pytest.mark.parametrize("alpha", [0.1, 1.0, 30.0])
def test_the_recursion_is_the_regularised_inverse(alpha: float) -> None:
    seen = torch.rand(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    P = torch.eye(7, dtype=torch.float64)
    for x in seen:
        recurse(P, x, alpha=alpha)
    wanted = torch.linalg.inv(torch.eye(7, dtype=torch.float64) + seen.T @ seen / alpha)
    torch.testing.assert_close(P, wanted, rtol=0, atol=1e-12)
    assert torch.equal(P, P.T)


def test_projectors_are_those_of_the_batches_of_each_experience() -> None:
    # Batches as large as an experience: its mean input is known whatever their order, that of the hidden layer too.
    x = Points(40, 0).tensors[0]
    wanted = {"0": torch.eye(12), "2": torch.eye(16)}
    for k, strategy in enumerate(train("owm", setup(batch_size=80))):
        for name, mean in means_of(strategy.model, x[80 * k : 80 * k + 80]).items():
            wanted[name] = torch.linalg.inv(torch.linalg.inv(wanted[name]) + torch.outer(mean, mean))
        owm = plugin(strategy, OWMPlugin)
        assert list(owm.projectors) == ["0", "2"]
        for name, P in owm.projectors.items():
            torch.testing.assert_close(P, wanted[name], rtol=1e-4, atol=1e-5)
            assert torch.equal(P, P.T)
        assert owm.kept_bytes == 4 * (12 * 12 + 16 * 16)


def test_projectors_see_the_slept_network() -> None:
    x = Points(40, 0).tensors[0]
    wanted = torch.eye(16)
    how = {"batch_size": 80, "epochs": 40}  # one batch, whose mean is that of all
    for k, strategy in enumerate(train("owm+src", setup(**how))):
        mean = means_of(strategy.model, x[80 * k : 80 * k + 80])["2"]
        wanted = torch.linalg.inv(torch.linalg.inv(wanted) + torch.outer(mean, mean))
        torch.testing.assert_close(plugin(strategy, OWMPlugin).projectors["2"], wanted, rtol=1e-4, atol=1e-5)
    assert not equal(list(strategy.model.parameters()), after_each("owm", **how)[-1])  # there was a sleep


class Jump(SupervisedPlugin):  # type: ignore[misc]
    """What a sleep did to the weights."""

    def before_sleep(self, strategy: Any, **_: Any) -> None:
        self.before = {n: layer.weight.detach().clone() for n, layer in trained_layers(strategy.model).items()}

    def after_sleep(self, strategy: Any, **_: Any) -> None:
        layers = trained_layers(strategy.model)
        self.jump = {n: layers[n].weight.detach() - before for n, before in self.before.items()}


def test_a_sleep_moves_weights_only_where_training_may() -> None:
    # Binary noise finds the new classes above their share here, so that there is something to settle.
    run = train("owm+src", setup(settings=STRICT, sleep=SleepConfig(noise="binary")))
    strategy = next(run)
    projectors = {n: P.clone() for n, P in plugin(strategy, OWMPlugin).projectors.items()}
    old = means_of(strategy.model, Points(40, 0).tensors[0][:80])
    strategy.plugins.append(jump := Jump())
    strategy = next(run)
    report = plugin(strategy, SRCPlugin).reports[-1]
    assert report.decision == "slept"
    assert report.reason == "settles and levels only: OWMPlugin protects what earlier inputs evoke"
    assert report.engine is None  # the sleep itself was left out
    for name, moved in jump.jump.items():
        assert float(moved.norm()) > 1e-3
        cosine = float((moved @ old[name]).norm() / (moved.norm() * old[name].norm()))
        assert cosine < 0.01
        assert not torch.equal(plugin(strategy, OWMPlugin).projectors[name], projectors[name])


def after_each(name: str, **changes: Any) -> list[list[torch.Tensor]]:
    return [[p.detach().clone() for p in strategy.model.parameters()] for strategy in train(name, setup(**changes))]


def test_the_first_experience_is_plain_fine_tuning_and_the_second_is_not() -> None:
    owm, naive = after_each("owm"), after_each("naive")
    assert equal(owm[0], naive[0])
    assert not equal(owm[1], naive[1])


def test_without_protection_all_batches_and_weights_are_those_of_plain_fine_tuning() -> None:
    assert equal(weights("owm", setup(settings=Settings(owm_alpha=1e30))), weights("naive", setup()))


@pytest.mark.parametrize("given", [lambda **c: setup(settings=STRICT, **c), momentum], ids=["plain", "momentum"])
def test_the_second_experience_hardly_moves_answers_to_old_means(given: Callable[..., TrainingSetup]) -> None:
    moved = {}
    for name in ("owm", "naive"):
        run = train(name, given())
        strategy = next(run)
        before = {n: layer.weight.detach().clone() for n, layer in trained_layers(strategy.model).items()}
        old = means_of(strategy.model, Points(40, 0).tensors[0][:80])
        after = trained_layers(next(run).model)
        moved[name] = [float(((after[n].weight.detach() - before[n]) @ old[n]).norm()) for n in before]
    assert all(owm < 0.01 * naive for owm, naive in zip(moved["owm"], moved["naive"], strict=True))


def test_gradients_of_the_second_experience_are_orthogonal_to_old_means_and_not_small() -> None:
    notes = Notes()
    run = train("owm", setup(settings=STRICT, plugins=[notes]))
    old = means_of(next(run).model, Points(40, 0).tensors[0][:80])
    next(run)
    assert len(notes.gradients) == 80
    for gradients in notes.gradients[40:]:
        for gradient, mean in zip(gradients, old.values(), strict=True):
            assert (gradient @ mean).norm() < 0.01 * gradient.norm() * mean.norm() + 1e-7
    first, second = (
        sum(float(g.norm()) for g in gradients) for gradients in (notes.gradients[39], notes.gradients[40])
    )
    assert second > first  # the second experience does learn


def test_what_momentum_carries_on_is_orthogonal_to_old_means() -> None:
    strategy = next(train("owm", momentum()))
    old = means_of(strategy.model, Points(40, 0).tensors[0][:80])
    for name, layer in trained_layers(strategy.model).items():
        velocity = strategy.optimizer.state[layer.weight]["momentum_buffer"]
        assert 0.0 < (velocity @ old[name]).norm() < 0.01 * velocity.norm() * old[name].norm()


def test_dropout_is_off_while_means_are_taken_and_on_again_afterwards() -> None:
    model = nn.Sequential(
        nn.Linear(12, 16, bias=False), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, N_CLASSES, bias=False)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    strategy = next(train("owm", setup(model=model, optimizer=optimizer, batch_size=80)))
    assert all(layer.training for layer in model)
    mean = means_of(model.eval(), Points(40, 0).tensors[0][:80])["3"]
    wanted = torch.linalg.inv(torch.eye(16) + torch.outer(mean, mean))
    torch.testing.assert_close(plugin(strategy, OWMPlugin).projectors["3"], wanted, rtol=1e-4, atol=1e-5)


def test_a_run_goes_on_from_a_pickle_and_no_hook_stays() -> None:
    strategy = build_strategy("owm", momentum())
    first, second = experiences(at_once=False)
    strategy.train(first)
    state = torch.get_rng_state()
    assert not any(layer._forward_pre_hooks for layer in deepcopy(strategy.model).modules())
    again = dill.loads(dill.dumps(plugin(strategy, OWMPlugin)))
    twin = build_strategy("owm", momentum())
    twin.train(first)
    twin.plugins[twin.plugins.index(plugin(twin, OWMPlugin))] = again
    torch.set_rng_state(state)
    strategy.train(second)
    torch.set_rng_state(state)
    twin.train(second)
    assert equal(list(twin.model.parameters()), list(strategy.model.parameters()))


def model_of(kind: str) -> nn.Module:
    head = nn.Linear(16, N_CLASSES, bias=kind == "biases")
    below = nn.BatchNorm1d(12) if kind == "batch norm" else nn.Identity()
    return nn.Sequential(below, nn.Linear(12, 16, bias=False), nn.ReLU(), head)


REFUSED: dict[str, tuple[str, Callable[..., torch.optim.Optimizer], dict[str, Any], str]] = {
    "biases": ("biases", torch.optim.SGD, {}, r"also trains '3\.bias'.*model\.bias: false"),
    "batch norm": ("batch norm", torch.optim.SGD, {}, r"also trains '0\.weight'.*freeze"),
    "Adam": ("plain", torch.optim.Adam, {}, "weight by weight of Adam.*use SGD"),
    "weight decay": ("plain", torch.optim.SGD, {"weight_decay": 0.01}, "weight decay of SGD.*weight_decay: 0"),
}


@pytest.mark.parametrize(("kind", "optimizer", "settings", "message"), REFUSED.values(), ids=REFUSED)
def test_what_would_move_weights_unprotected_is_refused_before_training(
    kind: str, optimizer: Callable[..., torch.optim.Optimizer], settings: dict[str, Any], message: str
) -> None:
    model = model_of(kind)
    given = setup(model=model, optimizer=optimizer(model.parameters(), lr=0.1, **settings))
    with pytest.raises(ConfigError, match=message):
        build_strategy("owm", given)


def test_frozen_layers_of_any_kind_are_left_alone() -> None:
    model = model_of("batch norm")
    model[0].requires_grad_(False)
    strategy = next(train("owm", setup(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))))
    assert list(plugin(strategy, OWMPlugin).projectors) == ["1", "3"]


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_an_alpha_that_is_not_positive_is_refused(alpha: float) -> None:
    with pytest.raises(ConfigError, match=r"settings\.owm_alpha is .*above 0"):
        build_strategy("owm", setup(settings=Settings(owm_alpha=alpha)))
