"""Exemplars that are never trained on still say how much was forgotten."""

import pytest
import torch
from avalanche.training.plugins import AGEMPlugin, EWCPlugin, GEMPlugin
from torch import nn

from plugin_samples import benchmark, build, own
from src_plugin.config import SleepConfig
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
