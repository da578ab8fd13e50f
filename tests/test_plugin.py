"""SRCPlugin in Avalanche: when it sleeps, on what, at which place among plugins, and that it leaves no trace."""

import copy
import pickle
import sys
from types import SimpleNamespace

import dill
import numpy as np
import pytest
import torch
from avalanche.benchmarks import nc_benchmark, split_online_stream
from avalanche.checkpointing import maybe_load_checkpoint, save_checkpoint
from avalanche.core import SupervisedPlugin
from avalanche.evaluation import PluginMetric
from avalanche.logging import BaseLogger
from avalanche.models import IncrementalClassifier, SimpleMLP
from avalanche.training import (
    AGEM,
    DER,
    ER_ACE,
    EWC,
    Cumulative,
    ICaRL,
    JointTraining,
    LwF,
    Naive,
    SynapticIntelligence,
)
from avalanche.training.plugins import EvaluationPlugin, EWCPlugin, ReplayPlugin, SynapticIntelligencePlugin
from numpy.testing import assert_allclose
from torch import nn
from torch.overrides import _len_torch_function_stack

from models import N_CLASSES, N_INPUTS, Blobs, changed, copies, global_states, hooks, mlp
from src_plugin import plugin as plugin_module
from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError, HeadNotFoundError, StimulusError, WeightsError
from src_plugin.plugin import SRCPlugin

QUICK = SleepConfig(steps=60)
PURE = SleepConfig.preset("src_only", steps=60)
NO_SLEEP = SleepConfig(steps=0)


class NoLogger(BaseLogger):
    """Without any logger Avalanche warns."""

    def log_single_metric(self, name, value, x_plot):
        pass


def benchmark(n_experiences=2, per_class=20, **changes):
    return nc_benchmark(
        changes.get("train", Blobs(per_class, 0)),
        Blobs(5, 1),
        n_experiences=n_experiences,
        task_labels=False,
        shuffle=False,
        fixed_class_order=list(range(N_CLASSES)),
    )


def network(seed=0):
    return mlp(N_INPUTS, 16, N_CLASSES, seed=seed)


def build(*plugins, method=Naive, model=None, metrics=(), lr=0.1, **settings):
    torch.manual_seed(0)
    model = network() if model is None else model
    return method(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5),
        criterion=settings.pop("criterion", nn.CrossEntropyLoss()),
        train_mb_size=10,
        eval_mb_size=10,
        train_epochs=settings.pop("train_epochs", 2),
        plugins=list(plugins),
        evaluator=EvaluationPlugin(*metrics, loggers=[NoLogger()]),
        **settings,
    )


def train(strategy, stream=None, **settings):
    for experience in benchmark().train_stream if stream is None else stream:
        strategy.train(experience, **settings)
    return strategy


def own(strategy):
    """The SRCPlugin of a strategy: after loading a checkpoint it is another object."""
    (plugin,) = (p for p in strategy.plugins if isinstance(p, SRCPlugin))
    return plugin


def decisions(plugin):
    return [report.decision for report in plugin.reports]


@pytest.fixture
def nights(monkeypatch):
    """What every sleep was given; the sleep itself is the real one."""
    given, real = [], plugin_module.sleep_head

    def watched(head, mean, config, **settings):
        given.append(SimpleNamespace(head=head, mean=mean, config=config, **settings))
        return real(head, mean, config, **settings)

    monkeypatch.setattr(plugin_module, "sleep_head", watched)
    return given


class Watcher(SupervisedPlugin):
    """Runs the functions it is given at hooks of Avalanche's."""

    def __init__(self, **at):
        super().__init__()
        for name, function in at.items():
            setattr(self, name, lambda strategy, function=function, **kwargs: function(strategy))


# -- a sleep after every experience ------------------------------------------------------------------------------------


def test_a_network_sleeps_after_each_experience_and_changes():
    plugin = SRCPlugin(QUICK)
    strategy, twin = train(build(plugin)), train(build())
    assert decisions(plugin) == ["slept", "slept"]
    assert changed(strategy.model, copies(twin.model)) != []


def test_without_arguments_it_sleeps_by_auto():
    assert SRCPlugin().config == SRCPlugin("auto").config == SleepConfig()
    assert decisions(own(train(build(SRCPlugin())))) == ["slept", "slept"]


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
    backbone = nn.Sequential(nn.Linear(N_INPUTS, 8), nn.Tanh(), nn.ReLU()).requires_grad_(False)
    model = nn.Sequential(backbone, mlp(8, N_CLASSES))
    state = copies(model)
    plugin = SRCPlugin(QUICK)
    train(build(plugin, model=model))
    assert plugin.reports[0].layers == ["1.0"]
    assert {name.split(".")[0] for name in changed(model, state)} == {"1"}
    assert not any(report.backbone_trained for report in plugin.reports)


