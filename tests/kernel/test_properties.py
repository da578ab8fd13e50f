"""What must hold for every backend and network, and what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from nets import NETS
from src_plugin.config import Simulation
from src_plugin.errors import ConfigError, ShapeError, WeightsError
from src_plugin.kernel import BACKENDS, event, firing, load, simulate
from src_plugin.night import calibrate as calibration

backends = pytest.mark.parametrize("backend", BACKENDS)
nets = pytest.mark.parametrize("net", NETS.values(), ids=NETS)

NET = NETS["four layers"]
LONG = replace(  # without a gate, and with more steps than `event` keeps apart what units have lost
    NETS["no gate"],
    n_steps=2 * event.KEPT_APART + 300,
    silent_inputs=2,
    rule={"inc": 2**-9, "dec": 2**-10, "decay": 1.0, "gate_width": None},
)
LAYERS = len(NET.sizes) - 1
STILL = {
    "no stimulus": {"spikes": np.zeros_like(NET.spikes())},
    "no steps": {"spikes": NET.spikes()[:0]},
    "zero rates": {"inc": 0.0, "dec": 0.0},
    "out of reach": {"thresholds": [np.inf] * LAYERS},
    "no gain": {"scales": [0.0] * LAYERS},
}


def run(net=NET, **changes):
    return simulate(**({"weights": net.weights(), "spikes": net.spikes()} | net.arguments() | changes))


def assert_same(trace, other, *, atol=0.0):
    for field in ("weights", "spike_counts", "potentials"):
        for mine, its in zip(getattr(trace, field), getattr(other, field), strict=True):
            assert_allclose(mine, its, rtol=0, atol=atol)


def assert_chunks_join(whole, net, chunks, *, backend="event", rtol=0.0):
    weights, state, counts = net.weights(), None, 0
    for chunk in chunks:
        trace = run(net, backend=backend, weights=weights, spikes=chunk, state=state)
        weights, state = trace.weights, trace.potentials
        counts = counts + np.concatenate(trace.spike_counts)
    assert_array_equal(counts, np.concatenate(whole.spike_counts))
    for mine, its in zip(weights + state, whole.weights + whole.potentials, strict=True):
        assert_allclose(mine, its, rtol=rtol, atol=1e-12)


@backends
@pytest.mark.parametrize("change", STILL.values(), ids=STILL)
def test_weights_stay(backend, change):
    for ours, start in zip(run(backend=backend, **change).weights, NET.weights(), strict=True):
        assert_array_equal(ours, start)


@backends
def test_weights_of_every_layer_move_without_the_change(backend):
    trace = run(backend=backend)
    for ours, start in zip(trace.weights, NET.weights(), strict=True):
        assert np.abs(ours - start).max() > 0.01
    assert (trace.potentiations > 0).all()
    assert (trace.depressions > 0).all()


@backends
def test_units_that_stay_silent_keep_their_weights(backend):
    net = NETS["dead inputs"]
    trace = run(net, backend=backend, scales=[1.0, 1.0])
    silent = [c == 0 for c in trace.spike_counts[1:]]
    assert any(s.any() for s in silent)
    for ours, start, rows in zip(trace.weights, net.weights(), silent, strict=True):
        assert_array_equal(ours[rows], start[rows])


@backends
@pytest.mark.parametrize("layer", range(LAYERS - 1))
def test_permuting_hidden_units_permutes_the_result(backend, layer):
    order = np.random.default_rng(layer).permutation(NET.sizes[layer + 1])
    weights = NET.weights()
    weights[layer] = weights[layer][order]
    weights[layer + 1] = weights[layer + 1][:, order]
    permuted, plain = run(backend=backend, weights=weights), run(backend=backend)
    assert_array_equal(permuted.spike_counts[layer + 1], plain.spike_counts[layer + 1][order])
    assert_allclose(permuted.weights[layer], plain.weights[layer][order], rtol=0, atol=1e-12)
    assert_allclose(permuted.weights[layer + 1], plain.weights[layer + 1][:, order], rtol=0, atol=1e-12)


@backends
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_a_gate_silent_inputs_lose_one_step_per_spike(backend, dtype):
    # Steps and weights are multiples of 2^-10 below 2^3, so that no sum is rounded.
    weights = [np.round(w * 2**10) / 2**10 for w in LONG.weights(dtype)]
    trace = run(LONG, backend=backend, weights=weights)
    spikes, silent = trace.spike_counts[1], slice(0, LONG.silent_inputs)
    assert spikes.max() > event.KEPT_APART
    assert (trace.weights[0][:, silent] == weights[0][:, silent] - LONG.rule["dec"] * spikes[:, None]).all()


@backends
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_a_gate_and_without_potentiation_no_weight_rises(backend, dtype):
    # Not even by rounding; and the weights of an input that is always on stay to the last bit.
    spikes = LONG.spikes()
    spikes[:, -1] = True
    start = LONG.weights(dtype)
    trace = run(LONG, backend=backend, weights=start, spikes=spikes, inc=0.0, dec=1e-5)
    assert (trace.depressions > 0).all()
    assert all((w <= before).all() for w, before in zip(trace.weights, start, strict=True))
    assert_array_equal(trace.weights[0][:, -1], start[0][:, -1])


@pytest.mark.parametrize("split", [1, event.KEPT_APART, event.KEPT_APART + 1])
def test_without_a_gate_chunks_equal_one_run_of_the_reference(split):
    whole = run(LONG, backend="reference")
    assert (whole.depressions > 0).all()
    assert_chunks_join(whole, LONG, np.split(LONG.spikes(), [split]), rtol=1e-12)


def test_without_a_gate_rounding_in_float32_stays_small_however_many_spikes():
    # Every unit fires in every step, so the sums are known: + 0.032 * coincidences - 0.001 * the other steps. Taken
    # from each weight, the depressions round to 6e-4; kept apart to the end, to 1.6e-4.
    rng = np.random.default_rng(0)
    start, spikes = rng.normal(0.0, 0.02, (50, 200)).astype(np.float32), rng.random((20000, 200)) < 0.03
    inc, dec = float(np.float32(0.032)), float(np.float32(0.001))
    numbers = {"scales": [1.0], "thresholds": [-1e30], "inc": inc, "dec": dec, "gate_width": None}
    together = spikes.sum(axis=0)
    exact = start.astype(np.float64) + inc * together - dec * (len(spikes) - together)
    assert_allclose(simulate([start], spikes, **numbers).weights[0], exact, rtol=0, atol=1e-5)


@nets
@backends
def test_chunks_joined_by_state_equal_one_run(backend, net):
    assert_chunks_join(run(net, backend=backend), net, np.array_split(net.spikes(), 3), backend=backend)


@backends
def test_same_input_same_result(backend):
    assert_same(run(backend=backend), run(backend=backend))


@backends
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tensors", [False, True], ids=["numpy", "torch"])
def test_inputs_are_not_modified(backend, dtype, tensors):
    kind = torch.tensor if tensors else np.array
    weights, spikes = [kind(w) for w in NET.weights(dtype)], kind(NET.spikes())
    state = [kind(np.full(len(w), 0.1, dtype=dtype)) for w in weights]
    trace = run(backend=backend, weights=weights, spikes=spikes, state=state)
    for given, start, result in zip(weights, NET.weights(dtype), trace.weights, strict=True):
        assert_array_equal(given, start)
        assert result.dtype == given.dtype
        assert not np.shares_memory(np.asarray(result), np.asarray(given))
    assert_array_equal(spikes, NET.spikes())
    assert all((v == dtype(0.1)).all() for v in state)


@backends
def test_state_is_where_the_sleep_starts(backend):
    # No input, no leak: a unit at 0.5 stays there, one at the threshold of 1 fires and is reset.
    weights, spikes = [np.array([[0.1], [0.1]])], np.zeros((1, 1), dtype=bool)
    numbers = {"scales": [1.0], "thresholds": [1.0], "inc": 0.0, "dec": 0.0, "decay": 1.0}
    trace = simulate(weights, spikes, state=[np.array([0.5, 1.0])], backend=backend, **numbers)
    assert_array_equal(trace.potentials[0], [0.5, 0.0])
    assert_array_equal(trace.spike_counts[1], [0, 1])


def read_only(array):
    array.setflags(write=False)
    return array


LAYOUTS = {
    "read-only": read_only,
    "column-major": np.asfortranarray,
    "every second of a larger one": lambda a: np.repeat(np.repeat(a, 2, axis=0), 2, axis=1)[::2, ::2],
    "reversed view": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
}


@backends
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_any_memory_layout_is_accepted(backend, dtype, layout):
    net = NETS["wide gate"]
    plain = run(net, backend=backend, weights=net.weights(dtype))
    spikes = layout(net.spikes())
    trace = run(net, backend=backend, weights=[layout(w) for w in net.weights(dtype)], spikes=spikes)
    assert_same(trace, plain, atol=1e-12 if dtype == np.float64 else 1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble, torch.float16, torch.bfloat16], ids=str)
def test_reference_takes_any_float_type(dtype):
    net = NETS["wide gate"]
    weights = net.weights()
    given = [torch.tensor(w).to(dtype) for w in weights] if isinstance(dtype, torch.dtype) else net.weights(dtype)
    trace = run(net, weights=given, backend="reference")
    exact = run(net, weights=[np.asarray(w.double() if isinstance(w, torch.Tensor) else w, float) for w in given])
    assert all(w.dtype == dtype for w in trace.weights)
    share = [float(c.sum()) / e.sum() for c, e in zip(trace.spike_counts, exact.spike_counts, strict=True)]
    assert_allclose(share, 1.0, atol=0.1)  # rounding may move a spike


@pytest.mark.parametrize("weight", [-3.0, 3.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@backends
def test_large_weights_saturate_the_gate_without_a_warning(backend, dtype, weight):
    # exp(3 / 0.001) overflows in both types. The unit fires (v = 8 + weight), and the weight moves by 2 or by nothing.
    trace = simulate(
        [np.array([[8.0, weight]], dtype=dtype)],
        np.ones((1, 2), dtype=bool),
        scales=[1.0],
        thresholds=[1.0],
        inc=0.25,
        dec=0.0,
        backend=backend,
    )
    assert trace.weights[0][0, 1] == (3.0 if weight > 0 else -2.5)


def test_event_is_compiled_once_per_float_type():
    for net in NETS.values():
        for dtype in (np.float32, np.float64):
            run(net, weights=net.weights(dtype))
            run(net, weights=[read_only(w) for w in net.weights(dtype)], spikes=read_only(net.spikes()))
    assert len(event._sleep.signatures) == 2


def test_what_is_loaded_beforehand_is_all_that_a_sleep_in_float32_needs():
    def compiled():
        functions = (event._sleep, firing.sum_weights, firing.peak, firing.count_spikes, firing.fire)
        return [sum("float32" in str(signature) for signature in f.signatures) for f in functions]

    load()
    loaded = compiled()
    assert all(loaded)
    w = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    calibration.measure_thresholds(
        [w], np.full(6, 0.3), scales=[1.0], rates=[0.1], config=Simulation(), generator=np.random.default_rng(0)
    )
    run(NETS["one layer"], weights=NETS["one layer"].weights(np.float32))
    assert compiled() == loaded


NAN = [w.copy() for w in NET.weights()]
NAN[2][1, 1] = np.nan
REFUSED = {
    "unknown backend": (ConfigError, "did you mean 'event'", {"backend": "evnt"}),
    "no layers": (ShapeError, "one matrix (n_post, n_pre) per layer", {"weights": []}),
    "matrix instead of a list": (ShapeError, "passed as [w]", {"weights": NET.weights()[0]}),
    "empty layer": (ShapeError, "at least one unit", {"weights": [np.zeros((0, 12))]}),
    "transposed weights": (ShapeError, "transpose", {"weights": [w.T for w in NET.weights()]}),
    "integer weights": (WeightsError, "cast it to a float type", {"weights": [np.ones((2, 12), dtype=int)]}),
    "NaN weights": (WeightsError, "weights[2] holds NaN", {"weights": NAN}),
    "infinite weights": (WeightsError, "weights[0] holds NaN or inf", {"weights": [np.full((2, 12), np.inf)]}),
    "two float types": (WeightsError, "one float type", {"weights": [*NET.weights()[:3], NET.weights(np.float32)[3]]}),
    "float spikes": (ShapeError, "pass spikes > 0", {"spikes": NET.spikes().astype(float)}),
    "float tensor spikes": (ShapeError, "pass spikes > 0", {"spikes": torch.ones(3, 12)}),
    "one step as a vector": (ShapeError, "spikes[None, :]", {"spikes": NET.spikes()[0]}),
    "spikes of another width": (ShapeError, "must be (steps, 12)", {"spikes": NET.spikes()[:, 1:]}),
    "too few scales": (ShapeError, "scales has shape (3,), must be 4 numbers", {"scales": [1.0] * 3}),
    "scalar threshold": (ShapeError, "one per weight layer", {"thresholds": 1.0}),
    "too many inc": (ShapeError, "must be one number or 4", {"inc": [0.1] * 5}),
    "too few dec": (ShapeError, "must be one number or 4", {"dec": [0.1]}),
    "infinite scale": (ConfigError, "without positive weight", {"scales": [1.0, np.inf, 1.0, 1.0]}),
    "NaN threshold": (ConfigError, "thresholds[1] is nan, must be a number", {"thresholds": [1.0, np.nan, 1.0, 1.0]}),
    "negative dec": (ConfigError, "at least 0", {"dec": -0.1}),
    "inc of words": (ConfigError, "must be numbers", {"inc": "much"}),
    "decay 0": (ConfigError, "must be in (0, 1]", {"decay": 0.0}),
    "decay above 1": (ConfigError, "must be in (0, 1]", {"decay": 1.001}),
    "decay NaN": (ConfigError, "must be finite", {"decay": np.nan}),
    "decay of words": (ConfigError, "must be one number", {"decay": "fast"}),
    "gate width 0": (ConfigError, "gate_width=None switches", {"gate_width": 0.0}),
    "infinite inhibition": (ConfigError, "must be finite", {"inhibition": np.inf}),
    "state too short": (ShapeError, "SleepTrace.potentials", {"state": [np.zeros(9)]}),
    "state of another shape": (ShapeError, "must be (7,)", {"state": [np.zeros(n) for n in (9, 9, 5, 4)]}),
    "NaN state": (ConfigError, "start at rest", {"state": [np.full(n, np.nan) for n in (9, 7, 5, 4)]}),
    "half for event": (ConfigError, "backend='reference'", {"weights": NET.weights(np.float16)}),
    "bfloat16 for event": (ConfigError, "cast", {"weights": [torch.tensor(w).bfloat16() for w in NET.weights()]}),
}


@pytest.mark.parametrize(("error", "cure", "change"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_with_the_cure(error, cure, change):
    if "weights" in change and 0 < len(change["weights"]) < LAYERS:
        change = {"scales": [1.0], "thresholds": [1.0]} | change
    with pytest.raises(error, match=re.escape(cure)):
        run(**change)


def test_event_refuses_another_device_than_the_cpu():
    with pytest.raises(ConfigError, match=re.escape("on meta: pass weights.cpu(), or backend='reference'")):
        event.run([torch.ones(2, 12, device="meta")], None, potentials=[], rule=None)
