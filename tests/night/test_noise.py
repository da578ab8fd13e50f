"""Gaussian noise has the mean it is said to have, and every second vector the correlations of current inputs."""

import numpy as np
import pytest
import torch
from torch import nn

from models import global_states
from src_plugin.config import Constants
from src_plugin.head.find import find_head
from src_plugin.head.probe import Probe
from src_plugin.head.state import HeadState
from src_plugin.night.noise import draw_noise, share_of

USUAL = Constants()
N_NOISE, N_INPUTS, SPREAD, BELOW = USUAL.noise_vectors, USUAL.noise_inputs, USUAL.noise_spread, USUAL.noise_below

MANY = 40_000


def noise(mean, *, inputs=None, n=MANY, seed=0):
    return draw_noise(np.array(mean), generator=np.random.default_rng(seed), inputs=inputs, n=n)


def strokes(n=N_INPUTS):
    """Inputs 0 and 1 rise together, input 2 falls as they rise, input 3 goes its own way, input 4 stays."""
    g = torch.Generator().manual_seed(0)
    up, own = torch.rand(n, generator=g), torch.rand(n, generator=g)
    return torch.stack([up, up, 1 - up, own, torch.full((n,), 0.5)], dim=1)


def correlation(x):
    return torch.corrcoef(x.T)


def close(found, wanted, atol=0.01):
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float32), atol=atol, rtol=0)


# -- means and bounds --------------------------------------------------------------------------------------------------


def test_without_inputs_noise_has_half_the_mean():
    # m - min(m / 2, BELOW s), and s is taken to be m.
    found = noise([0.0, 0.4, 1.0, 3.0])
    assert found.dtype == torch.float32
    close(found.mean(0), [0.0, 0.2, 0.5, 1.5], atol=0.02)


def test_noise_lies_by_a_part_of_a_standard_deviation_below_the_mean_and_at_most_by_half_of_it():
    # Inputs 0 and 1 alternate between 0.3 and 0.5, of standard deviation 0.1; 2 between 0 and 1, of 0.5; 3 stays. Half
    # of the mean is less than BELOW of these for 1, and for 3, whose standard deviation is taken to be its mean.
    inputs = torch.tensor([[0.3, 0.3, 0.0, 0.6], [0.5, 0.5, 1.0, 0.6]]).repeat(150, 1)
    found = noise([0.4, 0.06, 0.9, 0.6], inputs=inputs)
    for half in (found[::2], found[1::2]):
        close(half.mean(0), [0.4 - BELOW * 0.1, 0.03, 0.9 - BELOW * 0.5, 0.3])


def test_noise_that_nothing_clips_is_twice_as_wide_as_the_inputs():
    # Around 100 with a standard deviation of 1, far from both 0 and the largest input, which another input has.
    g = torch.Generator().manual_seed(0)
    inputs = 100 + torch.randn(N_INPUTS, 3, generator=g)
    inputs[0] = 1000.0
    wide = (inputs - inputs.mean(0)).square().sum(0).div(N_INPUTS - 1).sqrt()
    found = noise([500.0] * 3, inputs=inputs)
    close(found.mean(0), (500.0 - BELOW * wide).tolist(), atol=2.0)
    close(found[::2].std(0), (SPREAD * wide).tolist(), atol=2.0)
    close(found[1::2].std(0), (SPREAD * wide).tolist(), atol=2.0)


def test_noise_stays_between_zero_and_the_largest_current_input():
    inputs = strokes() * torch.tensor([1.0, 2.0, 3.0, 0.5, 1.0])
    found = noise([0.4, 0.8, 1.2, 0.2, 0.5], inputs=inputs)
    top = inputs.amax(0)
    top[4] = inputs.max()  # it does not vary now, and who knows what it was
    assert float(found.min()) == 0.0
    assert (found <= top).all()
    assert torch.equal(found.amax(0)[:4], top[:4])  # wide enough to come that far


def test_where_the_mean_is_above_all_current_inputs_noise_may_come_up_to_it():
    found = noise([5.0] * 5, inputs=strokes())
    assert float(found.max()) == 5.0
    close(found[:, :3].mean(0), [5.0 - BELOW * float(s) for s in strokes().std(0)[:3]], atol=0.02)


def test_without_inputs_noise_stays_between_zero_and_one_or_the_largest_mean():
    assert float(noise([0.2, 0.9]).max()) == 1.0
    assert float(noise([0.2, 3.0]).max()) == 3.0
    assert float(noise([0.2, 0.9]).min()) == 0.0


def test_an_input_that_is_always_silent_stays_so():
    inputs = strokes()
    inputs[:, 0] = 0.0
    assert float(noise([0.0] + [0.5] * 4, inputs=inputs)[:, 0].max()) < 1e-4


# -- correlations ------------------------------------------------------------------------------------------------------


def test_every_second_vector_has_the_correlations_of_the_inputs():
    # With means of half their range, noise is cut off alike at both ends, so that opposites are mirror images.
    inputs = strokes()
    deviation = inputs.std(0)
    found = noise((0.5 + BELOW * deviation).tolist(), inputs=inputs)
    independent, correlated = correlation(found[::2]), correlation(found[1::2])
    assert float(correlated[0, 1]) == pytest.approx(1.0)
    assert float(correlated[0, 2]) == pytest.approx(-1.0, abs=0.01)
    wanted = correlation(inputs)[3, :3]
    torch.testing.assert_close(correlated[3, :3], wanted, atol=0.05, rtol=0)  # near 0, as in 300 inputs
    off = ~torch.eye(5, dtype=torch.bool)
    assert float(independent[off].abs().max()) < 0.04


