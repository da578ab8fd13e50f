"""A probe answers what the head does, however often it is asked and wherever on a line, and computes little twice."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from head_samples import X
from models import mlp, same_bits
from src_plugin.head.find import find_head
from src_plugin.head.probe import Line, Probe
from src_plugin.head.state import HeadState

HEADS = {
    "three layers": lambda: mlp(6, 5, 4, 3),
    "ReLU in place": lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 4)),
    "one layer": lambda: nn.Linear(6, 4),
}


def half(state):
    """Return the point halfway to a head of zeros."""
    return state.towards(HeadState(*(tuple(0 * t for t in part) for part in (state.weights, state.biases))), 0.5)


@pytest.mark.parametrize("build", HEADS.values(), ids=HEADS)
def test_a_probe_answers_what_the_head_does_however_often_it_is_asked(build):
    head = find_head(build(), X)
    state = head.read()
    probe = Probe(head, X)
    for asked in (state, half(state), state):
        assert same_bits(probe.logits(asked), head.logits(asked, X))
        assert same_bits(probe.hidden(asked), head.hidden(asked, X))
        assert same_bits(probe.first(asked), F.linear(X, asked.weights[0], asked.biases[0]))


def test_a_probe_keeps_what_lower_layers_answered():
    head = find_head(mlp(6, 5, 4, 3), X)
    state = head.read()
    probe = Probe(head, X)
    first, hidden = probe.first(state), probe.hidden(state)
    levelled = state.with_weights([*state.weights[:2], 2 * state.weights[2]])
    assert probe.hidden(levelled) is hidden
    assert not torch.equal(probe.logits(levelled), probe.logits(state))
    settled = state.with_weights([state.weights[0], 2 * state.weights[1], state.weights[2]])
    assert probe.first(settled) is first
    assert not torch.equal(probe.hidden(settled), hidden)
    for other in (
        state.with_weights([2 * state.weights[0], *state.weights[1:]]),
        HeadState(state.weights, (None,) * 3),
    ):
        assert not torch.equal(probe.first(other), first)
        assert same_bits(probe.hidden(other), head.hidden(other, X))


@pytest.mark.parametrize("build", HEADS.values(), ids=HEADS)
def test_a_line_answers_what_the_head_does_at_each_of_its_points(build):
    head = find_head(build().double(), X.double())
    start = head.read()
    end = half(start)
    probe = Probe(head, X.double())
    line = Line(probe, start, end)
    for position in (0.0, 0.3, 1.0):
        state = start.towards(end, position)
        torch.testing.assert_close(line.logits(position), head.logits(state, X.double()))
        torch.testing.assert_close(line.logits(position, rows=slice(1, 3)), head.logits(state, X.double())[1:3])
        point = line.point(position)
        assert all(same_bits(a, b) for a, b in zip(point.tensors(), state.tensors(), strict=True))
        torch.testing.assert_close(probe.logits(point), head.logits(state, X.double()))


def test_the_first_layer_is_not_computed_at_points_of_a_line(monkeypatch):
    head = find_head(mlp(6, 5, 4, 3), X)
    start = head.read()
    probe = Probe(head, X)
    line = Line(probe, start, half(start))
    shapes = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda x, *rest: shapes.append(tuple(x.shape)) or linear(x, *rest))
    line.logits(0.3)
    probe.hidden(line.point(0.5))
    assert shapes == [(len(X), 5), (len(X), 4), (len(X), 5)]
