"""GEM and A-GEM: which exemplars they keep, and that no step they take raises the loss of these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import qpsolvers
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import GEMPlugin
from torch import Tensor, nn

from src_plugin.errors import ConfigError
from strategies import Settings, build_strategy
from strategies.gradient_memory import AGEM, GEM
from strategy_samples import equal, plugin, setup, train, weights


def gradient(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None])


class Gradients(SupervisedPlugin):  # type: ignore[misc]
    """Notes how the gradient stood to that of the exemplars, as a cosine, before it was turned and after."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: list[float] = []
        self.turned: list[float] = []

    def _cosine(self, strategy: Any) -> Iterator[float]:
        for method in strategy.plugins:
            if isinstance(method, GEM) and len(method.G):
                yield torch.cosine_similarity(method.G[0], gradient(strategy.model), dim=0).item()
            if isinstance(method, AGEM) and len(method.reference_gradients):
                yield torch.cosine_similarity(method.reference_gradients, gradient(strategy.model), dim=0).item()

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.raw += self._cosine(strategy)

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        self.turned += self._cosine(strategy)


def test_each_trains_weights_of_its_own() -> None:
    naive, gem, agem = (weights(name, setup()) for name in ("naive", "gem", "agem"))
    assert not equal(gem, naive)
    assert not equal(agem, naive)
    assert not equal(gem, agem)


@pytest.mark.parametrize("name", ["gem", "agem"])
def test_no_step_goes_against_the_exemplars(name: str) -> None:
    gradients = Gradients()
    list(train(name, setup(plugins=[gradients])))  # the caller's plugins come before the method's own
    assert len(gradients.raw) == len(gradients.turned) == 40
    assert min(gradients.raw) < -0.1
    assert min(gradients.turned) > -0.005  # GEM's solver adds 0.001 to the diagonal


def test_a_larger_margin_gives_other_weights() -> None:
    wide = setup(settings=Settings(memory_fraction=0.1, gem_strength=2.0))
    assert not equal(weights("gem", wide), weights("gem", setup()))


def test_a_gradient_is_turned_as_avalanche_turns_it() -> None:
    torch.manual_seed(0)
    gem = GEM(patterns=1, strength=0.5)
    gem.G, g = torch.randn(3, 50), torch.randn(50)
    torch.testing.assert_close(gem.solve_quadprog(g), GEMPlugin.solve_quadprog(gem, g))
    assert not torch.equal(gem.solve_quadprog(g), g)


def test_a_gradient_that_is_not_finite_is_left_alone() -> None:
    gem = GEM(patterns=1, strength=0.5)
    gem.G, g = torch.tensor([[1.0, float("inf")]]), torch.tensor([-1.0, -1.0])
    assert torch.equal(gem.solve_quadprog(g), g)


def test_gem_keeps_equally_many_exemplars_of_each_experience_and_nothing_else() -> None:
    for k, strategy in enumerate(train("gem", setup())):
        gem = plugin(strategy, GEM)
        assert [len(x) for x in gem.memory_x.values()] == [8] * (k + 1)  # 16 for two experiences
        assert [set((y // 2).tolist()) for y in gem.memory_y.values()] == [{0}, {1}][: k + 1]
        assert gem.kept_bytes == 8 * (k + 1) * (12 * 4 + 8)
        assert len(gem.G) == 0


def test_agem_keeps_equally_many_exemplars_of_each_experience_and_nothing_else() -> None:
    for k, strategy in enumerate(train("agem", setup())):
        agem = plugin(strategy, AGEM)
        assert [len(exemplars) for exemplars in agem.buffers] == [8] * (k + 1)
        assert [{y // 2 for y in exemplars.targets} for exemplars in agem.buffers] == [{0}, {1}][: k + 1]
        assert agem.kept_bytes == 8 * (k + 1) * (12 * 4 + 8)
        assert len(agem.reference_gradients) == 0


def test_agem_draws_as_many_exemplars_as_a_batch_has_or_all() -> None:
    class Samples(SupervisedPlugin):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seen: set[int] = set()

        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            agem = plugin(strategy, AGEM)
            if agem.buffers:
                self.seen.add(len(agem.sample_from_memory()[0]))

    for batch_size, n in ((1, 1), (5, 5), (40, 8)):  # Avalanche's own fails at 1, with two experiences
        samples = Samples()
        list(train("agem", setup(batch_size=batch_size, epochs=1, plugins=[samples])))
        assert samples.seen == {n}


@pytest.mark.parametrize("name", ["gem", "agem"])
def test_a_memory_smaller_than_the_number_of_experiences_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: a memory of 16 images is less than one.* of 20 experiences"):
        build_strategy(name, setup(n_experiences=20))


def test_gem_without_a_solver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qpsolvers, "available_solvers", ["osqp"])
    with pytest.raises(ConfigError, match=r"gem: .* pip install quadprog"):
        build_strategy("gem", setup())
