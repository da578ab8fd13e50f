"""The sleep in closed form, on weights so small that it can be done on paper."""

import math

import pytest
import torch
from numpy.testing import assert_allclose

from models import global_states, mlp, same_bits
from src_plugin.head.find import find_head
from src_plugin.head.state import HeadState
from src_plugin.night.closed_form import fractions_of_steps, inhibit

# W x = [3 + 1, 3 - 1] = [4, 2], of mean 3; sum(x) = 4. The entries of W are 1/2, 1/2, 1/2 and 3/2 away from their mean
# 1/2, so their standard deviation is sqrt(3 / 4), and f = 1 - exp(-removal * sqrt(3 / 4) * 4 / 3).
W, X = [[1.0, 1.0], [1.0, -1.0]], [3.0, 1.0]
STD = math.sqrt(3 / 4)
HALF = 3 / 4 / STD * math.log(2)  # this removal takes one half

# A second layer of W gets [4, 2]: W x = [6, 2], of mean 4, and sum(x) = 6. A third gets [6, 2]: W x = [8, 4], of mean
# 6, and sum(x) = 8. With these removals all three have k = removal * STD * sum(x) / mean(W x) = log(2).
LOG_2 = [HALF, 4 / 6 / STD * math.log(2), 6 / 8 / STD * math.log(2)]


def by_steps(before, mean, removal):
    """What a sleep of such steps takes, and what it makes of the head."""
    fractions = fractions_of_steps(before, mean, removal)
    return fractions, inhibit(before, mean, fractions)


def state(*weights, biases=None, dtype=torch.float64):
    tensors = tuple(torch.tensor(w, dtype=dtype) for w in weights)
    return HeadState(tensors, (None,) * len(tensors) if biases is None else biases)


