"""SRCPlugin above a frozen backbone with batch norm: its running statistics stay as they are, or a warning says so."""

import pytest
import torch
from avalanche.training.plugins import AGEMPlugin, MASPlugin
from numpy.testing import assert_allclose
from torch import nn

import plugin_samples
from models import N_CLASSES, N_INPUTS, Blobs, changed, copies, global_states, mlp
from plugin_samples import NO_SLEEP, PURE, QUICK, Watcher, benchmark, build, train
from src_plugin.config import SleepConfig
from src_plugin.plugin import SRCPlugin

STAGES_OFF = SleepConfig.preset("auto", replay=False, settle=False, level=False)
NORM = "0.2"
STATISTICS = [f"{NORM}.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")]


class Frozen(nn.Sequential):
    """The cure that the warning gives."""

    def train(self, mode=True):
        return super().train(False)


def network(backbone=nn.Sequential, *, frozen=True, dropout=0.0):
    """A head of one layer on a convolution with batch norm, whose statistics are those of two passes."""
    torch.manual_seed(1)
    parts = [nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout)]
    below = nn.Sequential(*parts, nn.Flatten())
    for _ in range(2):
        below(Blobs(20, seed=5).tensors[0])
    return nn.Sequential(backbone(*below).requires_grad_(not frozen), mlp(4 * 2 * 3, N_CLASSES))


def only_head(model):
    """An optimizer that trains the head alone, although gradients reach the rest."""
    return torch.optim.SGD([{"params": model[0].parameters(), "lr": 0.0}, {"params": model[1].parameters()}], lr=0.1)


def told(plugin):
    return [report.backbone_trained for report in plugin.reports]


# -- held --------------------------------------------------------------------------------------------------------------

HEADS = {"found": None, "named": "1.0"}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_frozen_backbone_stays_bit_identical_and_nothing_is_said(head):
    model, plugin = network(), SRCPlugin(QUICK, head=head)
    before = copies(model)
    train(build(plugin, model=model))
    assert {name.split(".")[0] for name in changed(model, before)} == {"1"}
    assert told(plugin) == [False, False]


def test_without_the_plugin_its_statistics_move():
    model = network()
    before = copies(model)
    train(build(model=model))
    assert [name for name in changed(model, before) if name.startswith("0.")] == STATISTICS


def test_the_mean_input_is_that_of_the_features_in_eval_mode(nights):
    model = network()
    train(build(SRCPlugin(QUICK), model=model))
    experiences = [torch.stack([x for x, *_ in e.dataset]) for e in benchmark().train_stream]
    with torch.no_grad():
        features = model.eval()[0](torch.cat(experiences))
    assert_allclose(nights[1].mean, features.double().mean(0), rtol=1e-5)


def test_the_run_is_that_of_a_backbone_which_its_user_keeps_in_eval_mode():
    kept = train(build(SRCPlugin(QUICK), model=network(Frozen)))
    states = global_states()
    held = train(build(SRCPlugin(QUICK), model=network()))
    assert changed(held.model, copies(kept.model)) == []
    assert global_states() == states  # the pass that looks ahead draws nothing, dropout included


def modes_in_training(model, *plugins, at="before_backward", **settings):
    """Train, and return whether the batch norm and the dropout of the backbone were in training mode, each time."""
    modes = []
    watch = Watcher(**{at: lambda s: modes.append((model[0][2].training, model[0][4].training))})
    train(build(*plugins, watch, model=model, train_epochs=1, **settings))
    return set(modes)


def test_dropout_in_the_backbone_stays_in_training_mode():
    assert modes_in_training(network(dropout=0.3), SRCPlugin(QUICK)) == {(False, True)}


def test_passes_of_other_plugins_before_the_first_of_a_later_experience_move_nothing():
    def peek(strategy):
        if strategy.clock.train_exp_counter == 1:
            strategy.model(strategy.mb_x)

    model = network()
    before = copies(model)
    train(build(SRCPlugin(QUICK), Watcher(before_training_iteration=peek), model=model))
    assert [name for name in changed(model, before) if name.startswith("0.")] == []


def test_another_plugin_that_calls_train_before_a_batch_lets_nothing_go():
    call = Watcher(before_training_iteration=lambda strategy: strategy.model.train())
    assert modes_in_training(network(), SRCPlugin(QUICK), call) == {(False, True)}


def test_when_training_ends_modes_are_as_training_left_them():
    strategy = train(build(SRCPlugin(QUICK), model=network()))
    assert all(module.training for module in strategy.model.modules())


def test_an_evaluation_in_between_lets_nothing_go():
    b, model = benchmark(), network()
    before = copies(model)
    strategy = build(SRCPlugin(QUICK), model=model, eval_every=1)
    train(strategy, b.train_stream, eval_streams=[b.test_stream])
    assert [name for name in changed(model, before) if name.startswith("0.")] == []


# -- not held ----------------------------------------------------------------------------------------------------------


def part_frozen():
    model = network()
    model[0][1].bias.requires_grad_(True)
    return model


NOT_FROZEN = {"in part": part_frozen, "not at all": lambda: network(frozen=False)}


@pytest.mark.parametrize("make", NOT_FROZEN.values(), ids=NOT_FROZEN)
def test_a_backbone_that_is_not_wholly_frozen_keeps_its_modes_and_moving_statistics_are_warned_of_once(make):
    model, plugin = make(), SRCPlugin(QUICK)
    before = copies(model)
    with pytest.warns(UserWarning, match="below the head changed") as caught:
        assert modes_in_training(model, plugin, optimizer=only_head(model)) == {(True, True)}
    (warning,) = caught
    assert warning.filename == plugin_samples.__file__  # the line of the user that trains
    message = str(warning.message)
    assert message.startswith(
        "SRCPlugin: buffers of '0.2' (BatchNorm2d) below the head changed in training (first: '0.2.running_mean'), so "
        "the mean input of earlier experiences no longer fits the features. Freeze the backbone, and keep it in eval"
    )
    assert "return super().train(False)" in message
    assert told(plugin) == [True, True]
    assert [name for name in changed(model, before) if name.startswith("0.")] == STATISTICS


