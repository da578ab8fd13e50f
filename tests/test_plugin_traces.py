"""SRCPlugin leaves no trace but the slept head, and goes on where it was saved."""

import copy
import pickle
import sys
from types import SimpleNamespace

import dill
import pytest
import torch
from avalanche.checkpointing import maybe_load_checkpoint, save_checkpoint
from avalanche.training import (
    EWC,
    LwF,
    Naive,
)
from avalanche.training.plugins import ReplayPlugin
from torch import nn
from torch.overrides import _len_torch_function_stack

from models import N_CLASSES, N_INPUTS, changed, copies, global_states, hooks
from plugin_samples import NO_SLEEP, QUICK, Watcher, benchmark, build, decisions, network, own, train
from src_plugin.plugin import SRCPlugin

# -- no sleep, no trace -----------------------------------------------------------------------------------------------


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
    first, again, other = (train(build(SRCPlugin(QUICK, seed=seed), train_epochs=5)).model for seed in (0, 0, 1))
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


@pytest.mark.parametrize("head", [None, ["0", "2"]], ids=["found", "named"])
def test_a_compiled_model_sleeps_as_the_plain_one(head):
    plain, compiled = network(), torch.compile(network(), backend="eager")
    plugins = [SRCPlugin(QUICK, head=head) for _ in range(2)]
    for model, plugin in zip((plain, compiled), plugins, strict=True):
        train(build(plugin, model=model))
    assert decisions(plugins[0]) == decisions(plugins[1])
    assert "slept" in decisions(plugins[1])
    assert changed(compiled._orig_mod, copies(plain)) == []
    assert hooks(compiled) == 0
    assert compiled(torch.rand(2, N_INPUTS)).shape == (2, N_CLASSES)


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


# -- pickling and checkpoints -----------------------------------------------------------------------------------------


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
