"""The input of a sleep: its probabilities by hand, its window by counting, its randomness by state."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from models import global_states
from src_plugin.config import Simulation
from src_plugin.errors import ConfigError, StimulusError
from src_plugin.night import stimulus
from src_plugin.night.stimulus import as_generator, draw_spikes, spike_probability, stimulus_chunks
from src_plugin.waking.mean import check_mean_input


def rng(seed=0):
    return np.random.default_rng(seed)


def test_probability_from_a_rate_has_the_factor_two_of_the_authors_code():
    # 2 * 0.001 s * 200 Hz * x = 0.4 x
    config = Simulation(max_rate=200.0, dt=0.001)
    assert_allclose(spike_probability(np.array([0.0, 0.25, 1.0]), config), [0.0, 0.1, 0.4], rtol=1e-15)


def test_probability_from_a_rate_is_clipped_at_one():
    # 0.4 * 2.5 = 1 is the edge; ResNet features go beyond it.
    config = Simulation(max_rate=200.0, dt=0.001)
    assert_allclose(spike_probability(np.array([2.5, 7.0]), config), [1.0, 1.0], rtol=1e-15)


def test_probability_from_a_number_of_spikes():
    # x / sum(x) = [0, 1/4, 3/4]; times 1.2 spikes = [0, 0.3, 0.9]
    config = Simulation(input_spikes=1.2, input_share=1.0)
    assert_allclose(spike_probability(np.array([0.0, 2.0, 6.0]), config), [0.0, 0.3, 0.9])


def test_probability_from_a_number_of_spikes_is_clipped_at_one():
    # 1.6 * [1/4, 3/4] = [0.4, 1.2]
    assert_allclose(spike_probability(np.array([1.0, 3.0]), Simulation(input_spikes=1.6, input_share=1.0)), [0.4, 1.0])


def test_a_number_of_spikes_is_at_most_a_share_of_the_inputs():
    # A quarter of 8 inputs is 2 spikes, 1/4 each; one spike is below that, 1/8 each. At a rate nobody counts spikes.
    p = {n: spike_probability(np.ones(8), Simulation(input_spikes=n, input_share=0.25)) for n in (32.0, 1.0)}
    assert_allclose(p[32.0], np.full(8, 1 / 4))
    assert_allclose(p[1.0], np.full(8, 1 / 8))
    assert_allclose(spike_probability(np.ones(8), Simulation(max_rate=200.0, input_share=0.25)), np.full(8, 0.4))


def test_probability_from_a_number_of_spikes_does_not_know_the_unit_of_the_input():
    x = np.array([0.1, 0.5, 0.0, 2.0])
    assert_allclose(spike_probability(x, Simulation()), spike_probability(255 * x, Simulation()), rtol=1e-14)


def test_zero_never_fires_and_one_always():
    spikes = draw_spikes(np.array([0.0, 1.0]), n_steps=20_000, generator=rng())
    assert_array_equal(spikes.sum(0), [0, 20_000])


def test_inputs_fire_as_often_as_their_probability_says():
    p = np.array([0.01, 0.2, 0.5, 0.9])
    rates = draw_spikes(p, n_steps=20_000, generator=rng()).mean(0)
    assert_allclose(rates, p, atol=4 * 0.5 / 20_000**0.5)  # four standard deviations of the widest


def test_inputs_and_steps_are_independent():
    spikes = draw_spikes(np.full(3, 0.5), n_steps=20_000, generator=rng()).astype(float)
    same_step = np.corrcoef(spikes.T)[np.triu_indices(3, 1)]
    next_step = [np.corrcoef(spikes[:-1, i], spikes[1:, i])[0, 1] for i in range(3)]
    assert_allclose([*same_step, *next_step], 0.0, atol=4 / 20_000**0.5)


def test_the_shape_is_steps_by_inputs_and_the_type_bool():
    spikes = draw_spikes(np.full(9, 0.5), n_steps=4, generator=rng(), patch=2)
    assert spikes.shape == (4, 9)
    assert spikes.dtype == bool


def test_a_patch_shows_exactly_one_window_of_11_by_11():
    # Every pixel always on: what is seen of an image of ones is the window itself.
    images = draw_spikes(np.ones(784), n_steps=500, generator=rng(), patch=11).reshape(-1, 28, 28)
    for image in images:
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert_array_equal(rows, np.arange(rows[0], rows[0] + 11))
        assert_array_equal(columns, np.arange(columns[0], columns[0] + 11))
        assert image.sum() == 121


def test_within_the_window_inputs_keep_their_probability():
    seen = draw_spikes(np.full(784, 0.3), n_steps=2000, generator=rng(), patch=11).sum(1)
    assert seen.mean() == pytest.approx(0.3 * 121, rel=0.02)


def test_windows_cover_corners_and_centre_as_often_as_the_authors_do():
    # c(i) = min(i + 1, 11, 28 - i) / 18: a corner 1/324, pixel (14, 14) (11/18)^2; the last column counts too.
    n = 12_000
    cover = np.zeros((28, 28))
    for chunk in stimulus_chunks(np.ones(784), n_steps=n, generator=rng(), patch=11):
        cover += chunk.sum(0).reshape(28, 28)
    cover /= n
    corners = [cover[i, j] for i in (0, 27) for j in (0, 27)]
    assert_allclose(corners, 1 / 324, atol=4 * (1 / 324 / n) ** 0.5)
    assert_allclose(cover[14, 14], 0.373, atol=0.018)
    c = np.minimum.reduce([np.arange(1, 29), np.full(28, 11), 28 - np.arange(28)]) / 18
    assert_allclose(cover, np.outer(c, c), atol=0.023)  # five standard deviations of the widest, over 784 pixels


def test_a_patch_as_large_as_the_image_hides_nothing():
    assert draw_spikes(np.ones(9), n_steps=5, generator=rng(), patch=3).all()


@pytest.mark.parametrize(("n_inputs", "patch"), [(2048, 11), (10, 2), (100, 11)])
def test_a_patch_needs_a_square_image_that_holds_it(n_inputs, patch):
    with pytest.raises(ConfigError, match=f"patch={patch} needs a square.*{n_inputs} inputs; use patch=None"):
        draw_spikes(np.ones(n_inputs), n_steps=1, generator=rng(), patch=patch)


def test_chunks_are_one_sequence_cut_up(monkeypatch):
    monkeypatch.setattr(stimulus, "CHUNK", 7)
    chunks = list(stimulus_chunks(np.full(5, 0.4), n_steps=24, generator=rng(3)))
    assert [len(chunk) for chunk in chunks] == [7, 7, 7, 3]
    assert_array_equal(np.concatenate(chunks), draw_spikes(np.full(5, 0.4), n_steps=24, generator=rng(3)))


@pytest.mark.parametrize("patch", [None, 2])
def test_chunks_are_the_same_for_the_same_seed_and_others_for_another(patch):
    def drawn(seed):
        n_steps = stimulus.CHUNK + 10
        return np.concatenate(list(stimulus_chunks(np.full(9, 0.4), n_steps=n_steps, generator=rng(seed), patch=patch)))

    assert_array_equal(drawn(0), drawn(0))
    assert (drawn(0) != drawn(1)).any()


def test_no_steps_yield_no_chunk():
    assert list(stimulus_chunks(np.ones(3), n_steps=0, generator=rng())) == []


@pytest.mark.parametrize("seed", [0, None, "torch", "numpy"])
def test_global_random_states_are_untouched(seed):
    seed = {"torch": torch.Generator().manual_seed(1), "numpy": rng()}.get(seed, seed)
    before = global_states()
    list(stimulus_chunks(np.full(9, 0.4), n_steps=50, generator=as_generator(seed), patch=2))
    assert global_states() == before


def test_a_torch_generator_seeds_the_noise_and_moves_on():
    theirs = torch.Generator().manual_seed(5)
    state = theirs.get_state()
    first, second = as_generator(theirs).random(), as_generator(theirs).random()
    assert not torch.equal(theirs.get_state(), state)
    assert first != second
    theirs.set_state(state)
    assert as_generator(theirs).random() == first


def test_a_numpy_generator_is_used_as_it_is():
    generator = rng()
    assert as_generator(generator) is generator


def test_a_seed_gives_the_same_noise_and_none_fresh_noise():
    assert as_generator(4).random() == as_generator(4).random()
    assert as_generator(None).random() != as_generator(None).random()


REFUSED = {
    "negative": ([0.1, -0.2, 0.3, -0.1], r"negative at 2 of 4 .*input 1, -0.2.*SleepConfig\(\), which needs no sign"),
    "NaN": ([0.1, np.nan], "nan at input 1 .*look for NaN or infinite values in the data"),
    "infinite": ([np.inf, 0.1], "inf at input 0 .*look for NaN or infinite values in the data"),
    "silent": ([0.0, 0.0], "0 everywhere.*given any data"),
    "not a vector": ([[0.1, 0.2]], r"shape \(1, 2\); it must be \(n_inputs,\)"),
}


@pytest.mark.parametrize(("mean", "message"), REFUSED.values(), ids=REFUSED)
def test_a_mean_that_cannot_drive_a_sleep_is_refused_with_the_cure(mean, message):
    with pytest.raises(StimulusError, match=message):
        check_mean_input(np.array(mean), as_rates=True)


def test_a_mean_of_the_wrong_length_is_refused():
    with pytest.raises(StimulusError, match=r"shape \(3,\); it must be \(4,\), the inputs of the head's first layer"):
        check_mean_input(np.ones(3), n_inputs=4)


def test_a_mean_with_zeros_in_it_is_fine():
    check_mean_input(np.array([0.0, 0.5, 0.0]), n_inputs=3)
