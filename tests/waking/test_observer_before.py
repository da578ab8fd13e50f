"""What a sleep must know of the time before the experience, and what is forgotten again."""

import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from models import mlp
from src_plugin.errors import StimulusError
from src_plugin.night.settle import align
from src_plugin.waking.observer import Waking
from src_plugin.waking.recent import RECENT
from waking_samples import backbone, batches, show

# -- the weights before ------------------------------------------------------------------------------------------------


def test_the_weights_before_are_those_of_the_first_iteration():
    model, waking = backbone(), Waking()
    first = [p.detach().clone() for p in model[3].parameters()]
    for x, y in batches(3):
        show(waking, model, x, y, step=0.1)
    weights, biases = first[::2], first[1::2]
    assert all(torch.equal(a, b) for a, b in zip(waking.before.tensors(), [*weights, *biases], strict=True))


def test_the_weights_before_are_dropped_after_a_sleep_and_wait_for_a_deferred_one():
    model, waking = backbone(), Waking()
    ((x, y),) = batches(1)
    show(waking, model, x, y, step=0.1)
    before = waking.before
    waking.forget(slept=False)
    assert waking.before is before
    show(waking, model, x, y, step=0.1)
    assert waking.before is before
    waking.forget(slept=True)
    assert waking.before is None


def test_of_a_head_that_gets_another_layer_the_rest_has_weights_before():
    # A softmax ends the head above the first layer; a ReLU in its place lets it in, in the middle of an experience.
    model, waking = nn.Sequential(nn.Linear(12, 12), nn.Softmax(1), nn.Linear(12, 4, bias=False)), Waking()
    ((x, y),) = batches(1)
    with torch.no_grad():
        model[0].weight.abs_()
    show(waking, model, x, y)
    last = model[2].weight.detach().clone()
    waking.forget(slept=False)  # the sleep is deferred, so the weights before stay those of now
    model[1] = nn.ReLU()
    show(waking, model, x, y, step=0.1)
    assert waking.head.names == ("0", "2")
    before = waking.summary().before
    assert [tuple(w.shape) for w in before.weights] == [(0, 0), (4, 12)]
    assert torch.equal(before.weights[1], last)
    assert [b is None for b in before.biases] == [False, True]
    aligned, lost = align(before, waking.head.read())
    assert lost == 12 * 12
    assert torch.equal(aligned.weights[0], model[0].weight)
    assert torch.equal(aligned.biases[0], model[0].bias)


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_recent_inputs_are_bounded_and_the_latest():
    model, waking = mlp(12, 4), Waking()
    for i in range(30):
        show(waking, model, torch.full((100, 12), i + 1.0), torch.zeros(100, dtype=torch.long))
    assert RECENT <= len(waking.recent) < RECENT + 100
    assert waking.recent[-1, 0] == 30.0


PARTS = ("_ledger", "_watch", "_hold")  # of a Waking, with attributes of their own


def test_only_mean_and_classes_are_kept_between_experiences():
    model, waking = backbone(), Waking()
    for x, y in batches(3):
        show(waking, model, x, y)
    waking.forget(slept=True)
    waking.let_go()
    values = [*vars(waking).values(), *(v for part in PARTS for v in vars(vars(waking)[part]).values())]
    values += [v for value in values if isinstance(value, list | tuple) for v in value]
    assert [value for value in values if isinstance(value, torch.Tensor | nn.Module)] == []
    assert waking.recent is None
    assert waking.head is None
    assert not waking.has_seen_input
    assert waking.kept_bytes == 12 * 8 + 8 * (1 + 2 + 2)  # a mean of doubles, a count, two classes and their counts


def test_what_is_kept_can_be_carried_over():
    model, first, second = backbone(), Waking(), Waking()
    for x, y in batches(3):
        show(first, model, x, y)
    first.forget(slept=True)
    second.load_state_dict(first.state_dict())
    assert_allclose(second.mean_input(), first.mean_input(), rtol=0)
    for waking in (first, second):
        for x, y in batches(2, seed=5, classes=(2, 3)):
            show(waking, model, x, y)
    assert_allclose(second.mean_input(), first.mean_input(), rtol=0)
    assert (second.ledger.seen, second.ledger.new) == (first.ledger.seen, first.ledger.new)
    assert second.ledger.classes() == first.ledger.classes()


def test_a_state_without_any_experience_can_be_carried_over():
    waking = Waking()
    waking.load_state_dict(Waking().state_dict())
    with pytest.raises(StimulusError, match="nothing was seen in training"):
        waking.mean_input()
