"""iCaRL: the loss of the paper, Avalanche's training where nothing is mended, and a sleep for the whole network."""

from __future__ import annotations

import math

import pytest
import torch
from avalanche.models import SimpleMLP
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import ICaRL as AvalanchesICaRL
from torch import nn

from benchmarks.runs.models import MultiHead, StraightThroughReLU
from src_plugin.errors import ConfigError
from strategies import Settings, build_strategy
from strategies.herding import HerdingPlugin
from strategies.icarl import ICaRLLoss, split_network
from strategies.setup import NoLogger
from strategy_samples import N_CLASSES, experiences, plugin, setup, train


def test_the_loss_is_summed_over_classes_and_old_ones_are_taught_for_all_images() -> None:
    loss = ICaRLLoss()
    outputs = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])  # probabilities 1/2, 3/4; 1/2, 1/2
    labels = torch.tensor([1, 0])
    plain = (math.log(2.0) - math.log(0.75) + 2.0 * math.log(2.0)) / 2.0
    assert float(loss(outputs, labels)) == pytest.approx(plain)
    # Class 0 is old: 0.2 and 0.9 take the place of its targets 0 and 1. At probability 1/2 any target costs log 2.
    loss.old_classes, loss.answers = [0], torch.tensor([[0.2, 0.5], [0.9, 0.5]])
    assert float(loss(outputs, labels)) == pytest.approx(plain)
    outputs[1, 0] = math.log(4.0)  # probability 0.8
    taught = math.log(2.0) - math.log(0.75) - 0.9 * math.log(0.8) - 0.1 * math.log(0.2) + math.log(2.0)
    assert float(loss(outputs, labels)) == pytest.approx(taught / 2.0)


def test_the_gradient_at_an_output_is_prediction_minus_target() -> None:
    outputs = torch.tensor([[2.0, -1.0, 0.5]], requires_grad=True)
    ICaRLLoss()(outputs, torch.tensor([2])).backward()
    torch.testing.assert_close(outputs.grad, torch.sigmoid(outputs.detach()) - torch.tensor([[0.0, 0.0, 1.0]]))


def test_it_trains_what_avalanches_own_trains_where_nothing_is_to_mend() -> None:
    # Flat inputs, shares without a remainder, batches of everything, a rate that makes up for its mean over classes;
    # and two exemplars of a class, because its herding may take one again, which then counts twice.
    given = setup(batch_size=200, epochs=30, settings=Settings(memory_size=4))
    *_, ours = train("icarl", given)
    theirs = setup()
    strategy = AvalanchesICaRL(
        feature_extractor=theirs.model[:2],
        classifier=theirs.model[2],
        optimizer=torch.optim.SGD(theirs.model.parameters(), lr=0.2 * N_CLASSES),
        memory_size=4,
        buffer_transform=None,
        fixed_memory=True,
        train_mb_size=200,
        train_epochs=30,
        eval_mb_size=200,
        evaluator=EvaluationPlugin(loggers=[NoLogger()]),
    )
    for experience in experiences(at_once=False):
        strategy.train(experience)
    torch.testing.assert_close([*given.model.parameters()], [*theirs.model.parameters()])
    means = strategy.model.eval_classifier.class_means
    torch.testing.assert_close(plugin(ours, HerdingPlugin).nearest.means, means)


@pytest.mark.parametrize(
    ("model", "n_below", "is_rectified"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 4)), 3, False),
        (nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 4), StraightThroughReLU()), 2, True),
        (SimpleMLP(num_classes=4, input_size=12, hidden_size=5, hidden_layers=2, drop_rate=0.0), 2, False),
    ],
    ids=["plain", "rectified", "SimpleMLP"],
)
def test_a_network_is_split_at_its_last_linear_layer(model: nn.Module, n_below: int, is_rectified: bool) -> None:
    below, last = split_network(model)
    assert len(below) == n_below
    assert [id(p) for p in (*below.parameters(), *last.parameters())] == [id(p) for p in model.parameters()]
    x = torch.rand(3, 12)
    outputs = last(below(x))
    torch.testing.assert_close(model(x), outputs.relu() if is_rectified else outputs)


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(12, 4),
        nn.Sequential(nn.Linear(12, 4), nn.BatchNorm1d(4)),
        nn.Sequential(nn.ReLU()),
        MultiHead(nn.Sequential(nn.Linear(12, 8), nn.ReLU()), 8),
    ],
    ids=["bare", "ends otherwise", "no layer", "heads"],
)
def test_a_network_that_cannot_be_split_is_refused(model: nn.Module) -> None:
    with pytest.raises(ConfigError, match=f"icarl: {type(model).__name__} cannot be split.*give an nn.Sequential"):
        build_strategy("icarl", setup(model=model))


@pytest.mark.parametrize("kind", ["sequential", "simple_mlp"])
def test_the_whole_network_sleeps(kind: str) -> None:
    given = setup()
    if kind == "simple_mlp":
        model = SimpleMLP(num_classes=4, input_size=12, hidden_size=16, hidden_layers=2, drop_rate=0.1)
        given = setup(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.2))
    before: list[torch.Tensor] = []

    class Looking:
        def before_sleep(self, strategy: object, **kwargs: object) -> None:
            before[:] = [p.detach().clone() for p in given.model.parameters()]

    strategy = build_strategy("icarl+only", given)
    strategy.plugins.append(Looking())
    for experience in experiences(at_once=False):
        strategy.train(experience)
    pairs = zip(before, given.model.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in pairs if a.dim() == 2)  # a sleep alone leaves biases
    (src,) = (p for p in strategy.plugins if hasattr(p, "reports"))
    names = [name for name, layer in strategy.model.named_modules() if isinstance(layer, nn.Linear)]
    assert src.reports[-1].layers == names
