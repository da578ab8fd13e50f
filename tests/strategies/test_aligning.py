"""Weight aligning: what it scales, when, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import dill  # type: ignore[import-untyped]
import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import IncrementalClassifier, MTSimpleMLP
from torch import nn

from src_plugin.errors import ConfigError, HeadNotFoundError
from strategies import TrainingSetup, build_strategy
from strategies.aligning import AligningPlugin, align
from strategy_samples import equal, experiences, plugin, setup, train, weights


def with_network(model: nn.Module) -> TrainingSetup:
    return setup(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.2))


def mlp(*outputs: nn.Module) -> TrainingSetup:
    return with_network(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), *outputs))


def with_biases() -> TrainingSetup:
    setup()  # seeds
    return mlp(nn.Linear(16, 4))


def test_new_rows_get_the_mean_norm_of_old_ones() -> None:
    # Norms: old 5 and 15, 10 on average; new 10 and 30, 20 on average. So new rows are halved; nothing else changes.
    weight = torch.tensor([[3.0, 4.0], [6.0, 8.0], [9.0, -12.0], [7.0, 7.0], [0.0, 30.0]])
    align(weight, old={0, 2}, new={1, 4})
    assert weight.tolist() == [[3.0, 4.0], [3.0, 4.0], [9.0, -12.0], [7.0, 7.0], [0.0, 15.0]]


def test_rows_of_zeros_stay_zeros() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    align(weight, old={0}, new={1})
    assert weight.tolist() == [[3.0, 4.0], [0.0, 0.0]]


@pytest.mark.parametrize("suffix", ["", "+src"])
def test_new_outputs_are_scaled_after_the_second_experience_and_after_its_sleep(suffix: str) -> None:
    plain, aligned = (
        [[p.detach().clone() for p in strategy.model.parameters()] for strategy in train(name + suffix, with_biases())]
        for name in ("naive", "align")
    )
    for k in range(2):
        *below, weight, bias = aligned[k]
        *below_plain, weight_plain, bias_plain = plain[k]
        assert equal([*below, bias], [*below_plain, bias_plain])
        assert torch.equal(weight[:2], weight_plain[:2])
        if k == 0:
            assert torch.equal(weight, weight_plain)
        else:
            old, new = weight.norm(dim=1).split(2)
            torch.testing.assert_close(new.mean(), old.mean())
            factor = new / weight_plain[2:].norm(dim=1)
            assert factor[0] != pytest.approx(1.0, abs=0.01)
            torch.testing.assert_close(weight[2:], factor[0] * weight_plain[2:])


def test_classes_that_come_back_are_not_new() -> None:
    class Unaligned(SupervisedPlugin):  # type: ignore[misc]
        def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:  # before the aligning, which comes last
            self.seen = [p.detach().clone() for p in strategy.model.parameters()]

    strategy = build_strategy("align", setup(plugins=[unaligned := Unaligned()]))
    first, second = experiences(at_once=False)
    for experience, is_aligned in ((first, False), (second, True), (first, False)):
        strategy.train(experience)
        assert equal(unaligned.seen, [*strategy.model.parameters()]) != is_aligned


def test_it_keeps_the_numbers_of_the_classes_seen() -> None:
    strategy = build_strategy("align", setup())
    kept = [plugin(strategy, AligningPlugin).kept_bytes]
    for experience in experiences(at_once=False):
        strategy.train(experience)
        kept.append(plugin(strategy, AligningPlugin).kept_bytes)
    assert kept == [0, 8 * 2, 8 * 4]


def test_a_run_goes_on_with_a_plugin_that_was_stored() -> None:
    strategy = build_strategy("align", setup())
    first, second = experiences(at_once=False)
    strategy.train(first)
    place = strategy.plugins.index(plugin(strategy, AligningPlugin))
    strategy.plugins[place] = dill.loads(dill.dumps(strategy.plugins[place]))
    strategy.train(second)
    assert equal([*strategy.model.parameters()], weights("align", setup()))


def test_outputs_that_come_later_are_aligned() -> None:
    *_, strategy = train("align", mlp(IncrementalClassifier(16, initial_out_features=2)))
    old, new = strategy.model[-1].classifier.weight.detach().norm(dim=1).split(2)
    torch.testing.assert_close(new.mean(), old.mean())


def test_one_head_per_task_is_refused_before_training() -> None:
    with pytest.raises(ConfigError, match=r"align: MTSimpleMLP has one head per task.*use one head for all classes"):
        build_strategy("align", with_network(MTSimpleMLP(input_size=12, hidden_size=16)))


def test_outputs_of_no_linear_layer_are_refused_before_training() -> None:
    given = mlp(nn.Linear(16, 4), nn.GELU())
    before: list[Any] = [p.detach().clone() for p in given.model.parameters()]
    with pytest.raises(HeadNotFoundError, match="in Sequential there is none that could be changed alone: end the"):
        next(train("align", given))
    assert equal([*given.model.parameters()], before)
