"""Binary noise has half the mean of everything seen, and every second vector the correlations of current inputs."""

import numpy as np
import pytest
import torch

from src_plugin.night.binary_noise import N_NOISE, N_SHORT, SHORT, draw_binary_noise, how_many


def drawn(mean, *, inputs=None, hidden=None, n=20_000, seed=0):
    generator = np.random.default_rng(seed)
    return draw_binary_noise(
        np.array(mean), generator=generator, dtype=torch.float32, inputs=inputs, hidden=hidden, n=n
    )


def noise(mean, **settings):
    return drawn(mean, **settings).vectors


def strokes(n=500):
    """Inputs 0 and 1 rise together, input 2 falls as they rise, input 3 goes its own way, input 4 stays."""
    g = torch.Generator().manual_seed(0)
    up, own = torch.rand(n, generator=g), torch.rand(n, generator=g)
    return torch.stack([up, up, 1 - up, own, torch.full((n,), 0.5)], dim=1)


def correlation(x):
    return torch.corrcoef(x.T)


def test_noise_is_zeros_and_ones_with_half_the_mean():
    # 0.5 * [0, 0.4, 2.0, 3.0] = [0, 0.2, 1, 1.5 -> 1]
    found = noise([0.0, 0.4, 2.0, 3.0])
    assert found.dtype == torch.float32
    assert set(found.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(found.mean(0), torch.tensor([0.0, 0.2, 1.0, 1.0]), atol=0.012, rtol=0)


def test_correlated_noise_has_the_same_mean():
    mean = [0.0, 0.4, 2.0, 0.8, 0.6]
    found = noise(mean, inputs=strokes())[::2]
    torch.testing.assert_close(found.mean(0), torch.tensor([0.0, 0.2, 1.0, 0.4, 0.3]), atol=0.02, rtol=0)


def test_every_second_vector_has_the_correlations_of_the_inputs():
    found = noise([0.8] * 5, inputs=strokes())
    correlated, independent = correlation(found[::2]), correlation(found[1::2])
    assert float(correlated[0, 1]) == pytest.approx(1.0)
    # Opposite Gaussians that are "on" below the 40 % quantile are never on together: -p / (1 - p).
    assert float(correlated[0, 2]) == pytest.approx(-0.4 / 0.6, abs=0.02)
    off = ~torch.eye(5, dtype=torch.bool)
    assert float(correlated[3, [0, 1, 2]].abs().max()) < 0.1  # as in 500 inputs: not quite 0
    assert float(correlated[4, :4].abs().max()) < 0.04  # an input that stays says nothing about others
    assert float(independent[off].abs().max()) < 0.04


@pytest.mark.parametrize("inputs", [None, strokes(1), strokes(0)], ids=["none", "one", "empty"])
def test_without_inputs_to_correlate_all_vectors_are_independent(inputs):
    found = noise([0.8] * 5, inputs=inputs)
    assert torch.equal(found, noise([0.8] * 5))
    assert float(correlation(found[::2])[0, 1]) < 0.05


def test_noise_depends_on_its_generator_alone():
    torch.manual_seed(1)
    first = noise([0.5] * 5, inputs=strokes(), n=N_NOISE)
    torch.manual_seed(2)
    assert torch.equal(first, noise([0.5] * 5, inputs=strokes(), n=N_NOISE))
    assert not torch.equal(first, noise([0.5] * 5, inputs=strokes(), n=N_NOISE, seed=1))


def test_inputs_are_left_as_they_are():
    inputs = strokes()
    noise([0.5] * 5, inputs=inputs)
    assert torch.equal(inputs, strokes())


def test_equal_inputs_do_not_make_noise_of_nan():
    found = noise([0.8] * 5, inputs=torch.full((10, 5), 0.3))
    assert float(found[::2].mean()) == pytest.approx(0.4, abs=0.02)


# -- strength ----------------------------------------------------------------------------------------------------------


def variation_of(strength, *, mean=0.4, n=50):
    """Of independent inputs that are 1 with probability p: p (1 - p) / p^2."""
    p = mean * strength
    return n * p * (1 - p) / (n * p * p)


def varying(times, *, mean=0.4, n=50, seed=0):
    """Independent inputs, normal around the mean, whose variance relative to the squared mean is as given."""
    g = torch.Generator().manual_seed(seed)
    return mean + mean * times**0.5 * torch.randn((2000, n), generator=g)


@pytest.mark.parametrize("strength", [0.4, 0.55, 0.8])
def test_the_strength_is_that_at_which_noise_varies_twice_as_much_as_the_inputs(strength):
    inputs = varying(variation_of(strength) / 2)
    found = drawn([0.4] * 50, inputs=inputs, hidden=lambda x: x)
    # Three bisections of 0.35 to 1 leave steps of a factor 1.14; 128 vectors tell the variation to a few percent.
    assert found.strength == pytest.approx(strength, rel=0.12)
    assert float(found.vectors.mean()) == pytest.approx(0.4 * found.strength, abs=0.01)


@pytest.mark.parametrize(("times", "bound"), [(100.0, 0.35), (0.0, 1.0)], ids=["inputs vary wildly", "not at all"])
def test_the_strength_stays_within_its_bounds(times, bound):
    strength = drawn([0.4] * 50, inputs=varying(times), hidden=lambda x: x).strength
    assert strength == pytest.approx(bound, rel=0.07)
    assert 0.35 < strength < 1.0


def test_silent_hidden_units_do_not_break_the_strength():
    found = drawn([0.4] * 50, inputs=varying(1.0), hidden=torch.zeros_like)
    assert 0.35 < found.strength < 1.0


def test_without_inputs_or_hidden_units_the_strength_is_a_half():
    assert drawn([0.4] * 50, hidden=lambda x: x).strength == 0.5
    assert drawn([0.4] * 50, inputs=varying(1.0)).strength == 0.5


def test_less_noise_is_drawn_only_after_a_training_that_is_known_to_be_short():
    assert how_many(SHORT - 1) == N_SHORT < N_NOISE
    assert how_many(SHORT) == how_many(None) == N_NOISE