def test_inputs_that_do_not_vary_now_get_noise_of_their_own():
    found = noise([0.5] * 5, inputs=strokes())
    assert float(found[1::2, 4].std()) > 0.1
    assert float(correlation(found[1::2])[4, :4].abs().max()) < 0.04


def test_inputs_that_hardly_vary_count_as_such_that_do_not():
    # A ten thousandth of what others vary by is rounding.
    inputs = strokes()
    inputs[:, 4] = 0.5 + 1e-4 * (inputs[:, 0] - 0.5)
    assert abs(float(correlation(noise([0.5] * 5, inputs=inputs)[1::2])[4, 0])) < 0.04


@pytest.mark.parametrize("value", [0.5, 0.3], ids=["exact", "rounded"])  # ten times 0.3 is not 3 in float32
def test_where_no_input_varies_now_all_get_noise_of_their_own(value):
    found = noise([0.8] * 5, inputs=torch.full((10, 5), value))
    assert found.isfinite().all()
    close(found.mean(0), [0.4] * 5)


@pytest.mark.parametrize("inputs", [None, strokes(1), strokes(0)], ids=["none", "one", "empty"])
def test_without_inputs_to_correlate_all_vectors_are_independent(inputs):
    found = noise([0.8] * 5, inputs=inputs)
    assert torch.equal(found, noise([0.8] * 5))
    off = ~torch.eye(5, dtype=torch.bool)
    assert float(correlation(found)[off].abs().max()) < 0.04


TWO = torch.tensor([[0.2, 0.2, 0.8], [0.8, 0.8, 0.2]])  # a standard deviation of sqrt(0.3^2 + 0.3^2) = 0.424


def test_two_inputs_are_enough_to_tell_what_rises_and_falls_together():
    # Means of half the range again.
    correlated = correlation(noise([0.4 + BELOW * 0.18**0.5] * 3, inputs=TWO)[1::2])
    assert float(correlated[0, 1]) == pytest.approx(1.0)
    assert float(correlated[0, 2]) == pytest.approx(-1.0, abs=0.01)


def test_two_inputs_are_enough_for_the_mean():
    found = noise([0.5] * 3, inputs=TWO)
    for half in (found[::2], found[1::2]):
        close(half.mean(0), [0.5 - min(0.25, BELOW * 0.18**0.5)] * 3)


def test_only_the_last_inputs_count():
    others = torch.rand(50, 5, generator=torch.Generator().manual_seed(3))
    both = torch.cat([others, strokes()])
    assert torch.equal(noise([0.5] * 5, inputs=both, n=9), noise([0.5] * 5, inputs=strokes(), n=9))
    assert not torch.equal(noise([0.5] * 5, inputs=others, n=9), noise([0.5] * 5, inputs=strokes(), n=9))


# -- what it is drawn from ---------------------------------------------------------------------------------------------


def test_noise_depends_on_its_generator_alone():
    torch.manual_seed(1)
    first = noise([0.5] * 5, inputs=strokes(), n=N_NOISE)
    torch.manual_seed(2)
    states = global_states()
    assert torch.equal(first, noise([0.5] * 5, inputs=strokes(), n=N_NOISE))
    assert global_states() == states
    assert not torch.equal(first, noise([0.5] * 5, inputs=strokes(), n=N_NOISE, seed=1))


def test_a_generator_goes_on_from_where_it_is():
    generator = np.random.default_rng(0)
    first, second = (draw_noise(np.full(5, 0.5), generator=generator, inputs=strokes()) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_so_many_vectors_are_drawn_as_are_asked_for(n):
    assert noise([0.5] * 5, inputs=strokes(), n=n).shape == (n, 5)
    assert draw_noise(np.full(5, 0.5), generator=np.random.default_rng(0)).shape == (N_NOISE, 5)


def test_inputs_are_left_as_they_are():
    inputs, mean = strokes(), np.full(5, 0.5)
    draw_noise(mean, generator=np.random.default_rng(0), inputs=inputs)
    assert torch.equal(inputs, strokes())
    assert (mean == 0.5).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_inputs_may_be_of_every_float_type(dtype):
    found = noise([0.5] * 5, inputs=strokes().to(dtype), n=9)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, noise([0.5] * 5, inputs=strokes(), n=9), atol=0.03, rtol=0)


# -- shares of it ------------------------------------------------------------------------------------------------------


def head_and_state(weight, bias=None):
    """A head of one layer with these weights."""
    w = torch.tensor(weight, dtype=torch.float64)
    layer = nn.Linear(w.shape[1], w.shape[0], bias=bias is not None)
    head = find_head(layer, head="")
    return head, HeadState((w,), (None if bias is None else torch.tensor(bias, dtype=torch.float64),))


FOUR = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)


def test_share_is_the_fraction_of_noise_that_new_classes_win():
    # Output i is input i: two vectors are won by class 0, one by class 1, one by class 2.
    head, state = head_and_state([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert share_of(Probe(head, FOUR).logits(state), seen=(0, 1, 2), new=(2,)) == 0.25
    assert share_of(Probe(head, FOUR).logits(state), seen=(0, 1, 2), new=(0,)) == 0.5
    assert share_of(Probe(head, FOUR).logits(state), seen=(0, 1, 2), new=(1, 2)) == 0.5


def test_outputs_of_classes_never_seen_do_not_count():
    # Output 1 would win everything, but was never trained.
    head, state = head_and_state([[1.0, 0, 0], [9, 9, 9], [0, 0.5, 2]])
    assert share_of(Probe(head, FOUR).logits(state), seen=(0, 2), new=(2,)) == 0.5


def test_share_takes_biases_into_account():
    head, state = head_and_state([[1.0, 0, 0], [0, 1, 0]], bias=[0.0, 5.0])
    assert share_of(Probe(head, FOUR).logits(state), seen=(0, 1), new=(1,)) == 1.0
