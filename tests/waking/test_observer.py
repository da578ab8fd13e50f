"""The mean input of the head is that of the training passes, and nothing stays on the model."""

import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.overrides import _len_torch_function_stack

from models import hooks, mlp
from src_plugin.waking.observer import Waking
from waking_samples import HEADS, backbone, batches, show


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_the_mean_is_that_of_all_inputs_of_the_head_shown(head):
    model, waking = backbone(), Waking(head)
    seen = []
    for x, y in batches(4) + batches(1, size=2, seed=9):  # a shorter last batch counts by its samples
        seen.append(model[:3](x).detach())
        show(waking, model, x, y, step=1e-3)
    assert_allclose(waking.mean_input(), torch.cat(seen).double().mean(0), rtol=1e-6)
    assert waking.head.names == ("3.0", "3.2")


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_the_mean_goes_on_over_experiences(head):
    model, waking = backbone(), Waking(head)
    seen = []
    for seed in range(3):
        for x, y in batches(2, size=3 + seed, seed=seed):
            seen.append(model[:3](x).detach())
            show(waking, model, x, y)
        waking.forget(slept=True)
    assert_allclose(waking.mean_input(), torch.cat(seen).double().mean(0), rtol=1e-6)


def test_iterations_are_counted_from_one_sleep_to_the_next():
    model, waking = backbone(), Waking()
    for slept, expected in ((False, 3), (True, 6), (True, 3)):  # the first experience ends without a sleep
        for x, y in batches(3):
            show(waking, model, x, y)
        assert waking.summary().iterations == expected
        waking.forget(slept=slept)


def test_the_mean_of_half_precision_inputs_does_not_lose_samples():
    # In float16 a sum of 4096 ones stays at 2048.
    model, waking = mlp(3, 2).half(), Waking()
    for _ in range(8):
        show(waking, model, torch.ones(1024, 3).half(), torch.zeros(1024, dtype=torch.long))
    assert_allclose(waking.mean_input(), 1.0)


def test_inputs_with_more_axes_count_each_row():
    model = nn.Sequential(nn.Linear(3, 2), nn.Flatten())  # a head over tokens
    waking = Waking()
    x = torch.rand(4, 5, 3)
    show(waking, model, x, torch.zeros(4, dtype=torch.long))
    assert_allclose(waking.mean_input(), x.reshape(-1, 3).double().mean(0))


def test_what_is_not_announced_is_not_counted():
    model, waking = backbone(), Waking()
    (x, y), (other, _) = batches(2)
    show(waking, model, x, y)
    mean = waking.mean_input()
    model(other)
    assert_allclose(waking.mean_input(), mean)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_model_is_watched_during_a_forward_pass_only(head):
    model, waking = backbone(), Waking(head)
    stack = _len_torch_function_stack()
    for x, y in batches(2):
        waking.begin_forward(model)
        assert "forward" in vars(model)
        out = model(x)
        waking.end_forward(model, out, y)
        assert hooks(model) == 0
        assert "forward" not in vars(model)
        assert _len_torch_function_stack() == stack


def test_a_pass_that_never_ended_is_released_by_the_next():
    model, waking = backbone(), Waking()
    stack = _len_torch_function_stack()
    waking.begin_forward(model)  # and the forward pass raised
    ((x, y),) = batches(1)
    show(waking, model, x, y)
    assert hooks(model) == 0
    assert _len_torch_function_stack() == stack
    assert_allclose(waking.mean_input(), model[:3](x).detach().double().mean(0), rtol=1e-6)


def test_a_forward_pass_that_raises_leaves_nothing_behind():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("out of memory")

    model, waking = nn.Sequential(mlp(12, 4), Broken()), Waking()
    stack = _len_torch_function_stack()
    waking.begin_forward(model)
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            model(torch.rand(2, 12))
        assert hooks(model) == 0
        assert _len_torch_function_stack() == stack
    finally:
        waking.release()


def test_only_the_pass_that_made_the_outputs_counts():
    # ER_ACE passes the buffer before after_forward; iCaRL probes sizes with the batch in before_forward.
    model, waking = backbone(), Waking()
    (x, y), (buffer, _) = batches(2)
    waking.begin_forward(model)
    with torch.no_grad():
        model[:3](x)
    out = model(x)
    model(buffer)
    waking.end_forward(model, out, y)
    assert_allclose(waking.mean_input(), model[:3](x).detach().double().mean(0), rtol=1e-6)


def test_only_the_pass_that_made_the_outputs_counts_with_a_named_head():
    model, waking = backbone(), Waking(["3.0", "3.2"])
    (x, y), (buffer, _) = batches(2)
    waking.begin_forward(model)
    out = model(x)
    model(buffer)
    waking.end_forward(model, out, y)
    assert_allclose(waking.mean_input(), model[:3](x).detach().double().mean(0), rtol=1e-6)


def test_a_layer_that_is_replaced_in_the_middle_of_an_experience_is_still_seen():
    # As an IncrementalClassifier does when an evaluation shows it new classes.
    model, waking = nn.Sequential(mlp(12, 4)), Waking()
    (x, y), (other, _) = batches(2)
    show(waking, model, x, y)
    model[0] = mlp(12, 6)
    show(waking, model, other, y)
    assert_allclose(waking.mean_input(), torch.cat([x, other]).double().mean(0), rtol=1e-6)


def test_a_head_that_gets_its_input_by_keyword_is_seen():
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(12, 4)

        def forward(self, x):
            return self.fc(input=x)

    model, waking = Keyword(), Waking()
    pairs = batches(2)
    for x, y in pairs:
        show(waking, model, x, y)
    assert_allclose(waking.mean_input(), torch.cat([x for x, _ in pairs]).double().mean(0), rtol=1e-6)
