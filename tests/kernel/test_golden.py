"""Both backends meet what the authors' own code computed: see golden/README.md for the archives and tolerances."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from places import GOLDEN
from src_plugin.kernel import BACKENDS, simulate

FILES = ["mlp_paper_scales", "mlp_small", "mlp_small_inhibition", "mlp_small_ungated", "single_layer"]

files = pytest.mark.parametrize("name", FILES)
backends = pytest.mark.parametrize("backend", BACKENDS)


def load(name):
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as archive:
        return dict(archive)


def layers(golden, field):
    return [golden[name] for name in sorted(golden) if name.rpartition("_")[0] == field]


def run(golden, *, backend, n_steps=None, dtype=np.float64):
    gate_width = float(golden["gate_width"])
    return simulate(
        [w.astype(dtype) for w in layers(golden, "w_init")],
        golden["input_spikes"][:n_steps],
        scales=golden["alpha"],
        thresholds=golden["threshold"] * golden["beta"],
        inc=golden["inc"],
        dec=golden["dec"],
        decay=golden["decay"],
        gate_width=None if np.isnan(gate_width) else gate_width,
        inhibition=golden["w_inh"],
        backend=backend,
    )


def test_every_archive_is_tested():
    assert sorted(path.stem for path in GOLDEN.glob("*.npz")) == FILES


@files
@backends
def test_spikes_and_updates_are_equal(name, backend):
    golden = load(name)
    trace = run(golden, backend=backend)
    for ours, theirs in zip(trace.spike_counts, layers(golden, "spike_count"), strict=True):
        assert_array_equal(ours, theirs)
    assert_array_equal(trace.potentiations, golden["n_potentiation"])
    assert_array_equal(trace.depressions, golden["n_depression"])


@files
@backends
@pytest.mark.parametrize(("state", "n_steps"), [("w_step1", 1), ("w_step10", 10), ("w_final", None)])
def test_weights(name, backend, state, n_steps):
    golden = load(name)
    trace = run(golden, backend=backend, n_steps=n_steps)
    for ours, theirs in zip(trace.weights, layers(golden, state), strict=True):
        assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@files
@backends
def test_spikes_of_the_first_steps(name, backend):
    golden = load(name)
    for n_steps in (1, 10, 137):
        trace = run(golden, backend=backend, n_steps=n_steps)
        for ours, theirs in zip(trace.spike_counts, layers(golden, "spikes"), strict=True):
            assert_array_equal(ours, theirs[:n_steps].sum(axis=0))


@files
@backends
def test_membrane_potentials(name, backend):
    golden = load(name)
    for ours, theirs in zip(run(golden, backend=backend).potentials, layers(golden, "v_final"), strict=True):
        assert_allclose(ours, theirs, rtol=0, atol=1e-10)


@files
@backends
def test_float32(name, backend):
    golden = load(name)
    trace = run(golden, backend=backend, dtype=np.float32)
    for ours, theirs in zip(trace.weights, layers(golden, "w_final"), strict=True):
        assert ours.dtype == np.float32
        assert_allclose(ours, theirs, rtol=0, atol=1e-4)