def test_a_backbone_that_is_trained_is_warned_of_once():
    model = nn.Sequential(nn.Linear(N_INPUTS, 8), nn.Sigmoid(), nn.Linear(8, N_CLASSES))
    plugin = SRCPlugin(SleepConfig(steps=400))  # so small a head needs a while until a unit fires
    with pytest.warns(UserWarning, match="2 parameters below the head were trained.*'0.weight'.*Freeze") as caught:
        train(build(plugin, model=model))
    assert len(caught) == 1
    assert [report.backbone_trained for report in plugin.reports] == [True, True]


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


# -- no sleep, no trace ------------------------------------------------------------------------------------------------


def with_replay():
    return [ReplayPlugin(mem_size=20)]


METHODS = {
    "Naive": (Naive, {}, list),
    "EWC": (EWC, {"ewc_lambda": 1.0}, list),
    "LwF": (LwF, {"alpha": 1.0, "temperature": 2.0}, list),
    "Replay": (Naive, {}, with_replay),
}


@pytest.mark.parametrize(("method", "settings", "more"), METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("config", [NO_SLEEP, "schedule"], ids=["zero steps", "never due"])
def test_without_sleep_the_run_is_bit_identical_to_one_without_the_plugin(method, settings, more, config):
    plugin = SRCPlugin(schedule=lambda strategy: False) if config == "schedule" else SRCPlugin(config)
    without = train(build(*more(), method=method, **settings))
    after_without = global_states()
    strategy = train(build(plugin, *more(), method=method, **settings))
    assert changed(strategy.model, copies(without.model)) == []
    assert global_states() == after_without


def test_a_sleep_draws_nothing_from_global_random_states():
    states = {}
    strategy = build(SRCPlugin(QUICK))
    strategy.plugins.append(
        SimpleNamespace(
            before_sleep=lambda s: states.update(before=global_states()),
            after_sleep=lambda s: states.update(after=global_states()),
        )
    )
    strategy.train(benchmark().train_stream[0])
    assert states["before"] == states["after"]


def test_the_same_seed_gives_the_same_weights_and_another_others():
    first, again, other = (train(build(SRCPlugin(QUICK, seed=seed))).model for seed in (0, 0, 1))
    assert changed(again, copies(first)) == []
    assert changed(other, copies(first)) != []


def test_no_hook_is_left_after_training_and_none_travels_with_a_copy():
    stack = _len_torch_function_stack()
    strategy = train(build(SRCPlugin(QUICK)))
    assert hooks(strategy.model) == hooks(copy.deepcopy(strategy.model)) == 0
    assert _len_torch_function_stack() == stack


def test_the_teacher_of_lwf_is_the_slept_network_and_carries_no_hook():
    strategy = train(build(SRCPlugin(QUICK), method=LwF, alpha=1.0, temperature=2.0))
    (lwf,) = (p for p in strategy.plugins if type(p).__name__ == "LwFPlugin")
    assert hooks(lwf.lwf.prev_model) == 0
    assert changed(strategy.model, copies(lwf.lwf.prev_model)) == []


class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("out of memory")


def test_training_that_breaks_off_leaves_no_hook_and_no_mode():
    model, plugin = nn.Sequential(network(), Broken()), SRCPlugin(QUICK)
    stack = _len_torch_function_stack()
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            build(plugin, model=model).train(benchmark().train_stream[0])
        assert hooks(model) == 0
        assert _len_torch_function_stack() == stack
    finally:
        plugin._waking.release()


def test_a_compiled_model_is_refused_with_the_cure():
    with pytest.raises(HeadNotFoundError, match=r"torch\.compile\(backbone\), head"):
        train(build(SRCPlugin(QUICK), model=torch.compile(network(), backend="eager")))


def test_a_plugin_that_raises_before_the_forward_pass_leaves_the_model_its_own():
    def fail(strategy):
        raise RuntimeError("broken")

    model = network()
    with pytest.raises(RuntimeError, match="broken"):
        build(SRCPlugin(QUICK), Watcher(before_forward=fail), model=model).train(benchmark().train_stream[0])
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
        assert not other(torch.rand(2, N_INPUTS)).any()  # it computes with its own weights


# -- when --------------------------------------------------------------------------------------------------------------

SCHEDULES = {
    # settings, experiences (from 1) after which it sleeps, of four
    "every": ({}, [1, 2, 3, 4]),
    "every second": ({"every": 2}, [2, 4]),
    "every second from the first": ({"every": 2, "first": 1}, [1, 3]),
    "from the third": ({"first": 3}, [3, 4]),
    "every third": ({"every": 3}, [3]),
    "the last only": ({"last_only": True}, [4]),
    "a schedule": ({"schedule": lambda s: s.experience.current_experience in (0, 3)}, [1, 4]),
    "a schedule decides alone": ({"schedule": lambda s: True, "every": 3, "last_only": True}, [1, 2, 3, 4]),
    "never": ({"schedule": lambda s: False}, []),
}


@pytest.mark.parametrize(("settings", "expected"), SCHEDULES.values(), ids=SCHEDULES)
def test_when_it_sleeps(settings, expected):
    plugin, slept = SRCPlugin(PURE, **settings), []
    strategy = build(plugin, train_epochs=1)
    for number, experience in enumerate(benchmark(4).train_stream, start=1):
        strategy.train(experience)
        slept += [number] * (len(plugin.reports) - len(slept))
    assert slept == expected


def test_a_whole_stream_in_one_call_is_the_same():
    plugin = SRCPlugin(PURE, every=2)
    build(plugin, train_epochs=1).train(benchmark(4).train_stream)
    assert decisions(plugin) == ["slept", "slept"]


def test_a_deferred_sleep_goes_back_to_where_the_last_one_left_off(nights):
    model, plugin = network(), SRCPlugin(QUICK, every=2)
    start = copies(model)
    train(build(plugin, model=model), benchmark(4).train_stream)
    first, second = nights
    assert (first.new_classes, first.old_classes) == ((0, 1), ())
    assert (second.new_classes, second.old_classes) == ((2, 3), (0, 1))
    assert torch.equal(first.before.weights[0], start["0.weight"])
    experiences = [torch.stack([x for x, *_ in e.dataset]).double() for e in benchmark(4).train_stream]
    assert_allclose(first.mean, torch.cat(experiences[:2]).mean(0), rtol=1e-6)


def test_a_deferred_sleep_is_told_in_the_bytes_kept():
    plugin = SRCPlugin(QUICK, every=2)
    strategy, stream = build(plugin), benchmark(4).train_stream
    strategy.train(stream[0])
    deferred = plugin.kept_bytes
    strategy.train(stream[1])
    parameters = sum(p.numel() * p.element_size() for p in strategy.model.parameters())
    assert deferred - plugin.kept_bytes == parameters - 8  # the copy of the head is gone, a class number more is kept


@pytest.mark.parametrize("name", ["every", "first"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_a_schedule_that_cannot_be_meant_is_refused(name, value):
    with pytest.raises(ConfigError, match=rf"SRCPlugin\({name}={value!r}\): {name} must be a whole number, 1 or more"):
        SRCPlugin(**{name: value})


def test_the_kth_sleep_has_its_own_length():
    config = SleepConfig.preset("src_only", steps=(0, 40), steps_growth=5)
    plugin = SRCPlugin(config)
    train(build(plugin, train_epochs=1), benchmark(4).train_stream)
    assert decisions(plugin) == ["awake", "slept", "slept", "slept"]
    assert [report.steps for report in plugin.reports] == [0, 45, 50, 55]


def online(access=True, size=8, **settings):
    plugin = SRCPlugin(PURE, **settings)
    strategy, slept = build(plugin, train_epochs=1), []
    stream = split_online_stream(benchmark().train_stream, size, shuffle=False, access_task_boundaries=access)
    for number, experience in enumerate(stream, start=1):
        strategy.train(experience)
        slept += [number] * (len(plugin.reports) - len(slept))
    return slept


@pytest.mark.parametrize(("size", "boundaries"), [(8, [5, 10]), (15, [3, 6])], ids=["whole", "with remainder"])
def test_an_online_stream_sleeps_where_an_experience_ends(size, boundaries):
    # 40 samples per experience: five times 8, or 15 + 15 + 10.
    assert online(size=size) == boundaries


def test_an_online_stream_without_boundaries_says_that_it_never_sleeps():
    with pytest.warns(UserWarning, match="does not tell where an experience ends.*pass schedule=") as caught:
        assert online(access=False) == []
    assert len(caught) == 1


def test_an_online_stream_without_boundaries_sleeps_by_schedule():
    assert online(access=False, schedule=lambda s: s.clock.train_exp_counter in (3, 7)) == [4, 8]


def test_the_last_of_an_online_stream_is_refused_or_slept_after():
    try:
        assert online(last_only=True) == [10]
    except ConfigError as refusal:
        assert "schedule=" in str(refusal)  # noqa: PT017 - either answer is right


def test_cumulative_training_sleeps_after_each_experience(nights):
    train(build(SRCPlugin(SleepConfig(steps=60, rehearsal_gate=False)), method=Cumulative))
    assert [n.old_classes for n in nights] == [(), (0, 1)]
    assert nights[1].recall > 0.5


def test_joint_training_sleeps_once_and_knows_all_classes(nights):
    build(SRCPlugin(QUICK), method=JointTraining).train(benchmark().train_stream)
    assert [n.new_classes for n in nights] == [(0, 1, 2, 3)]


def test_the_last_experience_of_joint_training_is_its_only_one():
    plugin = SRCPlugin(QUICK, last_only=True)
    build(plugin, method=JointTraining).train(benchmark().train_stream)
    assert len(plugin.reports) == 1


# -- where it stands among the plugins ---------------------------------------------------------------------------------


def order(strategy):
    return [type(plugin).__name__ for plugin in strategy.plugins]


def icarl(*plugins):
    model = SimpleMLP(num_classes=N_CLASSES, input_size=N_INPUTS, hidden_size=16, drop_rate=0.0)
    return ICaRL(
        feature_extractor=nn.Sequential(nn.Flatten(), model.features),
        classifier=model.classifier,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
        memory_size=20,
        buffer_transform=None,
        fixed_memory=True,
        train_mb_size=10,
        eval_mb_size=10,
        train_epochs=1,
        plugins=list(plugins),
        evaluator=EvaluationPlugin(loggers=[NoLogger()]),
    )


TAIL = ["EvaluationPlugin", "PeriodicEval", "Clock"]


@pytest.mark.parametrize("mine_first", [True, False])
def test_it_stands_before_ewc_whose_anchor_is_the_slept_network(mine_first):
    ewc, mine = EWCPlugin(ewc_lambda=1.0), SRCPlugin(QUICK)
    strategy = build(*([mine, ewc] if mine_first else [ewc, mine]))
    strategy.train(benchmark().train_stream[0])
    assert order(strategy) == ["SRCPlugin", "EWCPlugin", *TAIL]
    for name, p in strategy.model.named_parameters():
        assert torch.equal(ewc.saved_params[0][name].data, p)


@pytest.mark.parametrize("mine_first", [True, False])
def test_it_stands_behind_si_whose_account_must_not_contain_the_sleep(mine_first):
    si, mine = SynapticIntelligencePlugin(si_lambda=1.0), SRCPlugin(QUICK)
    strategy = build(*([mine, si] if mine_first else [si, mine]))
    train(strategy)
    assert order(strategy) == ["SynapticIntelligencePlugin", "SRCPlugin", *TAIL]


def test_the_wrapper_of_si_is_put_in_order_too():
    strategy = train(build(SRCPlugin(QUICK), method=SynapticIntelligence, si_lambda=1.0))
    assert order(strategy) == ["SynapticIntelligencePlugin", "SRCPlugin", *TAIL]


def test_it_stands_before_icarl():
    strategy = icarl(SRCPlugin(PURE))
    own(strategy).before_training(strategy)
    assert order(strategy) == ["SRCPlugin", "_ICaRLPlugin", "ICaRLLossPlugin", *TAIL]


def test_icarl_sleeps():
    strategy = train(icarl(SRCPlugin(PURE)))
    assert decisions(own(strategy)) == ["slept", "slept"]


def test_er_ace_sleeps(nights):
    train(build(SRCPlugin(PURE), method=ER_ACE, mem_size=20, batch_size_mem=5))
    assert len(nights) == 2


@pytest.mark.parametrize(
    ("method", "settings"),
    [(DER, {"mem_size": 20, "batch_size_mem": 5}), (AGEM, {"patterns_per_exp": 10, "sample_size": 10})],
)
def test_other_methods_with_forward_passes_of_their_own_sleep(method, settings):
    strategy = train(build(SRCPlugin(PURE), method=method, **settings))
    assert decisions(own(strategy)) == ["slept", "slept"]


def test_the_callers_list_is_not_touched():
    plugins = [EWCPlugin(ewc_lambda=1.0), SRCPlugin(QUICK)]
    given = list(plugins)
    torch.manual_seed(0)
    model = network()
    strategy = Naive(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), criterion=nn.CrossEntropyLoss(),
        train_mb_size=10, plugins=plugins, evaluator=EvaluationPlugin(loggers=[NoLogger()]),
    )  # fmt: skip
    strategy.train(benchmark().train_stream[0])
    assert plugins == given


def test_every_plugin_is_called_once_although_the_list_is_put_in_order():
    calls = []
    watchers = [Watcher(before_training=lambda s, k=k: calls.append(k)) for k in range(3)]
    build(*watchers[:2], SRCPlugin(QUICK), watchers[2], train_epochs=1).train(benchmark().train_stream[0])
    assert calls == [0, 1, 2]


# -- before and after the sleep ----------------------------------------------------------------------------------------


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
    strategy = build(SRCPlugin(QUICK), metrics=[metric])
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


# -- rehearsal ---------------------------------------------------------------------------------------------------------


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
    assert "rehearsal works" in plugin.reports[1].reason
    assert all(torch.equal(seen[2][name], seen[3][name]) for name in seen[2])


def test_with_the_gate_off_a_rehearsing_network_may_sleep():
    plugin = SRCPlugin(SleepConfig(steps=60, rehearsal_gate=False, balance_gate=False))
    train(build(plugin, ReplayPlugin(mem_size=40), train_epochs=4))
    assert decisions(plugin) == ["slept", "slept"]


# -- a reference of one's own ------------------------------------------------------------------------------------------


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
    with pytest.warns(UserWarning, match="below the head"):
        strategy.train(benchmark().train_stream[0])
    assert nights[0].mean.shape == (16,)


# -- bad input ---------------------------------------------------------------------------------------------------------


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


# -- pickling and checkpoints ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pickler", [pickle, dill], ids=["pickle", "dill"])
@pytest.mark.parametrize("every", [1, 2], ids=["after a sleep", "sleep deferred"])
def test_a_plugin_that_was_pickled_continues_noise_mean_and_classes(pickler, every):
    stream = benchmark(4).train_stream
    straight, cut = build(SRCPlugin(QUICK, every=every)), build(SRCPlugin(QUICK, every=every))
    for strategy in (straight, cut):
        strategy.train(stream[0], shuffle=False)  # shuffling draws from the global state, not the plugin's to keep
    state = pickler.dumps(own(cut))
    cut.plugins = [pickler.loads(state) if isinstance(p, SRCPlugin) else p for p in cut.plugins]
    for experience in stream[1:]:
        straight.train(experience, shuffle=False)
        cut.train(experience, shuffle=False)
    assert changed(cut.model, copies(straight.model)) == []
    a, b = (own(s).reports for s in (straight, cut))
    assert [r.spikes for r in a] == [r.spikes for r in b]
    assert a[-1].decision == "slept"


@pytest.fixture
def whole_optim(monkeypatch):
    """What dill needs to find the classes of torch.optim, which hides its own submodules."""
    for name, module in list(sys.modules.items()):
        head, _, tail = name.rpartition(".")
        if head == "torch.optim" and not hasattr(torch.optim, tail):
            monkeypatch.setattr(torch.optim, tail, module, raising=False)


@pytest.mark.parametrize("every", [1, 2], ids=["after a sleep", "sleep deferred"])
def test_avalanches_checkpoint_resumes_to_the_same_weights(tmp_path, whole_optim, every):
    straight = build(SRCPlugin(QUICK, every=every))
    for experience in (stream := benchmark(4).train_stream):
        straight.train(experience)

    first = build(SRCPlugin(QUICK, every=every))
    for experience in stream[:1]:
        first.train(experience)
    save_checkpoint(first, tmp_path / "checkpoint.pkl")

    torch.manual_seed(99)  # loading must not depend on where the new process stands
    second, done = maybe_load_checkpoint(build(SRCPlugin(NO_SLEEP)), tmp_path / "checkpoint.pkl")
    assert done == 1
    for experience in stream[1:]:
        second.train(experience)
    assert changed(second.model, copies(straight.model)) == []
    assert decisions(own(second)) == decisions(own(straight))


# -- on a GPU ----------------------------------------------------------------------------------------------------------


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
        train(build(SRCPlugin(QUICK, seed=torch.Generator().manual_seed(s)))).model for s in (1, 1, 2)
    )
    assert changed(again, copies(first)) == []
    assert changed(other, copies(first)) != []
