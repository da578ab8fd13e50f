"""SRCPlugin: bad input is refused before anything changes."""

import copy

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training import (
    Naive,
)
from torch import nn
from torch.overrides import _len_torch_function_stack

from models import N_CLASSES, N_INPUTS, Blobs, changed, copies, hooks, mlp
from plugin_samples import PURE, QUICK, SIMULATED, Watcher, benchmark, build, decisions, network, own, train
from src_plugin.errors import ConfigError, HeadNotFoundError, StimulusError
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


def test_negative_inputs_are_refused_by_a_simulated_sleep_before_any_weight_changed():
    stream = benchmark(train=Shifted()).train_stream
    match = r"negative at 12 of 12.*Take the default, SleepConfig\(\)"
    assert refused(StimulusError, match, stream=stream, plugin=SRCPlugin("src_only")) == []


HEADLESS = {
    "norm at the end": (nn.Sequential(network(), nn.LayerNorm(N_CLASSES)), r"'1' \(LayerNorm\)"),
    "another activation": (nn.Sequential(network(), nn.GELU()), r"'1' \(GELU\)"),
    "a wrong name": (network(), "no module 'classifier'"),
}


@pytest.mark.parametrize(("model", "match"), HEADLESS.values(), ids=HEADLESS)
def test_a_model_without_a_head_is_refused_before_any_weight_changed(model, match):
    plugin = SRCPlugin(QUICK, head="classifier" if "classifier" in match else None)
    assert refused(HeadNotFoundError, match, model=model, plugin=plugin) == []


class Turn(SupervisedPlugin):
    """Turns the class numbers of a batch into other targets."""

    def __init__(self, into):
        super().__init__()
        self.into = into

    def before_training_iteration(self, strategy, **kwargs):
        strategy.mbatch[1] = self.into(strategy.mbatch[1])


def count_loss(outputs, counts):
    return (outputs.sum(1) - counts / 100).square().mean()


NO_CLASSES = {
    # what targets are made of class numbers, the loss, and what is said of them
    "amounts": (lambda y: torch.eye(N_CLASSES)[y], nn.MSELoss(), r"type torch.float32 are not class numbers"),
    "several labels": (
        lambda y: torch.eye(N_CLASSES, dtype=torch.long)[y],
        lambda outputs, y: nn.functional.binary_cross_entropy_with_logits(outputs, y.float()),
        r"shape \(10, 4\) and type torch.int64 are not class numbers",
    ),
    "counts": (
        lambda y: 100 * y + 100,
        count_loss,
        r"targets \[100(, 200)?\] have no output: the head \['0', '2'\] has 4",
    ),
    "negative counts": (lambda y: -100 * y - 100, count_loss, r"targets \[-.*\] have no output"),
    "counts that come again": (lambda y: 100 * (y % 2) + 100, count_loss, r"targets \[100(, 200)?\] have no output"),
    "counts of which some could be classes": (lambda y: 100 * (y % 2), count_loss, r"targets \[100\] have no output"),
}
no_classes = pytest.mark.parametrize(("into", "loss", "match"), NO_CLASSES.values(), ids=NO_CLASSES)


@no_classes
def test_targets_that_are_no_class_numbers_are_refused_with_the_cure_before_they_changed_a_weight(into, loss, match):
    model, states = network(), []
    watch = Watcher(before_training_iteration=lambda s: states.append(copies(model)))
    strategy = build(SRCPlugin(QUICK), Turn(into), watch, model=model, criterion=loss)
    with pytest.raises(ConfigError, match=rf"{match}.*only pure SRC applies, SleepConfig.preset\('src_only'\)"):
        strategy.train(benchmark().train_stream[0])
    assert changed(model, states[-1]) == []
    assert len(states) < 8  # the whole experience has so many batches


@no_classes
def test_with_the_cure_they_are_slept_on(into, loss, match):
    strategy = train(build(SRCPlugin(PURE), Turn(into), criterion=loss, lr=0.001))
    assert decisions(own(strategy)) == ["slept", "slept"]


def test_classes_without_an_output_are_refused_before_they_changed_a_weight():
    # An output for each class of the first experience only; a loss would not always notice.
    model, stream = mlp(N_INPUTS, 16, 2), benchmark().train_stream
    strategy = build(SRCPlugin(QUICK), model=model, criterion=lambda outputs, y: outputs.square().mean())
    strategy.train(stream[0])
    state = copies(model)
    match = r"targets \[2, 3\] have no output: the head \['0', '2'\] has 2\. Give the model an output for every class"
    with pytest.raises(ConfigError, match=match):
        strategy.train(stream[1])
    assert changed(model, state) == []


SLEEPS = {
    "closed form": (QUICK, "src_plugin.night.stages.inhibit"),
    "simulated": (SIMULATED, "src_plugin.night.replay.simulate"),
}


@pytest.mark.parametrize(("config", "function"), SLEEPS.values(), ids=SLEEPS)
def test_an_interrupted_sleep_leaves_the_trained_network(monkeypatch, config, function):
    model, seen = network(), []

    def interrupted(*args, **kwargs):
        seen.append(copies(model))
        raise KeyboardInterrupt

    monkeypatch.setattr(function, interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(SRCPlugin(config), model=model).train(benchmark().train_stream[0])
    assert changed(model, seen[0]) == []


def test_a_plugin_with_another_run_behind_it_is_refused_before_it_trains():
    plugin = SRCPlugin()
    train(build(plugin))
    model = network()
    weights = copies(model)
    with pytest.raises(ConfigError, match=r"2 experiences of another model behind it.*Make a new SRCPlugin\(\)"):
        train(build(plugin, model=model))
    assert changed(model, weights) == []


def test_a_plugin_may_go_on_with_its_model_and_a_copy_with_another():
    plugin, b = SRCPlugin(), benchmark()
    strategy = train(build(plugin), b.train_stream[:1])
    twin = copy.deepcopy(plugin)
    train(build(plugin, model=strategy.model), b.train_stream[1:])
    assert len(plugin.reports) == 2
    train(build(twin, model=copy.deepcopy(strategy.model)), b.train_stream[1:])
    assert len(twin.reports) == 2
