"""Exemplars that are never trained on still say how much was forgotten."""

import random

import numpy as np
import pytest
import torch
from avalanche.training import ER_ACE, GenerativeReplay, Naive
from avalanche.training.plugins import AGEMPlugin, EWCPlugin, GEMPlugin, MIRPlugin, ReplayPlugin
from torch import nn

from models import global_states
from plugin_samples import benchmark, build, own
from src_plugin.config import Gates, SleepConfig
from src_plugin.plugin import SRCPlugin
from src_plugin.waking.exemplars import exemplars_of, recall_of


class Always(nn.Module):
    """Answers with one class, and with another if that one is not asked for."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x):
        outputs = torch.zeros(len(x), 4)
        outputs[:, self.first], outputs[:, self.second] = 2.0, 1.0
        return outputs


def with_memory(plugin):
    """A strategy whose plugin keeps 6 exemplars of classes 0 and 1."""
    strategy = build(plugin)
    strategy.train(benchmark().train_stream[0])
    return strategy


def recall_of_memory(strategy, *, old, known):
    """As SRCPlugin asks."""
    exemplars = exemplars_of(strategy, old=old)
    return None if exemplars is None else recall_of(strategy.model, exemplars, known=known, device=strategy.device)


PLUGINS = pytest.mark.parametrize("plugin", [lambda: GEMPlugin(6, 0.5), lambda: AGEMPlugin(6, 6)], ids=["gem", "agem"])


@PLUGINS
def test_recall_counts_exemplars_of_old_classes_among_known_ones(plugin):
    strategy = with_memory(plugin())
    (memory,) = (p for p in strategy.plugins if isinstance(p, (GEMPlugin, AGEMPlugin)))
    labels = memory.memory_y[0] if isinstance(memory, GEMPlugin) else torch.tensor(list(memory.buffers[0].targets))
    ones = float((labels == 1).float().mean())
    strategy.model = Always(3, 1)
    assert recall_of_memory(strategy, old=[0, 1], known=[0, 1, 2, 3]) == 0.0
    assert recall_of_memory(strategy, old=[0, 1], known=[0, 1, 2]) == pytest.approx(ones)
    assert recall_of_memory(strategy, old=[1], known=[0, 1, 2]) == 1.0
    assert recall_of_memory(strategy, old=[2], known=[0, 1, 2]) is None


def test_no_memory_no_recall():
    assert recall_of_memory(with_memory(EWCPlugin(1.0)), old=[0], known=[0, 1]) is None


def test_nothing_is_drawn_and_modes_are_kept():
    strategy = with_memory(AGEMPlugin(6, 6))
    strategy.model.train()
    state = torch.get_rng_state()
    recall_of_memory(strategy, old=[0, 1], known=[0, 1])
    assert torch.equal(torch.get_rng_state(), state)
    assert strategy.model.training


def test_a_network_that_gem_keeps_in_health_stays_so():
    strategy = build(SRCPlugin(SleepConfig.preset("auto", balance_gate=False)), GEMPlugin(30, 0.5), train_epochs=10)
    for experience in benchmark().train_stream:
        strategy.train(experience)
    report = own(strategy).reports[1]
    assert report.samples_trained == 1.0
    assert recall_of_memory(strategy, old=[0, 1], known=[0, 1, 2, 3]) == 1.0


@PLUGINS
def test_exemplars_judge_the_sleep(plugin, monkeypatch):
    monkeypatch.setattr("src_plugin.night.judge.must_rise", lambda *_, **__: 0.01)  # blobs are never forgotten
    strategy = build(SRCPlugin(SleepConfig.preset("auto", balance_gate=False)), plugin())
    seen = []
    for experience in benchmark().train_stream:
        strategy.train(experience)
        seen.append(exemplars_of(strategy, old=[0, 1]))
    first, second = own(strategy).reports
    assert (first.samples_trained, first.samples_after) == (None, None)
    assert second.samples_trained == 1.0
    assert second.samples[0] == len(seen[0][1]) == 2 * second.exemplars  # every exemplar is another one
    assert second.decision == "awake"
    assert second.reason.endswith("neither the night nor levelling alone helped, so nothing is changed")
    assert all(len(x) == len(y) > 0 and set(y.tolist()) == {0, 1} for x, y in seen)


OWN_PASS = {
    "er-ace": lambda **more: build(SRCPlugin(), method=ER_ACE, mem_size=12, batch_size_mem=4, **more),
    "mir": lambda **more: build(SRCPlugin(), MIRPlugin(mem_size=12, batch_size_mem=4, subsample=8), **more),
}


@pytest.mark.filterwarnings("ignore:Call to deprecated function")  # Avalanche's own
@pytest.mark.parametrize("method", OWN_PASS.values(), ids=OWN_PASS)
def test_rehearsal_in_a_pass_of_its_own_is_seen_and_judges(method):
    strategy = method()
    for experience in benchmark().train_stream:
        strategy.train(experience)
    first, second = own(strategy).reports
    assert first.samples is None
    assert second.samples[0] > 0
    assert 0.0 < second.samples_trained <= 1.0


class Drawing:
    """A transformation that draws from every global random state."""

    def __call__(self, x):
        return x + 1e-6 * (torch.rand(1) + random.random() + np.random.rand())


def test_transformations_of_exemplars_draw_from_states_that_are_put_back():
    strategy = build(ReplayPlugin(mem_size=12), train_epochs=1)
    strategy.train(benchmark().train_stream[0])
    memory = strategy.plugins[0].storage_policy
    memory.buffer = memory.buffer.replace_current_transform_group(Drawing())
    states = global_states()
    assert exemplars_of(strategy, old=[0, 1]) is not None
    assert global_states() == states


def test_exemplars_that_are_no_inputs_of_the_model_are_left_alone():
    strategy = build(ReplayPlugin(mem_size=12), train_epochs=1)
    strategy.train(benchmark().train_stream[0])
    assert exemplars_of(strategy, old=[0, 1]) is not None
    strategy.mbatch = [
        torch.zeros(10, 3),
        torch.zeros(10),
        torch.zeros(10),
    ]  # as if features were kept
    assert exemplars_of(strategy, old=[0, 1]) is None


class Generator(nn.Module):
    """Makes images that are all alike."""

    def generate(self, n):
        return torch.full((n, 12), 7.0)


def generative(plugin):
    generator = Naive(model=Generator(), optimizer=torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1),
                      evaluator=None, train_epochs=0)  # fmt: skip
    return build(plugin, method=GenerativeReplay, generator_strategy=generator, replay_size=5)


def test_generated_samples_are_neither_in_the_mean_nor_believed_as_judges(nights):
    with pytest.warns(UserWarning, match="No loggers specified"):
        strategy = generative(SRCPlugin(SleepConfig(gates=Gates(balance=False))))
    experiences = benchmark().train_stream
    for experience in experiences:
        strategy.train(experience)
    assert nights[1].recall is None
    assert nights[1].new_classes == (2, 3)
    images = torch.cat([torch.stack([x for x, *_ in e.dataset]) for e in experiences])
    assert np.allclose(nights[1].mean, images.double().mean(0), rtol=1e-5)
    assert own(strategy).reports[1].judge is None
