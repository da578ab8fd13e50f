"""Networks small enough to check on paper; the arithmetic stands in the comments."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from src_plugin.kernel import BACKENDS, gate, simulate

pytestmark = pytest.mark.parametrize("backend", BACKENDS)

ON, OFF = True, False


def run(weights, spikes, *, backend, thresholds, **changes):
    layers = [np.array(w) for w in weights]
    arguments = {"scales": [1.0] * len(layers), "inc": 0.02, "dec": 0.01, "decay": 1.0} | changes
    return simulate(layers, np.array(spikes), thresholds=thresholds, backend=backend, **arguments)


def test_positive_weight_is_kept_and_silent_negative_one_falls(backend):
    # v = 0.5 >= 0.4, fires. gate(0.5) = 0 and gate(-0.2) = 2, so w = [0.5 + 0.02 * 0, -0.2 - 0.01 * 2].
    out = run([[[0.5, -0.2]]], [[ON, OFF]], thresholds=[0.4], backend=backend)
    assert_allclose(out.weights[0], [[0.5, -0.22]], rtol=0, atol=1e-15)
    assert_array_equal(out.potentiations, [1])
    assert_array_equal(out.depressions, [1])


def test_weights_near_zero_move_by_the_gate(backend):
    # v = 2 * 0.25 fires. w = 0: gate 1, depressed by 0.01. w = 0.001: gate 2 / (1 + e) = 0.5378828427399902.
    out = run([[[0.25, 0.25, 0.0, 0.001]]], [[ON, ON, OFF, ON]], thresholds=[0.5], backend=backend)
    assert_allclose(out.weights[0], [[0.25, 0.25, -0.01, 0.001 + 0.02 * 0.5378828427399902]], rtol=0, atol=1e-15)


def test_without_a_gate_every_weight_moves_by_the_step(backend):
    out = run([[[0.5, -0.2, 0.3]]], [[ON, OFF, ON]], thresholds=[0.75], gate_width=None, backend=backend)
    assert_allclose(out.weights[0], [[0.52, -0.21, 0.32]], rtol=0, atol=1e-15)


def test_without_a_gate_a_lost_step_is_missed_by_the_next_impulse(backend):
    # Step 1: v = 1 fires, w = [1 + 1/4, 1/2 - 1/8, 1/4 - 1/8]. Step 2: v = 3/8 + 1/8 = 1/2 (3/4 would have fired).
    # Step 3: v = 1/2 + 1/8. Step 4: v = 3/4 fires, w = [5/4 - 1/8, 3/8 - 1/8, 1/8 + 1/4].
    out = run(
        [[[1.0, 0.5, 0.25]]],
        [[ON, OFF, OFF], [OFF, ON, ON], [OFF, OFF, ON], [OFF, OFF, ON]],
        thresholds=[0.75],
        inc=0.25,
        dec=0.125,
        gate_width=None,
        backend=backend,
    )
    assert_array_equal(out.weights[0], [[1.125, 0.25, 0.375]])
    assert_array_equal(out.spike_counts[1], [2])
    assert_array_equal(out.potentials[0], [0.0])


def test_potentiation_turns_a_weak_inhibitory_weight_positive_then_it_is_frozen(backend):
    # Input 0 alone makes the unit fire in both steps. Step 1: gate(-0.03) = 2, -0.03 + 0.02 * 2 = 0.01.
    # Step 2: gate(0.01) = 2 / (1 + e^10) = 9.08e-5, + 0.02 * 9.08e-5 = 1.816e-6.
    out = run([[[1.0, -0.03]]], [[ON, ON], [ON, ON]], thresholds=[0.5], backend=backend)
    assert_allclose(out.weights[0], [[1.0, 0.01 + 0.02 * 2 / (1 + np.exp(10.0))]], rtol=0, atol=1e-14)


def test_a_tie_at_the_threshold_fires_and_resets(backend):
    # 0.25 + 0.25 = 0.5 exactly, at the second step; v was 0.25 at the first. The third leaves 0.25 again.
    out = run([[[0.25]]], [[ON], [ON], [ON]], thresholds=[0.5], backend=backend)
    assert_array_equal(out.spike_counts[1], [1])
    assert_array_equal(out.potentials[0], [0.25])


def test_threshold_zero_fires_in_silence(backend):
    # 10 units, 20 steps: 200 spikes; every one depresses its 3 inputs: 600 events. gate(-0.5) = 2, so each weight
    # ends at -0.5 - 20 * 0.01 * 2 = -0.9.
    out = run([np.full((10, 3), -0.5)], np.zeros((20, 3), dtype=bool), thresholds=[0.0], backend=backend)
    assert out.spike_counts[1].sum() == 200
    assert_array_equal(out.depressions, [600])
    assert_array_equal(out.potentiations, [0])
    assert_allclose(out.weights[0], np.full((10, 3), -0.9), rtol=0, atol=1e-14)


def test_a_spike_crosses_all_layers_in_one_step(backend):
    # Each layer passes the spike of the same step on: 1 >= 0.5 three times over, in a single step.
    out = run([[[1.0]], [[1.0]], [[1.0]]], [[ON]], thresholds=[0.5] * 3, backend=backend)
    assert_array_equal(np.concatenate(out.spike_counts), [1, 1, 1, 1])
    assert_array_equal(out.potentials, np.zeros((3, 1)))


def test_potential_leaks_and_the_scale_multiplies_the_impulse(backend):
    # v: 3 * 0.5 = 1.5, then 0.5 * 1.5 = 0.75, then 0.375 + 1.5 = 1.875 < 2. No spike, no change.
    out = run([[[0.5]]], [[ON], [OFF], [ON]], thresholds=[2.0], scales=[3.0], decay=0.5, backend=backend)
    assert_array_equal(out.potentials[0], [1.875])
    assert_array_equal(out.weights[0], [[0.5]])


def test_inhibition_takes_a_share_of_the_mean_impulse(backend):
    # Impulses 2 * [1.0, 0.5, 0.0] = [2, 1, 0], mean 1; half of it goes: [1.5, 0.5, -0.5]. Only unit 0 reaches 1.
    out = run([[[1.0], [0.5], [0.0]]], [[ON]], thresholds=[1.0], scales=[2.0], inhibition=0.5, backend=backend)
    assert_array_equal(out.spike_counts[1], [1, 0, 0])
    assert_array_equal(out.potentials[0], [0.0, 0.5, -0.5])


def test_steps_may_differ_by_layer(backend):
    # Layer 0: 1 + 0.5 = 1.5 (ungated). Layer 1: 1 + 0.25 = 1.25.
    out = run([[[1.0]], [[1.0]]], [[ON]], thresholds=[1.0] * 2, inc=[0.5, 0.25], gate_width=None, backend=backend)
    assert_array_equal(np.concatenate(out.weights), [[1.5], [1.25]])


@pytest.mark.parametrize(("weight", "expected"), [(-0.1, 2.0), (0.0, 1.0), (0.1, 0.0), (0.001, 0.5378828427399902)])
def test_every_backend_uses_the_gate_of_plasticity(backend, weight, expected):
    # Input 0 makes the unit fire, input 1 is silent: its weight falls by 1 * gate. expected = 2 / (1 + e^(w / 0.001)).
    assert_allclose(gate(np.array(weight), 0.001), expected, rtol=0, atol=1e-14)
    out = run([[[1.0, weight]]], [[ON, OFF]], thresholds=[0.5], dec=1.0, backend=backend)
    assert_allclose(out.weights[0][0, 1], weight - expected, rtol=0, atol=1e-14)
