"""Gains, thresholds and step sizes: by hand, and against what the authors' own code computed."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from models import mlp
from places import GOLDEN
from src_plugin.config import Simulation, SleepConfig, by_depth
from src_plugin.errors import ConfigError, WeightsError
from src_plugin.head.find import find_head
from src_plugin.kernel import simulate
from src_plugin.kernel.firing import count_spikes, fire, peak, sum_weights
from src_plugin.night.calibrate import calibrate, measure_thresholds, norm_constants, per_layer
from src_plugin.night.stimulus import draw_spikes

RATES = (0.03, 0.02, 0.05)


def rng(seed=0):
    return np.random.default_rng(seed)


def calibrated(model, config, *, example=None, inputs=None, probability=None, n_steps=100, strength=1.0):
    head = find_head(model, torch.ones(1, model[0].in_features, dtype=model[0].weight.dtype))
    n_inputs = head.sizes[0]
    return calibrate(
        head,
        head.read(),
        np.full(n_inputs, 0.3) if probability is None else probability,
        config,
        n_steps=n_steps,
        strength=strength,
        generator=rng(),
        inputs=inputs,
    )


# -- data-based gains --------------------------------------------------------------------------------------------------


def test_norms_follow_the_recursion_of_the_authors():
    # s = [2, 3, 5]; q_1 = 2, q_2 = 3/2, q_3 = 5/(3/2) = 10/3.
    assert_allclose(norm_constants([2.0, 1.0, 5.0], [0.5, 3.0, 1.0]), [1 / 2, 2 / 3, 3 / 10], rtol=1e-15)


def test_norms_differ_from_diehl_from_the_third_layer_on():
    # The usual factors are s_l / s_{l-1}: 2, 3/2, 5/3; the recursion has 10/3 in the third place.
    ours = norm_constants([2.0, 3.0, 5.0], [0.0, 0.0, 0.0])
    usual = 1 / np.array([2.0, 3.0 / 2.0, 5.0 / 3.0])
    assert_allclose(ours[:2], usual[:2], rtol=1e-15)
    assert ours[2] == pytest.approx(usual[2] / 2)


def test_a_layer_without_anything_positive_has_no_gain():
    with pytest.raises(WeightsError, match=r"layer 1 of the head.*train it first, or use normalise=False"):
        norm_constants([1.0, -0.5, 1.0], [1.0, 0.0, 1.0])


class PlainDropout(nn.Dropout):
    """Dropout of the authors: mask in training, times (1 - p) at test."""

    def forward(self, x):
        return x * torch.rand_like(x).ge(self.p) if self.training else x * (1 - self.p)


OUTPUTS = {"relu": nn.ReLU, "softmax": lambda: nn.Softmax(dim=1)}


class Golden:
    """One archive, the network it was recorded from, and the settings of its sleep."""

    def __init__(self, name):
        with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as archive:
            self.fields = dict(archive)
        g = self.fields
        self.weights = [g[f"w_init_{i}"] for i in range(len(g["sizes"]) - 1)]
        layers = []
        for w in self.weights:
            linear = nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=torch.float64)
            linear.weight = nn.Parameter(torch.from_numpy(w.copy()))
            layers += [linear, nn.ReLU(), PlainDropout(float(g["dropout"]))]
        model = nn.Sequential(*layers[:-2], OUTPUTS[str(g["output_activation"])]())
        self.data = torch.from_numpy(g["data"])
        self.head = find_head(model, self.data[:2])
        self.config = SleepConfig.preset(
            "src_only",
            normalise=True,
            gain=float(g["alpha_scale"]),
            thresholds=[float(t) for t in g["threshold"] * g["beta"]],
            inc=float(g["inc"]),
            dec=float(g["dec"]),
            gate_width=float(g["gate_width"]),
            decay=float(g["decay"]),
        ).simulation

    def rule(self, data=None):
        return calibrate(
            self.head,
            self.head.read(),
            np.full(self.head.sizes[0], 0.3),
            self.config,
            n_steps=int(self.fields["n_steps"]),
            strength=1.0,
            generator=rng(),
            inputs=self.data if data is None else data,
        )


golden = pytest.mark.parametrize("golden", [Golden("mlp_paper_scales"), Golden("single_layer")], ids=["mlp", "single"])


@golden
def test_largest_weights_and_activations_are_the_recorded_ones(golden):
    # Hidden activations count after the test-time factor (1 - p), the last ones after the output non-linearity.
    state = golden.head.read()
    assert_allclose([float(w.max()) for w in state.weights], golden.fields["weight_max"], rtol=0, atol=1e-12)
    largest = [float(a.max()) for a in golden.head.activations(state, golden.data)]
    assert_allclose(largest, golden.fields["activation_max"], rtol=0, atol=1e-12)


@golden
def test_norm_constants_are_the_recorded_ones(golden):
    g = golden.fields
    assert_allclose(norm_constants(g["weight_max"], g["activation_max"]), g["norm_constants"], rtol=0, atol=1e-12)


@golden
def test_gains_from_the_network_and_its_data_are_the_recorded_alpha(golden):
    assert_allclose(golden.rule().scales, golden.fields["alpha"], rtol=0, atol=1e-12)


@golden
def test_gains_are_the_same_from_data_in_many_chunks(golden):
    # More rows than are passed through the head at once; the largest activation sits in the last of them.
    quiet = torch.zeros(5000, golden.head.sizes[0], dtype=torch.float64)
    assert_allclose(golden.rule(torch.cat([quiet, golden.data])).scales, golden.fields["alpha"], rtol=0, atol=1e-12)


@golden
def test_the_whole_chain_from_data_to_slept_weights_is_the_recorded_one(golden):
    rule = golden.rule()
    trace = simulate(
        golden.weights,
        golden.fields["input_spikes"],
        scales=rule.scales,
        thresholds=rule.thresholds,
        inc=rule.inc,
        dec=rule.dec,
        decay=golden.config.decay,
        gate_width=golden.config.gate_width,
    )
    for layer, w in enumerate(trace.weights):
        assert_allclose(w, golden.fields[f"w_final_{layer}"], rtol=0, atol=1e-12)
        assert_array_equal(trace.spike_counts[layer + 1], golden.fields[f"spike_count_{layer + 1}"])


def test_data_based_gains_need_data():
    config = Simulation(normalise=True)
    for inputs in (None, torch.zeros(0, 6)):
        with pytest.raises(ConfigError, match=r"normalise=True.*sleep\(\.\.\., inputs=x\)"):
            calibrated(mlp(6, 4), config, inputs=inputs)


def test_a_dead_layer_is_refused_when_gains_are_measured():
    model = mlp(6, 5, 4)
    with torch.no_grad():
        model[0].weight.abs_().neg_()
        model[0].bias.fill_(-1.0)
    with pytest.raises(WeightsError, match="layer 0 of the head has no positive weight and no positive activation"):
        calibrated(model, Simulation(normalise=True), inputs=torch.ones(3, 6))


def test_gains_do_not_depend_on_the_type_of_the_data():
    model, x = mlp(6, 5, 4), torch.randint(0, 255, (20, 6), generator=torch.Generator().manual_seed(0))
    config = Simulation(normalise=True, thresholds=(1.0, 1.0))
    scales = calibrated(model, config, inputs=x.float()).scales
    assert_allclose(calibrated(model, config, inputs=x.to(torch.uint8)).scales, scales, rtol=1e-5)


def test_without_normalise_every_layer_has_the_common_gain():
    assert calibrated(mlp(6, 5, 4), Simulation(gain=2.5)).scales == (2.5, 2.5)


# -- thresholds --------------------------------------------------------------------------------------------------------

TARGETS = {
    "plain": {},
    "no leak": {"decay": 1.0},
    "strong leak": {"decay": 0.5},
    "patches": {"patch": 4},
    "inhibition": {"inhibition": 0.9},
}


@pytest.mark.parametrize(
    "changes",
    TARGETS.values(),
    ids=TARGETS,
)
def test_measured_thresholds_make_layers_fire_at_their_target_rates(changes):
    config = Simulation(target_rates=RATES, **changes)
    weights = [p.detach().double().numpy() for p in mlp(64, 50, 40, 30, bias=False).parameters()]
    p = np.full(64, 0.3)
    scales = (1.0, 0.5, 2.0)
    thresholds = measure_thresholds(weights, p, scales=scales, rates=RATES, config=config, generator=rng(3))
    # The same stimulus again, through the kernel and without plasticity.
    spikes = draw_spikes(p, n_steps=250, generator=rng(3), patch=config.patch)
    trace = simulate(
        weights, spikes, scales=scales, thresholds=thresholds, inc=0.0, dec=0.0, decay=config.decay,
        inhibition=config.inhibition,
    )  # fmt: skip
    assert all(t > 0 for t in thresholds)
    assert_allclose([c.mean() / 250 for c in trace.spike_counts[1:]], RATES, rtol=0.05)


def fire_slowly(impulses, threshold, decay):
    """Spikes of leaky units with reset, and the highest potential that was reached: unit by unit and step by step."""
    spikes, highest = np.zeros(impulses.shape, dtype=bool), 0.0
    for unit in range(impulses.shape[1]):
        v = 0.0
        for step in range(len(impulses)):
            v = decay * v + float(impulses[step, unit])
            highest = max(highest, v)
            if v >= threshold:
                spikes[step, unit], v = True, 0.0
    return spikes, highest


def measure_slowly(weights, probability, *, scales, rates, config, generator):
    """What `measure_thresholds` says it does, in plain Python."""
    spikes, thresholds = draw_spikes(probability, n_steps=250, generator=generator, patch=config.patch), []
    for w, scale, rate in zip(weights, scales, rates, strict=True):
        impulses = scale * (spikes.astype(w.dtype) @ w.T)
        impulses -= config.inhibition * impulses.mean(axis=1, keepdims=True)
        low, high = 0.0, max(fire_slowly(impulses, np.inf, config.decay)[1], np.finfo(np.float64).tiny)
        for _ in range(30):
            middle = 0.5 * (low + high)
            too_often = fire_slowly(impulses, middle, config.decay)[0].mean() > rate
            low, high = (middle, high) if too_often else (low, middle)
        thresholds.append(max(high, 1e-6 * float(np.abs(impulses).mean()) or 1.0))
        spikes = fire_slowly(impulses, thresholds[-1], config.decay)[0]
    return thresholds


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])  # sums in another order
@pytest.mark.parametrize("changes", TARGETS.values(), ids=TARGETS)
def test_measured_thresholds_are_those_of_a_plain_loop(changes, dtype, rtol):
    weights = [p.detach().numpy() for p in mlp(16, 9, 1, 5, bias=False, dtype=dtype).parameters()]
    weights[2][0] = -1.0  # a unit that nothing excites
    settings = {"scales": (1.0, 0.5, 2.0), "rates": RATES, "config": Simulation(**changes)}
    thresholds = measure_thresholds(weights, np.full(16, 0.3), **settings, generator=rng(3))
    assert_allclose(thresholds, measure_slowly(weights, np.full(16, 0.3), **settings, generator=rng(3)), rtol=rtol)


@pytest.mark.parametrize("n_spiking", [0, 1, 3, 4, 7, 9])
def test_impulses_are_the_weights_of_the_inputs_that_spike(n_spiking):
    w = np.arange(18.0).reshape(9, 2)
    spikes = np.zeros((2, 9), dtype=bool)
    spikes[1, :n_spiking] = True
    assert_array_equal(sum_weights(spikes, w), [[0.0, 0.0], w[:n_spiking].sum(axis=0)])


def test_a_unit_fires_at_its_threshold_and_begins_again_at_rest():
    # v = 1; 0.5 + 1 = 1.5, fires; 1; 0.5 + 1 = 1.5, fires; 0; -1; -0.5 + 1 = 0.5. Without firing: 1.75 in step 3.
    impulses = np.array([[1.0], [1.0], [1.0], [1.0], [0.0], [-1.0], [1.0]])
    assert_array_equal(fire(impulses, 1.5, 0.5)[:, 0], [False, True, False, True, False, False, False])
    assert count_spikes(impulses, 1.5, 0.5) == 2
    assert peak(impulses, 0.5) == 1.875  # 1, 1.5, 1.75, 1.875
    assert peak(-np.ones((3, 2)), 0.5) == 0.0  # never above rest


def test_thresholds_of_a_layer_that_nothing_excites_let_it_stay_silent():
    weights = [np.full((3, 5), -1.0), np.ones((2, 3))]
    thresholds = measure_thresholds(
        weights, np.full(5, 0.5), scales=(1.0, 1.0), rates=(0.02, 0.02), config=Simulation(), generator=rng()
    )
    assert all(t > 0 for t in thresholds)
    trace = simulate(weights, np.ones((10, 5), dtype=bool), scales=(1, 1), thresholds=thresholds, inc=0, dec=0)
    assert trace.spike_counts[1].sum() == trace.spike_counts[2].sum() == 0


def test_given_thresholds_are_used_as_they_are_and_draw_no_noise():
    generator = rng()
    state = generator.bit_generator.state
    head = find_head(mlp(6, 5, 4), torch.ones(1, 6))
    rule = calibrate(
        head, head.read(), np.ones(6), Simulation(thresholds=(0.0, 7.0)), n_steps=9, strength=1.0, generator=generator
    )
    assert rule.thresholds == (0.0, 7.0)
    assert generator.bit_generator.state == state


# -- step sizes --------------------------------------------------------------------------------------------------------


def test_measured_steps_follow_the_spread_of_the_weights():
    # depression * std(W) * strength / (steps * rate): 0.4 * 0.5 * 2 / (100 * 0.02) = 0.2 in the output layer.
    model = mlp(2, 2, bias=False)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.5, -0.5], [-0.5, 0.5]]))
    config = Simulation(
        thresholds=(1.0,), target_rates=(0.5, 0.5, 0.02), depression=(9, 9, 0.4), potentiation=(9, 9, 0.1)
    )
    rule = calibrated(model, config, n_steps=100, strength=2.0)
    assert_allclose(rule.dec, [0.2])
    assert_allclose(rule.inc, [0.05])


def test_given_steps_are_used_as_they_are_whatever_the_strength():
    rule = calibrated(mlp(6, 5, 4), Simulation(inc=0.1, dec=(0.2, 0.3)), strength=0.01)
    assert rule.inc == (0.1, 0.1)
    assert rule.dec == (0.2, 0.3)


def test_a_head_of_one_layer_is_an_output_layer_and_longer_ones_repeat_the_middle():
    assert by_depth((1.0, 2.0, 3.0), 1) == (3.0,)
    assert by_depth((1.0, 2.0, 3.0), 2) == (1.0, 3.0)
    assert by_depth((1.0, 2.0, 3.0), 5) == (1.0, 2.0, 2.0, 2.0, 3.0)


@pytest.mark.parametrize("name", ["thresholds", "inc", "dec"])
@pytest.mark.parametrize("numbers", [(1.0,), (1.0, 2.0, 3.0)])
def test_numbers_that_are_not_one_per_layer_are_refused(name, numbers):
    with pytest.raises(ConfigError, match=f"{name} has {len(numbers)} numbers, but the head has 2 layers; .*or None"):
        calibrated(mlp(6, 5, 4), Simulation(**{name: numbers}))


def test_one_number_stands_for_all_layers():
    assert per_layer(2, 3, "inc") == (2.0, 2.0, 2.0)
