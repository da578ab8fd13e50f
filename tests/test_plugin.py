"""SRCPlugin in Avalanche: what it sleeps on, and what it reports."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from avalanche.evaluation import PluginMetric
from avalanche.models import IncrementalClassifier, SimpleMLP
from avalanche.training.plugins import ReplayPlugin
from numpy.testing import assert_allclose
from torch import nn

from models import N_CLASSES, N_INPUTS, Blobs, Opaque, changed, copies, mlp
from plugin_samples import PURE, QUICK, Watcher, benchmark, build, decisions, network, own, train
from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError
from src_plugin.plugin import SRCPlugin

# -- a sleep after every experience -----------------------------------------------------------------------------------


def test_a_network_sleeps_after_each_experience_and_changes():
    plugin = SRCPlugin(QUICK)
    strategy, twin = train(build(plugin, train_epochs=5)), train(build(train_epochs=5))
    assert decisions(plugin) == ["slept", "slept"]
    assert changed(strategy.model, copies(twin.model)) != []


def test_without_arguments_it_sleeps_by_auto():
    assert SRCPlugin().config == SRCPlugin("auto").config == SleepConfig()
    assert decisions(own(train(build(SRCPlugin(), train_epochs=5)))) == ["slept", "slept"]


def test_nights_that_only_levelled_are_counted_as_such():
    plugin = SRCPlugin(SleepConfig(sleep=None, settle=False))
    train(build(plugin, train_epochs=5))
    assert plugin.reports[-1].status == "levelled"
    assert str(plugin.reports[-1]).startswith("levelled: ")
    assert plugin.summary().startswith("2 nights: ")
    assert "slept" not in plugin.summary()


def test_a_preset_is_taken_by_name():
    assert SRCPlugin("paper/cub200").config == SleepConfig.preset("paper/cub200")
    with pytest.raises(ConfigError, match="did you mean 'paper/cub200'"):
        SRCPlugin("paper/cub2000")


def test_the_sleep_knows_new_and_old_classes_and_the_weights_before(nights):
    model = network()
    start = copies(model)
    train(build(SRCPlugin(QUICK), model=model))
    first, second = nights
    assert (first.new_classes, first.old_classes) == ((0, 1), ())
    assert (second.new_classes, second.old_classes) == ((2, 3), (0, 1))
    assert (first.class_counts, second.class_counts) == (dict.fromkeys((0, 1), 20), dict.fromkeys(range(4), 20))
    assert torch.equal(first.before.weights[0], start["0.weight"])
    assert [n.recall for n in nights] == [None, None]
    assert [n.index for n in nights] == [0, 1]


def test_the_weights_before_are_those_the_last_sleep_left(nights):
    left = []
    watch = Watcher(before_training_exp=lambda strategy: left.append(copies(strategy.model)))
    train(build(SRCPlugin(QUICK), watch))
    assert torch.equal(nights[1].before.weights[0], left[1]["0.weight"])


@pytest.mark.parametrize("head", [None, ["0", "2"]], ids=["found", "named"])
def test_the_mean_is_that_of_all_trained_inputs(nights, head):
    # Every sample is shown twice (two epochs), so the mean over presentations is that over samples.
    experiences = [torch.stack([x for x, *_ in e.dataset]).double() for e in benchmark().train_stream]
    train(build(SRCPlugin(QUICK, head=head)))
    assert_allclose(nights[0].mean, experiences[0].mean(0), rtol=1e-6)
    assert_allclose(nights[1].mean, torch.cat(experiences).mean(0), rtol=1e-6)


@pytest.mark.parametrize("eval_every", [0, 1])
def test_evaluations_in_between_do_not_count(nights, eval_every):
    b = benchmark()
    strategy = build(SRCPlugin(QUICK), eval_every=eval_every)
    train(strategy, b.train_stream, eval_streams=[b.test_stream])
    strategy.eval(b.test_stream)
    trained = torch.stack([x for e in b.train_stream for x, *_ in e.dataset]).double()
    assert_allclose(nights[1].mean, trained.mean(0), rtol=1e-6)


def test_the_head_is_that_of_a_network_with_a_frozen_backbone():
    backbone = Opaque(nn.Linear(N_INPUTS, 8), nn.Tanh(), nn.ReLU()).requires_grad_(False)
    model = nn.Sequential(backbone, mlp(8, N_CLASSES))
    state = copies(model)
    plugin = SRCPlugin(QUICK)
    train(build(plugin, model=model))
    assert plugin.reports[0].layers == ["1.0"]
    assert {name.split(".")[0] for name in changed(model, state)} == {"1"}
    assert not any(report.backbone_trained for report in plugin.reports)


def test_dropout_and_biases_of_avalanches_own_network_are_no_obstacle():
    plugin = SRCPlugin(QUICK)
    train(build(plugin, model=SimpleMLP(num_classes=N_CLASSES, input_size=N_INPUTS, hidden_size=16)))
    assert plugin.reports[1].layers == ["features.0", "classifier"]
    assert decisions(plugin) == ["slept", "slept"]


class Growing(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(N_INPUTS, 16), nn.ReLU())
        self.classifier = IncrementalClassifier(16)

    def forward(self, x):
        return self.classifier(self.hidden(x))


@pytest.mark.parametrize("head", [None, ["hidden.0", "classifier"]], ids=["found", "named"])
def test_a_head_that_grows_is_found_again(head):
    plugin = SRCPlugin(QUICK, head=head)
    train(build(plugin, model=Growing()))
    assert [report.sizes for report in plugin.reports] == [[N_INPUTS, 16, 2], [N_INPUTS, 16, 4]]
    assert decisions(plugin) == ["slept", "slept"]


def test_a_head_that_an_evaluation_lets_grow_is_found_again():
    b, plugin = benchmark(), SRCPlugin(QUICK)
    train(build(plugin, model=Growing(), eval_every=1), b.train_stream, eval_streams=[b.test_stream])
    assert [report.sizes[-1] for report in plugin.reports] == [4, 4]


def test_of_a_head_that_grows_in_the_middle_of_an_experience_the_new_part_does_not_settle_and_the_report_says_so():
    # One class per experience: outputs for two of four when the second begins, for all after an evaluation in it.
    b, plugin = benchmark(4), SRCPlugin(SleepConfig.preset("auto", balance_gate=False))
    strategy = build(plugin, model=Growing(), train_epochs=1)
    strategy.train(b.train_stream[0])
    strategy.plugins.append(Watcher(after_training_epoch=lambda s: s.eval(b.test_stream)))
    strategy.train(b.train_stream[1])
    report = plugin.reports[1]
    assert report.sizes == [N_INPUTS, 16, 4]
    assert report.settled_at is not None
    # Two new rows of 16 weights each.
    assert report.skipped["settle of grown units"] == "32 weights have no counterpart before the experience"


def widen(strategy):
    """Give the hidden layer of a network four units more, once."""
    old, new = strategy.model, mlp(N_INPUTS, 20, N_CLASSES, seed=1)
    if len(old[0].weight) == 20:
        return
    with torch.no_grad():
        new[0].weight[:16], new[0].bias[:16], new[2].weight[:, :16] = old[0].weight, old[0].bias, old[2].weight
    old[0], old[2] = new[0], new[2]


def test_of_hidden_units_that_are_added_in_an_experience_the_new_ones_do_not_settle(nights):
    stream, plugin = benchmark().train_stream, SRCPlugin(SleepConfig.preset("auto", balance_gate=False))
    strategy = build(plugin)
    strategy.train(stream[0])
    strategy.plugins.append(Watcher(after_training_epoch=widen))
    strategy.train(stream[1], shuffle=False)
    assert plugin.reports[1].sizes == [N_INPUTS, 20, N_CLASSES]
    assert nights[1].before.weights[0].shape == (16, N_INPUTS)
    # 4 units with 12 inputs each, and 4 inputs more for each of 4 outputs: 48 + 16.
    assert plugin.reports[1].skipped["settle of grown units"] == "64 weights have no counterpart before the experience"


@pytest.mark.parametrize("name", ["every parameter", "the optimizer", "modes"])
def test_a_sleep_keeps_the_identity_of(name):
    seen = {}

    def note(when):
        def at(strategy):
            seen[when] = {
                "every parameter": [id(p) for p in strategy.model.parameters()],
                "the optimizer": [
                    (id(p), state["momentum_buffer"].tolist()) for p, state in strategy.optimizer.state.items()
                ],
                "modes": [m.training for m in strategy.model.modules()],
            }[name]

        return at

    strategy = build(SRCPlugin(QUICK))
    listener = SimpleNamespace(before_sleep=lambda s: note("before")(s), after_sleep=lambda s: note("after")(s))
    strategy.plugins.append(listener)
    strategy.train(benchmark().train_stream[0])
    assert seen["before"] == seen["after"] != []


# -- before and after the sleep ---------------------------------------------------------------------------------------


class SleepMetric(PluginMetric):
    def __init__(self):
        super().__init__()
        self.calls = []

    def before_sleep(self, strategy):
        self.calls.append("before")

    def after_sleep(self, strategy):
        self.calls.append("after")

    def reset(self):
        pass

    def result(self):
        return None

    def __str__(self):
        return "SleepMetric"


def test_metrics_and_listeners_are_told_before_and_after():
    metric, calls = SleepMetric(), []
    strategy = build(SRCPlugin(QUICK), metrics=[metric], train_epochs=5)
    weights = []
    strategy.plugins.append(
        SimpleNamespace(
            before_sleep=lambda s: calls.append("before") or weights.append(copies(s.model)),
            after_sleep=lambda s: calls.append("after") or weights.append(copies(s.model)),
        )
    )
    train(strategy)
    assert metric.calls == calls == ["before", "after"] * 2
    assert all(not torch.equal(weights[k]["0.weight"], weights[k + 1]["0.weight"]) for k in (0, 2))


def test_the_report_of_a_sleep_is_there_when_its_end_is_told():
    plugin, lengths = SRCPlugin(QUICK), []
    strategy = build(plugin)
    strategy.plugins.append(SimpleNamespace(after_sleep=lambda s: lengths.append(len(plugin.reports))))
    train(strategy)
    assert lengths == [1, 2]


def test_a_listener_that_evaluates_changes_no_weight():
    b = benchmark()
    strategy, twin = build(SRCPlugin(QUICK)), build(SRCPlugin(QUICK))
    looked = []
    strategy.plugins.append(
        SimpleNamespace(before_sleep=lambda s: looked.append(s.eval(b.test_stream)), after_sleep=lambda s: None)
    )
    strategy.train(b.train_stream[0], shuffle=False)
    twin.train(b.train_stream[0], shuffle=False)
    assert len(looked) == 1
    assert changed(strategy.model, copies(twin.model)) == []


# -- rehearsal --------------------------------------------------------------------------------------------------------


def test_a_network_that_rehearses_well_is_left_alone(nights):
    plugin = SRCPlugin(QUICK)
    seen = []
    strategy = build(plugin, ReplayPlugin(mem_size=40), train_epochs=4)
    strategy.plugins.append(
        SimpleNamespace(
            before_sleep=lambda s: seen.append(copies(s.model)), after_sleep=lambda s: seen.append(copies(s.model))
        )
    )
    train(strategy)
    assert nights[0].recall is None
    assert nights[1].recall > 0.9
    assert decisions(plugin) == ["slept", "awake"]
    assert "new classes do not dominate" in plugin.reports[1].reason
    assert all(torch.equal(seen[2][name], seen[3][name]) for name in seen[2])


def test_with_the_gate_off_a_rehearsing_network_may_sleep():
    plugin = SRCPlugin(SleepConfig.preset("auto", rehearsal_gate=False, balance_gate=False))
    train(build(plugin, ReplayPlugin(mem_size=40), train_epochs=4))
    assert decisions(plugin) == ["slept", "slept"]


# -- a reference of one's own -----------------------------------------------------------------------------------------


def test_a_reference_replaces_the_running_mean(nights):
    data = Blobs(7, seed=3).tensors[0]
    asked = []

    def reference(strategy):
        asked.append(strategy)
        return data

    config = SleepConfig.preset("src_only", steps=60, normalise=True, thresholds=(1.0, 1.0), inc=0.0, dec=0.0)
    strategy = build(SRCPlugin(config, reference=reference))
    strategy.train(benchmark().train_stream[0])
    assert asked == [strategy]
    assert_allclose(nights[0].mean, data.double().mean(0), rtol=1e-6)
    assert torch.equal(nights[0].inputs, data)


def test_a_reference_passes_through_the_backbone(nights):
    backbone = nn.Sequential(nn.Linear(N_INPUTS, 8), nn.BatchNorm1d(8), nn.ReLU()).requires_grad_(False)
    model = nn.Sequential(backbone, mlp(8, N_CLASSES))
    data = Blobs(200, seed=3).tensors[0]  # more rows than are passed at once
    strategy = build(SRCPlugin(PURE, reference=lambda s: data), model=model)
    strategy.train(benchmark().train_stream[0])
    model.eval()
    assert_allclose(nights[0].mean, backbone(data).double().mean(0).numpy(), rtol=1e-5)


class Keyword(nn.Module):
    """Gives its head the input by keyword."""

    def __init__(self):
        super().__init__()
        self.head = network()

    def forward(self, x):
        return self.head[2](input=self.head[:2](x))


def test_a_reference_reaches_a_head_that_gets_its_input_by_keyword(nights):
    data = Blobs(7, seed=3).tensors[0]
    strategy = build(SRCPlugin(PURE, head="head.2", reference=lambda s: data), model=Keyword())
    strategy.train(benchmark().train_stream[0])
    assert nights[0].mean.shape == (16,)


# -- on a GPU ---------------------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_strategy_on_the_gpu_sleeps_and_stays_there():
    model = network().to("cuda")
    parameters = list(model.parameters())
    plugin = SRCPlugin(QUICK)
    train(build(plugin, model=model, device="cuda"))
    assert decisions(plugin) == ["slept", "slept"]
    assert list(model.parameters()) == parameters
    assert {p.device.type for p in model.parameters()} == {"cuda"}


def test_a_generator_of_the_callers_is_used():
    assert SRCPlugin(seed=np.random.default_rng(1)).config == SleepConfig()
    first, again, other = (
        train(build(SRCPlugin(QUICK, seed=torch.Generator().manual_seed(s)), train_epochs=5)).model for s in (1, 1, 2)
    )
    assert changed(again, copies(first)) == []
    assert changed(other, copies(first)) != []
