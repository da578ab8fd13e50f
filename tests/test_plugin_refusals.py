"""SRCPlugin: bad input is refused before anything changes."""

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training import (
    Naive,
)
from torch import nn
from torch.overrides import _len_torch_function_stack

from models import N_CLASSES, Blobs, changed, copies, hooks
from plugin_samples import PURE, QUICK, Watcher, benchmark, build, decisions, network, own, train
from src_plugin.errors import ConfigError, HeadNotFoundError, StimulusError, WeightsError
from src_plugin.plugin import SRCPlugin


def refused(error, match, *, model=None, plugin=None, stream=None, method=Naive, **settings):
    """Train with the plugin, expect a refusal, and return what changed in the model."""
    model = network() if model is None else model
    state = copies(model)
    strategy = build(SRCPlugin(QUICK) if plugin is None else plugin, model=model, method=method, **settings)
    stack = _len_torch_function_stack()
    with pytest.raises(error, match=match):
        train(strategy, stream)
    assert hooks(model) == 0
    assert _len_torch_function_stack() == stack
    return changed(model, state)


class Shifted(Blobs):
    """Standardised inputs: negative in the mean."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        x, y = self.tensors
        self.tensors = (x - 2.0, y)


def test_negative_inputs_are_refused_before_any_weight_changed():
    stream = benchmark(train=Shifted()).train_stream
    assert refused(StimulusError, r"negative at 12 of 12.*\(x - min\) / \(max - min\)", stream=stream) == []


HEADLESS = {
    "norm at the end": (nn.Sequential(network(), nn.LayerNorm(N_CLASSES)), r"'1' \(LayerNorm\)"),
    "another activation": (nn.Sequential(network(), nn.GELU()), r"'1' \(GELU\)"),
    "a wrong name": (network(), "no module 'classifier'"),
}


@pytest.mark.parametrize(("model", "match"), HEADLESS.values(), ids=HEADLESS)
def test_a_model_without_a_head_is_refused_before_any_weight_changed(model, match):
    plugin = SRCPlugin(QUICK, head="classifier" if "classifier" in match else None)
    assert refused(HeadNotFoundError, match, model=model, plugin=plugin) == []


class ToAmounts(SupervisedPlugin):
    """Turns the class numbers of a batch into amounts."""

    def before_training_iteration(self, strategy, **kwargs):
        strategy.mbatch[1] = torch.eye(N_CLASSES)[strategy.mbatch[1]]


def test_targets_that_are_amounts_are_refused_with_the_cure_before_any_weight_changed():
    model = network()
    state = copies(model)
    strategy = build(SRCPlugin(QUICK), ToAmounts(), model=model, criterion=nn.MSELoss())
    with pytest.raises(ConfigError, match=r"not class numbers.*preset\('src_only'\)"):
        train(strategy)
    assert changed(model, state) == []


def test_with_the_cure_a_regression_sleeps():
    strategy = train(build(SRCPlugin(PURE), ToAmounts(), criterion=nn.MSELoss()))
    assert decisions(own(strategy)) == ["slept", "slept"]


class ToCounts(SupervisedPlugin):
    """Turns the class numbers of a batch into whole numbers that are no classes."""

    def before_training_iteration(self, strategy, **kwargs):
        strategy.mbatch[1] = 100 * strategy.mbatch[1] + 100


def count_loss(outputs, counts):
    return (outputs.sum(1) - counts / 100).square().mean()


def test_a_pure_sleep_does_not_ask_for_classes_that_have_no_output():
    strategy = train(build(SRCPlugin(PURE), ToCounts(), criterion=count_loss, lr=0.001))
    assert decisions(own(strategy)) == ["slept", "slept"]


def test_an_experience_that_trained_on_nothing_is_refused():
    match = "experience 1 trained on nothing.*Leave SRCPlugin out"
    assert refused(StimulusError, match, train_epochs=0) == []


def test_training_that_diverged_is_refused_and_not_slept_over():
    def diverge(strategy):
        with torch.no_grad():
            strategy.model[2].weight[1, 1] = float("nan")

    model = network()
    strategy = build(SRCPlugin(QUICK), Watcher(after_training_epoch=diverge), model=model, train_epochs=1)
    with pytest.raises(WeightsError, match=r"'2.weight' has 1 of 64 values that are NaN"):
        strategy.train(benchmark().train_stream[0])
    assert torch.isnan(model[2].weight).sum() == 1


def test_an_interrupted_sleep_leaves_the_trained_network(monkeypatch):
    model, seen = network(), []

    def interrupted(*args, **kwargs):
        seen.append(copies(model))
        raise KeyboardInterrupt

    monkeypatch.setattr("src_plugin.consolidation.simulate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(SRCPlugin(QUICK), model=model).train(benchmark().train_stream[0])
    assert changed(model, seen[0]) == []
