"""SRCPlugin: what only later batches show is a warning and a night awake with its reason, never an exception."""

import pytest
import torch
from avalanche.models import BaseModel
from avalanche.training import LFL, MER, CWRStar, Naive
from torch import nn

from models import N_CLASSES, N_INPUTS, Blobs, changed, copies, hooks, mlp
from plugin_samples import QUICK, Watcher, benchmark, build, decisions, network, own, train
from src_plugin.errors import ConfigError, HeadNotFoundError, StimulusError
from src_plugin.plugin import SRCPlugin


def at_iteration(number, change, experience=0):
    """Changes the inputs of the n-th batch (from 0) of an experience; `number` -1 is the last of eight."""

    def act(strategy):
        is_now = strategy.clock.train_exp_counter == experience
        if is_now and strategy.clock.train_exp_iterations == number % 8:
            strategy.mbatch[0] = change(strategy.mbatch[0])

    return Watcher(before_training_iteration=act)


def growing(strategy):
    strategy.mbatch[0] = strategy.mbatch[0] * 10.0**strategy.clock.train_exp_iterations


def constant(strategy):
    strategy.mbatch[0] = torch.ones_like(strategy.mbatch[0])


def harmless(outputs, y):
    """A loss that trains nothing, so that parameters stay finite whatever the inputs are."""
    return torch.zeros((), requires_grad=True)


LATER = {
    # what happens, by which config, and what is said
    "NaN in the last batch": (at_iteration(-1, lambda x: x / 0.0 * 0.0), None, r"mean_input is nan at input 0"),
    "infinite values in one batch": (at_iteration(3, lambda x: x / 0.0), None, r"not finite"),
    "negative inputs in the last batch of a simulated sleep": (
        at_iteration(-1, lambda x: x - 1e3), "src_only", r"negative at 12 of 12 inputs.*Take the default",
    ),
    "constant inputs": (Watcher(before_training_iteration=constant), None, "inputs of the head are the same"),
    "inputs that grow": (Watcher(before_training_iteration=growing), None, r"\d+ times larger at the end"),
}  # fmt: skip


@pytest.mark.parametrize(("plugin", "config", "reason"), LATER.values(), ids=LATER)
def test_what_only_a_later_batch_shows_keeps_the_network_awake_and_the_next_night_is_as_ever(plugin, config, reason):
    strategy = build(SRCPlugin(config), plugin, criterion=harmless)
    experiences = benchmark().train_stream
    state = copies(strategy.model)
    with pytest.warns(UserWarning, match=f"SRCPlugin: no sleep after this experience: .*{reason}"):
        strategy.train(experiences[0])
    assert changed(strategy.model, state) == []
    assert decisions(own(strategy)) == ["awake"]
    strategy.plugins = [own(strategy)]
    strategy.train(experiences[1])  # another doubt would warn, and a warning is an error
    assert len(own(strategy).reports) == 2
    assert hooks(strategy.model) == 0


def test_inputs_of_another_scale_in_the_second_experience_only_are_told_there():
    strategy = build(SRCPlugin(), at_iteration(2, lambda x: x * float("inf"), experience=1), criterion=harmless)
    experiences = benchmark().train_stream
    strategy.train(experiences[0])
    with pytest.warns(UserWarning, match="not finite"):
        strategy.train(experiences[1])
    assert decisions(own(strategy)) == ["slept", "awake"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["1.2.weight", "1.0.bias", "0.0.weight"])
def test_training_that_diverged_is_told_by_name_and_not_slept_over(name, value):
    model = nn.Sequential(nn.Sequential(nn.Linear(N_INPUTS, 8), nn.Sigmoid()), mlp(8, 6, N_CLASSES))
    seen = []

    def diverge(strategy):
        with torch.no_grad():
            model.get_parameter(name).view(-1)[3] = value
        seen.append(copies(model))

    strategy = build(SRCPlugin(QUICK), Watcher(after_training_epoch=diverge), model=model, train_epochs=1)
    n = model.get_parameter(name).numel()
    why = rf"'{name}' has 1 of {n} values that are NaN or infinite.*nothing was changed"
    with pytest.warns(UserWarning, match=why):
        strategy.train(benchmark().train_stream[0])
    assert changed(model, seen[0]) == []
    assert decisions(own(strategy)) == ["awake"]