def test_the_cure_of_the_warning_works_as_it_is_printed():
    model, plugin = network(frozen=False), SRCPlugin(QUICK)
    with pytest.warns(UserWarning, match="Frozen") as caught:
        train(build(plugin, model=model, optimizer=only_head(model)))
    lines = str(caught[0].message).partition("\n\n")[2].rpartition("\n\n")[0]
    names = {"torch": torch, "backbone": network(frozen=False)[0], "head": mlp(4 * 2 * 3, N_CLASSES)}
    exec("\n".join(line[4:] for line in lines.splitlines()), names)
    cured, plugin = names["model"], SRCPlugin(QUICK)
    before = copies(cured)
    train(build(plugin, model=cured))
    assert {name.split(".")[0] for name in changed(cured, before)} == {"1"}
    assert told(plugin) == [False, False]


def test_of_a_backbone_that_is_trained_only_the_parameters_are_warned_of():
    plugin = SRCPlugin(QUICK)
    with pytest.warns(UserWarning, match="4 parameters below the head were trained") as caught:
        train(build(plugin, model=network(frozen=False)))
    assert len(caught) == 1
    assert told(plugin) == [True, True]


def test_a_norm_without_any_parameter_below_the_head_may_learn_its_statistics():
    # No parameter is frozen there, so nothing says that they are to stay.
    norm, head = nn.BatchNorm1d(N_INPUTS, affine=False), mlp(N_INPUTS, N_CLASSES)
    with pytest.warns(UserWarning, match=r"buffers of '0' \(BatchNorm1d\)"):
        train(build(SRCPlugin(QUICK), model=nn.Sequential(norm, nn.ReLU(), head)))
    assert norm.num_batches_tracked > 0


def test_a_backbone_that_is_no_longer_frozen_is_let_go():
    def thaw(strategy):
        if strategy.clock.train_exp_counter == 1 and strategy.clock.train_exp_epochs == 1:
            model[0].requires_grad_(True)

    model, modes = network(), []
    watch = Watcher(
        after_training_epoch=thaw,
        before_backward=lambda s: modes.append((s.clock.train_iterations, model[0][2].training)),
    )
    with pytest.warns(UserWarning, match="parameters below the head were trained"):
        train(build(SRCPlugin(QUICK), watch, model=model, train_epochs=3))
    # 40 samples and batches of 10: two experiences of three epochs of four iterations; thawed after the fifth epoch.
    assert modes == [(i, i >= 20) for i in range(24)]


def as_mas(strategy):
    """What MAS does when an experience ends: a pass of its own, in training mode, after the sleep."""
    strategy.model.train()
    strategy.model(strategy.mb_x)


def test_statistics_that_move_between_a_sleep_and_the_next_experience_are_told_in_the_next_sleep():
    plugin = SRCPlugin(QUICK)
    strategy = build(plugin, Watcher(after_training_exp=as_mas), model=network())
    with pytest.warns(UserWarning, match="buffers of '0.2'"):
        train(strategy)
    assert told(plugin) == [False, True]


OTHERS = {
    "A-GEM": lambda: AGEMPlugin(patterns_per_experience=10, sample_size=10),
    "MAS": lambda: MASPlugin(lambda_reg=1.0, alpha=0.5),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_plugins_that_train_the_model_themselves_are_warned_of_and_the_cure_keeps_it(other):
    plugin = SRCPlugin(QUICK)
    with pytest.warns(UserWarning, match="buffers of '0.2'"):
        train(build(plugin, other(), model=network()))
    assert told(plugin) == [False, True]
    plugin = SRCPlugin(QUICK)
    train(build(plugin, other(), model=network(Frozen)))
    assert told(plugin) == [False, False]


# -- nothing to hold, nothing to say -----------------------------------------------------------------------------------

OFF = {"zero steps": NO_SLEEP, "every stage off": STAGES_OFF}


@pytest.mark.parametrize("config", OFF.values(), ids=OFF)
def test_a_plugin_that_is_off_touches_no_mode_and_says_nothing(config):
    without = train(build(model=network(dropout=0.3)))
    states = global_states()
    model, modes = network(dropout=0.3), []
    note = Watcher(before_backward=lambda s: modes.append({m.training for m in s.model.modules()}))
    train(build(SRCPlugin(config), note, model=model))
    assert changed(model, copies(without.model)) == []
    assert global_states() == states
    assert modes == [{True}] * len(modes)


def test_with_a_reference_no_mode_is_touched_and_nothing_is_said():
    data = Blobs(7, seed=3).tensors[0]
    config = SleepConfig.preset("src_only", steps=400)
    assert modes_in_training(network(), SRCPlugin(config, reference=lambda s: data)) == {(True, True)}


def test_a_plain_network_is_passed_once_per_batch():
    calls = []
    model = mlp(N_INPUTS, 16, N_CLASSES)
    model[0].register_forward_hook(lambda *_: calls.append(1))
    train(build(SRCPlugin(PURE), model=model, train_epochs=1))
    assert len(calls) == 8  # two experiences of 40 samples in batches of 10


def test_to_look_ahead_costs_one_pass_in_all():
    calls = []
    model = network()
    model[0][1].register_forward_hook(lambda module, *_: calls.append(module.training))
    train(build(SRCPlugin(QUICK), model=model, train_epochs=1))
    assert calls == [False] + [True] * 8  # once, and not once in every experience