def mean(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


def random_state(*sizes, dtype=torch.float64):
    """Weights and biases of an MLP, and a mean input of it."""
    found = find_head(mlp(*sizes, dtype=dtype), head="").read()
    return found, torch.linspace(0.1, 0.9, sizes[0], dtype=dtype)


def assert_same(a, b):
    assert all(same_bits(s, t) for s, t in zip(a.tensors(), b.tensors(), strict=True))


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_the_fraction_of_steps_by_hand():
    assert fractions_of_steps(state(W), mean(*X), [HALF]) == pytest.approx([0.5])
    assert fractions_of_steps(state(W), mean(*X), [2 * HALF]) == pytest.approx([0.75])  # half of the other half
    assert inhibit(state(W), mean(*X), [0.5]).answers == [3.0]


def test_each_row_loses_the_same_of_all_of_its_weights():
    # [4, 2] / 2 / sum(x) = [1/2, 1/4] off each weight of the row.
    found = inhibit(state(W), mean(*X), [0.5]).state.weights[0]
    assert_allclose(found, [[0.5, 0.5], [0.75, -1.25]])


def test_the_answer_to_the_mean_falls_by_exactly_the_fraction():
    # [0.5 * 3 + 0.5 * 1, 0.75 * 3 - 1.25 * 1] = [2, 1], half of [4, 2]
    found = inhibit(state(W), mean(*X), [0.5]).state.weights[0]
    assert_allclose(found @ mean(*X), [2.0, 1.0])
    before, x = random_state(20, 9)
    was, now = before.weights[0] @ x, inhibit(before, x, [0.3]).state.weights[0] @ x
    assert_allclose(now, torch.where(was > 0, 0.7 * was, was), rtol=1e-12)


def test_units_that_the_mean_does_not_excite_stay_as_they_are():
    # The second answers 3 * -1 + 1 * 2 = -1, the third 3 * 1 - 1 * 3 = 0; the first, 4, is a third of it on average.
    before = state([[1.0, 1.0], [-1.0, 2.0], [1.0, -3.0]])
    found = inhibit(before, mean(*X), [0.1])
    assert found.answers == pytest.approx([4 / 3])
    after = found.state.weights[0]
    assert same_bits(after[1:], before.weights[0][1:])
    assert_allclose(after[0], 1 - 0.1 * 4 / 4)


# What is taken of the first layer -> f / k there.
BELOW = {"nothing": (0.0, 1.0), "one half": (HALF, 1 / 2 / math.log(2)), "all": (100.0, 1 / (100 * STD * 4 / 3))}


@pytest.mark.parametrize(("below", "driven"), BELOW.values(), ids=BELOW)
def test_a_layer_gets_what_the_one_below_answered_before_its_own_sleep(below, driven):
    # x = [4, 2] there, whatever was taken below; for one half, [6, 2] / 2 / 6 = [1/2, 1/6] off the rows.
    fractions, found = by_steps(state(W, W), mean(*X), [below, LOG_2[1] / driven])
    assert fractions[1] == pytest.approx(0.5)
    assert found.answers == [3.0, 4.0]
    assert_allclose(found.state.weights[1], [[0.5, 0.5], [1 - 1 / 6, -1 - 1 / 6]])


def test_later_layers_are_driven_less_and_less():
    # With the same k everywhere, each exponent is the fraction below: 1/2, then 1 - exp(-1/2), ...
    found = fractions_of_steps(state(W, W, W), mean(*X), LOG_2)
    second = 1 - math.exp(-1 / 2)
    assert found == pytest.approx([1 / 2, second, 1 - math.exp(-second)])
    # Twice as fast in the third: its exponent is k_3 * f_2 / k_2 = 2 * f_2.
    faster = fractions_of_steps(state(W, W, W), mean(*X), [*LOG_2[:2], 2 * LOG_2[2]])
    assert faster == pytest.approx([1 / 2, second, 1 - math.exp(-2 * second)])


def test_a_layer_that_takes_nothing_drives_the_next_as_long_as_it_is_driven_itself():
    first, _, third = LOG_2
    before = state(W, W, W)
    found = fractions_of_steps(before, mean(*X), [first, 0.0, third])
    assert found == pytest.approx([1 / 2, 0.0, 1 - math.exp(-1 / 2)])
    # Equal weights have a standard deviation of 0, and take nothing either: [4, 2] becomes [6, 6], W x = [12, 0].
    found = fractions_of_steps(
        state(W, [[1.0, 1.0], [1.0, 1.0]], W), mean(*X), [first, 1.0, 6 / 12 / STD * math.log(2)]
    )
    assert found == pytest.approx([1 / 2, 0.0, 1 - math.exp(-1 / 2)])
    # Below it nothing falls: the third is driven for the whole night.
    found = fractions_of_steps(before, mean(*X), [0.0, 0.0, third])
    assert found == pytest.approx([0.0, 0.0, 1 / 2])


def test_it_is_where_a_night_in_small_steps_ends():
    # All layers at once, in steps of 1 / n: each layer gets what the one below answers by then, and loses k times what
    # it answers to that, along (1, ..., 1) / sum(x), x its input in the evening.
    n, before = 5_000, state(W, W, W)
    ends = [torch.tensor(w, dtype=torch.float64) for w in (W, W, W)]
    for _ in range(n):
        x = mean(*X)
        for weight, k, total in zip(ends, (math.log(2), 1.5, 0.8), (4, 6, 8), strict=True):
            answer = (weight @ x).relu()
            weight -= (k / n * answer / total)[:, None]
            x = answer
    removal = [r * k / math.log(2) for r, k in zip(LOG_2, (math.log(2), 1.5, 0.8), strict=True)]
    for weight, end in zip(by_steps(before, mean(*X), removal)[1].state.weights, ends, strict=True):
        assert_allclose(weight, end, rtol=0, atol=2e-4)


def test_however_much_is_to_be_removed_no_answer_changes_its_sign():
    fractions, found = by_steps(state(W), mean(*X), [1e6])
    assert fractions == [1.0]
    assert_allclose(found.state.weights[0] @ mean(*X), [0.0, 0.0], atol=1e-12)


# -- what stays --------------------------------------------------------------------------------------------------------

STILL = {
    "nothing is to be removed": ([W, W], X, [0.0, 0.0]),
    "no unit is excited": ([[[-1.0, 0.5], [0.0, -1.0]], W], X, [1.0, 1.0]),
    "the mean is zero": ([W, W], [0.0, 0.0], [1.0, 1.0]),
    "all weights are equal": ([[[0.5, 0.5], [0.5, 0.5]]], X, [1.0]),  # of a standard deviation of 0
    "there is one weight": ([[[2.0]]], [0.5], [1.0]),  # likewise
}


@pytest.mark.parametrize(("weights", "x", "removal"), STILL.values(), ids=STILL)
def test_weights_stay(weights, x, removal):
    before = state(*weights)
    fractions, found = by_steps(before, mean(*x), removal)
    assert fractions == [0.0] * len(weights)
    assert_same(found.state, before)


@pytest.mark.parametrize("reason", ["nothing is to be removed", "no unit is excited", "the mean is zero"])
def test_weights_stay_by_fractions_too(reason):
    weights, x, removal = STILL[reason]
    before = state(*weights)
    found = inhibit(before, mean(*x), [0.6 * amount for amount in removal])
    assert_same(found.state, before)


def test_the_same_weights_do_not_stay_without_that_reason():
    before = state(W, W)
    _, found = by_steps(before, mean(*X), [1.0, 1.0])
    assert not any(same_bits(a, b) for a, b in zip(found.state.weights, before.weights, strict=True))


def test_a_silent_layer_in_the_middle_silences_those_above_it():
    # The second layer answers nothing, so the third is driven by nothing; neither has a fraction, nor NaN.
    before = state(W, [[-1.0, -1.0], [-2.0, 0.0]], W)
    fractions, found = by_steps(before, mean(*X), [HALF, 1.0, 1.0])
    assert fractions == pytest.approx([0.5, 0.0, 0.0])
    assert found.answers == [3.0, 0.0, 0.0]
    assert_same(found.state.above_first, before.above_first)
    assert_same(inhibit(before, mean(*X), [0.5, 0.5, 0.5]).state.above_first, before.above_first)


def test_biases_stay_and_drive_nothing():
    biases = (torch.tensor([100.0, -100.0], dtype=torch.float64), None)
    found = inhibit(state(W, W, biases=biases), mean(*X), [0.5, 0.5])
    without = inhibit(state(W, W), mean(*X), [0.5, 0.5])
    assert found.state.biases[0] is biases[0]
    assert biases[0].tolist() == [100.0, -100.0]
    assert found.state.biases[1] is None
    assert all(same_bits(a, b) for a, b in zip(found.state.weights, without.state.weights, strict=True))


def test_what_was_given_stays_as_it_is():
    before, x = random_state(12, 7, 5)
    kept, x_kept = [t.clone() for t in before.tensors()], x.clone()
    inhibit(before, x, [0.1, 0.1])
    assert all(same_bits(a, b) for a, b in zip(before.tensors(), kept, strict=True))
    assert same_bits(x, x_kept)


# -- properties --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 255.0])
def test_the_scale_of_inputs_does_not_matter(scale):
    before, x = random_state(12, 7, 5)
    (fractions, plain), (same, scaled) = (by_steps(before, mean, [0.2, 0.1]) for mean in (x, scale * x))
    assert_allclose(same, fractions, rtol=1e-12)
    assert_allclose(scaled.answers, [scale * a for a in plain.answers], rtol=1e-12)
    for a, b in zip(scaled.state.weights, plain.state.weights, strict=True):
        assert_allclose(a, b, rtol=0, atol=1e-13)


def test_permuting_inputs_and_units_permutes_the_result():
    before, x = random_state(12, 7, 5)
    rng = torch.Generator().manual_seed(0)
    i, j, k = (torch.randperm(n, generator=rng) for n in (12, 7, 5))
    permuted = before.with_weights([before.weights[0][j][:, i], before.weights[1][k][:, j]])
    found, plain = inhibit(permuted, x[i], [0.2, 0.1]), inhibit(before, x, [0.2, 0.1]).state.weights
    assert_allclose(found.state.weights[0], plain[0][j][:, i], rtol=0, atol=1e-13)
    assert_allclose(found.state.weights[1], plain[1][k][:, j], rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_keep_their_precision(dtype):
    before, x = random_state(12, 7, 5, dtype=dtype)
    double, x_double = random_state(12, 7, 5, dtype=dtype)
    double = HeadState(tuple(w.double() for w in double.weights), tuple(b.double() for b in double.biases))
    found, wanted = inhibit(before, x, [0.2, 0.1]), inhibit(double, x_double.double(), [0.2, 0.1])
    assert {w.dtype for w in found.state.weights} == {dtype}
    for a, b in zip(found.state.weights, wanted.state.weights, strict=True):
        assert_allclose(a, b, rtol=0, atol=1e-6 if dtype == torch.float32 else 0)


def test_weights_may_lie_in_any_order():
    before, x = random_state(12, 7, 5)
    turned = before.with_weights([w.T.contiguous().T for w in before.weights])
    assert not turned.weights[0].is_contiguous()
    found, plain = inhibit(turned, x, [0.2, 0.1]).state, inhibit(before, x, [0.2, 0.1]).state
    for a, b in zip(found.weights, plain.weights, strict=True):
        assert_allclose(a, b, rtol=0, atol=1e-14)


def test_nothing_is_drawn():
    before, x = random_state(12, 7, 5)
    states = global_states()
    first, again = inhibit(before, x, [0.2, 0.1]), inhibit(before, x, [0.2, 0.1])
    assert global_states() == states
    assert_same(first.state, again.state)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_where_an_input_is_negative_the_change_runs_along_the_mean():
    # The first unit answers 1 * 0.6 - 1 * -0.8 = 1.4, the second -0.2; mean answer 0.7, |x|^2 = 1, std of weights 1.
    state = HeadState((torch.tensor([[1.0, -1.0], [-1.0, -0.5]]),), (None,))
    spread = state.weights[0].std(correction=0).item()
    fractions, inhibited = by_steps(state, torch.tensor([0.6, -0.8]), [0.1])
    fraction = 1 - math.exp(-0.1 * spread * math.sqrt(2) / 0.7 * 1)
    assert inhibited.answers == pytest.approx([0.7])
    assert fractions == pytest.approx([fraction])
    expected = torch.tensor([[1.0 - fraction * 1.4 * 0.6, -1.0 + fraction * 1.4 * 0.8], [-1.0, -0.5]])
    torch.testing.assert_close(inhibited.state.weights[0], expected)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_answer_falls_by_the_fraction_and_keeps_its_sign_whatever_the_signs_of_the_inputs(sign):
    torch.manual_seed(0)
    state = HeadState((torch.randn(30, 12),), (None,))
    mean = torch.rand(12) * torch.tensor([1.0, sign] * 6)
    before = state.weights[0] @ mean
    inhibited = inhibit(state, mean, [0.2])
    torch.testing.assert_close(inhibited.state.weights[0] @ mean, torch.where(before > 0, 0.8 * before, before))