IDLE = {
    "no epochs": (Naive, {"train_epochs": 0}),
    "passes of its own": (MER, {"mem_size": 10, "batch_size_mem": 5, "n_inner_steps": 1}),
}


@pytest.mark.filterwarnings("ignore:Call to deprecated function")  # Avalanche's own
@pytest.mark.parametrize(("method", "settings"), IDLE.values(), ids=IDLE)
def test_an_experience_of_which_nothing_was_seen_is_slept_over(method, settings):
    strategy = build(SRCPlugin(), method=method, **settings)
    with pytest.warns(UserWarning, match="no sleep after this experience: nothing that was trained on passed") as told:
        train(strategy)
    assert sum("no sleep" in str(w.message) for w in told) == 1
    assert decisions(own(strategy)) == ["awake", "awake"]


class Named(BaseModel, nn.Module):
    """The layers that LFL and CWR* ask for by name."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(N_INPUTS, 8), nn.ReLU())
        self.classifier = nn.Linear(8, N_CLASSES)

    def forward(self, x):
        return self.classifier(self.features(x))

    def get_features(self, x):
        return self.features(x)


FREEZING = {
    # methods that freeze layers after the first experience, so that the head is another one, or none, from then on
    "the layers below the classifier": (
        CWRStar,
        {"cwr_layer_name": None},
        "the head has 8 inputs now and had 12 earlier",
    ),
    "the classifier": (LFL, {"lambda_e": 0.1}, "'classifier.weight', which the outputs come from, is frozen"),
}


@pytest.mark.parametrize(("method", "settings", "why"), FREEZING.values(), ids=FREEZING)
def test_a_method_that_freezes_layers_later_goes_on_and_is_slept_over_from_then_on(method, settings, why):
    strategy = build(SRCPlugin(), method=method, model=Named(), **settings)
    with pytest.warns(UserWarning, match="SRCPlugin: ") as told:
        train(strategy, benchmark(4).train_stream)
    assert sum(f"no sleep after this experience: {why}" in str(w.message) for w in told) == 1
    assert decisions(own(strategy)) == ["slept", "awake", "awake", "awake"]


def test_with_the_head_named_that_keeps_its_inputs_it_does_not_stay_awake_for_that():
    strategy = build(SRCPlugin(head="classifier"), method=CWRStar, model=Named(), cwr_layer_name=None)
    with pytest.warns(UserWarning, match="CWR|parameters below the head") as told:
        train(strategy, benchmark(4).train_stream)
    assert not [w for w in told if "no sleep after this experience" in str(w.message)]


def test_what_the_first_batch_shows_is_refused_then():
    shifted = Blobs()
    shifted.tensors = (shifted.tensors[0] / 0.0, shifted.tensors[1])
    strategy = build(SRCPlugin())
    state = copies(strategy.model)
    with pytest.raises(StimulusError, match="not finite"):
        strategy.train(benchmark(train=shifted).train_stream[0])
    with pytest.raises(HeadNotFoundError, match="GELU"):
        build(SRCPlugin(), model=nn.Sequential(network(), nn.GELU())).train(benchmark().train_stream[0])
    assert changed(strategy.model, state) == []


def test_one_benchmark_for_each_experience_asks_for_a_schedule_and_sleeps_by_it():
    state = copies(network())
    strategy = build(SRCPlugin(last_only=True))
    with pytest.raises(ConfigError, match=r"this one experience only.*pass schedule=lambda strategy"):
        strategy.train(benchmark(1).train_stream[0])
    assert changed(strategy.model, state) == []
    plugin = SRCPlugin(schedule=lambda strategy: strategy.clock.train_exp_counter == 1)
    strategy = build(plugin)
    for _ in range(2):
        strategy.train(benchmark(1).train_stream[0])
    assert len(plugin.reports) == 1
