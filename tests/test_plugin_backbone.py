"""SRCPlugin above a backbone: the mean input of earlier experiences fits as long as nothing below the head moves."""

import linecache
from itertools import pairwise

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from numpy.testing import assert_allclose
from torch import nn
from torch.utils.data import TensorDataset

import plugin_samples
from models import N_CLASSES, N_INPUTS, Blobs, Opaque, changed, copies, mlp
from plugin_samples import QUICK, Watcher, benchmark, build, train
from src_plugin.config import SleepConfig
from src_plugin.plugin import SRCPlugin

FIRES = SleepConfig.preset("src_only", steps=400)  # so small a head needs a while until a unit fires


def network(frozen=False):
    """A head of one layer on features between 0 and 1."""
    backbone = Opaque(nn.Linear(N_INPUTS, 8), nn.Sigmoid()).requires_grad_(not frozen)
    return nn.Sequential(backbone, mlp(8, N_CLASSES))


def told(plugin):
    return [report.backbone_trained for report in plugin.reports]


def test_a_backbone_that_is_trained_is_warned_of_once_and_told_in_every_report():
    plugin = SRCPlugin(QUICK)
    with pytest.warns(UserWarning, match="2 parameters below the head were trained.*'0.0.weight'.*Freeze") as caught:
        train(build(plugin, model=network()))
    assert len(caught) == 1
    assert told(plugin) == [True, True]


def test_the_warning_points_at_the_line_that_trains():
    with pytest.warns(UserWarning, match="below the head") as caught:
        train(build(SRCPlugin(QUICK), model=network()))
    assert caught[0].filename == plugin_samples.__file__
    assert "strategy.train(" in linecache.getline(caught[0].filename, caught[0].lineno)


def test_a_frozen_backbone_is_not_warned_of():
    plugin = SRCPlugin(QUICK)
    train(build(plugin, model=network(frozen=True)))
    assert told(plugin) == [False, False]


def test_a_backbone_that_is_not_moved_is_not_warned_of_although_it_has_gradients():
    model, plugin = network(), SRCPlugin(QUICK)
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[1].parameters()}]
    train(build(plugin, model=model, optimizer=torch.optim.SGD(groups, lr=0.1)))
    assert model[0][0].weight.grad.any()
    assert told(plugin) == [False, False]


def test_a_backbone_whose_gradients_are_cleared_is_warned_of_all_the_same():
    plugin = SRCPlugin(QUICK)
    strategy = build(plugin, Watcher(after_update=lambda s: s.model.zero_grad()), model=network())
    with pytest.warns(UserWarning, match="below the head"):
        train(strategy)
    assert told(plugin) == [True, True]


def rate_of(number, rate):
    """Set the learning rate to 0 in all experiences but one (from 0)."""

    def at(strategy):
        for group in strategy.optimizer.param_groups:
            group["lr"] = rate if strategy.clock.train_exp_counter == number else 0.0

    return Watcher(before_training_exp=at)


def test_a_backbone_is_told_of_where_it_was_trained_and_no_more():
    plugin = SRCPlugin(QUICK)
    strategy = build(plugin, rate_of(2, 0.1), model=network())
    with pytest.warns(UserWarning, match="below the head"):
        train(strategy, benchmark(4).train_stream)
    assert told(plugin) == [False, False, True, False]


def test_a_deferred_sleep_is_told_of_training_in_any_of_its_experiences():
    # Trained in the first only, and slept after every second: the first mean holds features from before and after.
    plugin, weights = SRCPlugin(QUICK, every=2), []
    watch = Watcher(before_training_exp=lambda s: weights.append(s.model[0][0].weight.detach().clone()))
    strategy = build(plugin, rate_of(0, 0.1), watch, model=network())
    with pytest.warns(UserWarning, match="below the head"):
        train(strategy, benchmark(4).train_stream)
    assert [not torch.equal(a, b) for a, b in pairwise(weights)] == [True, False, False]
    assert told(plugin) == [True, False]


def test_a_reference_passes_through_the_backbone_as_it_is_now_so_that_nobody_need_be_warned(nights):
    model, data = network(), Blobs(7, seed=3).tensors[0]
    strategy = build(SRCPlugin(FIRES, reference=lambda s: data), model=model)
    strategy.train(benchmark().train_stream[0])
    assert nights[0].backbone_trained
    assert_allclose(nights[0].mean, model[0](data).detach().double().mean(0), rtol=1e-5)


class Photos(TensorDataset):
    """Noise of one brightness for each class, shape (n, 3, 32, 32)."""

    def __init__(self, per_class=10, seed=0):
        rng = torch.Generator().manual_seed(seed)
        labels = torch.arange(N_CLASSES).repeat_interleave(per_class)
        images = 0.5 * torch.rand(len(labels), 3, 32, 32, generator=rng) + 0.3 * labels[:, None, None, None]
        super().__init__(images, labels)
        self.targets = labels.tolist()


@pytest.mark.parametrize("head_of", [lambda n: nn.Linear(n, N_CLASSES), lambda n: mlp(n, 16, N_CLASSES)], ids=[1, 2])
def test_a_head_above_a_frozen_model_of_timm_is_found_and_nothing_below_it_moves(head_of):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", pretrained=False, num_classes=0).requires_grad_(False)
    model = nn.Sequential(backbone, head_of(backbone.num_features))
    plugin = SRCPlugin(SleepConfig.preset("auto", hidden_gate=False, balance_gate=False))
    below, above = copies(model[0]), copies(model[1])
    stream = nc_benchmark(Photos(), Photos(seed=1), n_experiences=2, task_labels=False, shuffle=False, seed=0)
    train(build(plugin, model=model), stream.train_stream)
    assert "slept" in [report.decision for report in plugin.reports]
    assert told(plugin) == [False, False]
    assert changed(model[0], below) == []  # the statistics of its batch norm included
    assert changed(model[1], above) == list(above)
