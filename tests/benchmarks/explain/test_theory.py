"""The formulas of a simulated sleep: by hand on tiny networks, and beside simulations."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from benchmarks.explain.layers import describe_layers
from benchmarks.explain.predicting import predict
from benchmarks.explain.theory import exponents, fall_per_spike, firing_rate, mean_field, passed_on, removed
from models import mlp
from src_plugin.config import Simulation
from src_plugin.head.find import find_head
from src_plugin.head.state import HeadState
from src_plugin.kernel import simulate
from src_plugin.night.closed_form import fractions_of_steps, inhibit
from src_plugin.night.replay import replay
from src_plugin.night.stimulus import spike_probability
from src_plugin.waking.classes import Classes
from src_plugin.waking.summary import TrainingSummary

LOG2 = float(np.log(2.0))


def test_a_spike_lowers_an_answer_by_silent_inputs_and_raises_it_by_others():
    # sum p = 0.75, sum p^2 = 0.3125: 0.2 * 0.75 - (0.1 + 0.2) * 0.3125 = 0.05625
    assert fall_per_spike(np.array([0.5, 0.25]), inc=0.1, dec=0.2) == pytest.approx(0.05625)
    # all inputs spike in every step: sum p = sum p^2 = 2, so -0.1 * 2
    assert fall_per_spike(np.ones(2), inc=0.1, dec=0.2) == pytest.approx(-0.2)


def test_what_a_layer_passes_on_has_its_rate_as_mean():
    # answers relu(0.5, -0.5, 1) have the mean 0.5, so they become 0.1 * (1, 0, 2)
    weight = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 1.0]])
    spikes = passed_on([weight, np.ones((1, 3))], np.array([0.5, 0.5]), [0.1, 0.1])
    assert_allclose(spikes[1], [0.1, 0.0, 0.2])


def test_an_exponent_counts_the_spikes_and_what_each_takes():
    # mean answer of relu(1 * 0.5, -1 * 0.5) is 0.25; 100 steps * 0.01 * (0.1 * 0.5 - 0.1 * 0.25) / 0.25 = 0.1
    found = exponents([np.array([[1.0], [-1.0]])], np.array([0.5]), rates=[0.01], inc=[0.0], dec=[0.1], n_steps=100)
    assert found == pytest.approx([0.1])
    silent = exponents([-np.ones((2, 1))], np.array([0.5]), rates=[0.01], inc=[0.0], dec=[0.1], n_steps=100)
    assert silent == [0.0]


def test_later_layers_lose_less_since_those_below_fall_silent():
    # half is gone of the first; the second had exp(-(1) * 0.5) left of its answers, not exp(-ln 2)
    first, second = removed([LOG2, LOG2])
    assert first == pytest.approx(0.5)
    assert second == pytest.approx(1.0 - np.exp(-0.5))
    # a layer that does not change below leaves the next one its whole time
    assert removed([0.0, LOG2]) == pytest.approx([0.0, 0.5])
    # and one that is excited more and more gives it more: f = -1, so exp(-1 / -ln 2 * ... ) with exponent -ln 2
    assert removed([-LOG2, LOG2]) == pytest.approx([-1.0, 1.0 - np.exp(-1.0)])


def test_a_leak_silences_units_with_a_weak_drive():
    # leak 0.5, threshold 1.5: a drive of 1 gives 1, 1.5 and fires, every 2nd step; 0.75 comes near 1.5 and never there
    assert_allclose(firing_rate(np.array([1.0, 0.75, -1.0, 2.0]), threshold=1.5, decay=0.5), [0.5, 0.0, 0.0, 1.0])
    assert_allclose(firing_rate(np.array([0.3, -0.3]), threshold=1.5, decay=1.0), [0.2, 0.0])


def test_the_mean_field_of_one_part_is_the_rule_on_average():
    # drive 0.8 * 0.5 = 0.4, rate 0.4 / 2 = 0.2; 10 steps: 10 * 0.2 * (0.3 * 0.5 - 0.2) = -0.1
    arguments = {"thresholds": [2.0], "inc": [0.1], "dec": [0.2], "n_steps": 10, "parts": 1}
    (now,) = mean_field([np.array([[0.8], [-0.8]])], np.array([0.5]), **arguments)
    assert_allclose(now, [[0.7], [-0.8]])


def test_many_small_parts_come_to_the_formula():
    rng = np.random.default_rng(0)
    weights, p = [rng.uniform(0.1, 1.0, (5, 8)), rng.uniform(0.1, 1.0, (4, 5))], rng.uniform(0.0, 0.1, 8)
    steps = {"inc": [0.002, 0.002], "dec": [0.003, 0.004], "n_steps": 400}
    answer = weights[0] @ p
    rates = [answer.mean() / 2.0, (weights[1] @ (answer / 2.0)).mean() / 3.0]
    now = mean_field(weights, p, thresholds=[2.0, 3.0], parts=4000, **steps)
    state = [HeadState(tuple(map(torch.from_numpy, w)), (None, None)) for w in (weights, now)]
    measured = [layer.fraction for layer in describe_layers(*state, torch.from_numpy(p))]
    expected = removed(exponents(weights, p, rates=rates, **steps))
    assert measured[0] == pytest.approx(expected[0], abs=1e-3)
    # the square of p falls with it, which the formula leaves out: a few percent here
    assert measured[1] == pytest.approx(expected[1], rel=0.05)


def test_inhibit_is_a_long_simulation_with_small_steps():
    """A positive network of one layer, no leak, 2,000 spikes a unit: 1 % is left to chance, and 2 % are allowed."""
    rng = np.random.default_rng(1)
    weight, p = rng.uniform(0.2, 1.0, (6, 40)), np.full(40, 0.05)
    n_steps, threshold, dec = 60_000, 20.0, 2e-4
    spikes = rng.random((n_steps, 40)) < p
    rule = {"scales": [1.0], "thresholds": [threshold], "inc": 0.0, "dec": dec, "decay": 1.0, "gate_width": None}
    trace = simulate([weight], spikes, **rule)
    fall = weight - trace.weights[0]

    # k T = T dec (sum(p) - sum(p^2)) / threshold, with what a spike overshoots by on average added to the threshold
    overshoot = 0.5 * np.mean((weight @ p) + np.square(weight) @ (p * (1 - p)) / (weight @ p))
    exponent = n_steps * fall_per_spike(p, inc=0.0, dec=dec) / (threshold + overshoot)
    state = HeadState((torch.from_numpy(weight),), (None,))
    removal = exponent * float(np.mean(weight @ p)) / (float(torch.from_numpy(weight).std()) * float(p.sum()))
    fractions = fractions_of_steps(state, torch.from_numpy(p), [removal])
    inhibited = inhibit(state, torch.from_numpy(p), fractions)
    expected = weight - inhibited.state.weights[0].numpy()
    assert 0.5 < fractions[0] < 0.9  # far from a straight line
    assert_allclose(fall.mean(1), expected.mean(1), rtol=0.02)
    assert np.std(fall, axis=1).max() < 0.03 * fall.mean(1).min()  # all weights of a unit alike


FEW = (16, 30, 20, 4)


def few_inputs(**changes):
    """Let a head of 16 inputs sleep; all of them have the same mean."""
    head = find_head(mlp(*FEW, bias=False, dtype=torch.float32), head="")
    config = Simulation(steps=800, depth=0.3, **changes)
    mean, trained = np.full(16, 0.5), head.read()
    training = TrainingSummary(mean=mean, classes=Classes(old=(0,)))
    asleep = replay(head, trained, training, config, np.random.default_rng(0))
    slept, rule = asleep.state, asdict(asleep.report)
    p = spike_probability(mean, config)
    first = describe_layers(trained, slept, torch.from_numpy(p))[0]
    formula = predict(trained, p, rule, n_steps=800, config=config)["formula"][0]
    assert first.fraction is not None
    return first, formula


def test_sixteen_inputs_of_which_all_spike_turn_the_sign_of_the_sleep():
    first, formula = few_inputs(input_share=1.0)
    assert first.correlation < -0.9
    assert first.fraction < 0
    assert formula < 0
    assert first.fraction == pytest.approx(formula, rel=0.25)


def test_the_bounded_share_of_inputs_keeps_the_sign():
    first, formula = few_inputs()
    assert first.correlation > 0.9
    assert first.fraction > 0
    assert first.fraction == pytest.approx(formula, rel=0.25)
