"""`event` computes what `reference` computes, on every row of nets.py.

In float64 whole runs are compared. In float32 each step starts both from the same state, because a rounding
difference at a threshold may flip a spike and send two runs apart.
"""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from nets import NETS
from src_plugin.kernel import BACKENDS, simulate

FAST = [name for name in BACKENDS if name != "reference"]
nets = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def compare(ours, reference, *, atol):
    for mine, its in zip(ours.spike_counts, reference.spike_counts, strict=True):
        assert_array_equal(mine, its)
        assert mine.dtype == np.int64
    for mine, its in zip(ours.weights + ours.potentials, reference.weights + reference.potentials, strict=True):
        assert mine.dtype == its.dtype
        assert_allclose(mine, its, rtol=atol, atol=atol)
    assert_array_equal(ours.potentiations, reference.potentiations)
    assert_array_equal(ours.depressions, reference.depressions)


@nets
@pytest.mark.parametrize("backend", FAST)
def test_whole_run_in_float64(backend, net):
    reference = simulate(net.weights(), net.spikes(), backend="reference", **net.arguments())
    compare(simulate(net.weights(), net.spikes(), backend=backend, **net.arguments()), reference, atol=1e-12)


@nets
@pytest.mark.parametrize("backend", FAST)
def test_step_by_step_in_float32(backend, net):
    weights, state, spikes = net.weights(np.float32), None, net.spikes()
    for step in range(len(spikes)):
        now = spikes[step : step + 1]
        reference = simulate(weights, now, state=state, backend="reference", **net.arguments())
        compare(simulate(weights, now, state=state, backend=backend, **net.arguments()), reference, atol=2e-6)
        weights, state = reference.weights, reference.potentials


@nets
def test_reference_is_the_same_in_torch(net):
    reference = simulate(net.weights(), net.spikes(), backend="reference", **net.arguments())
    tensors = [torch.from_numpy(w) for w in net.weights()]
    trace = simulate(tensors, torch.from_numpy(net.spikes()), backend="reference", **net.arguments())
    assert all(isinstance(x, torch.Tensor) for x in [*trace.weights, *trace.spike_counts, *trace.potentials])
    for mine, its in zip(trace.spike_counts, reference.spike_counts, strict=True):
        assert_array_equal(mine.numpy(), its)
    for mine, its in zip(trace.weights + trace.potentials, reference.weights + reference.potentials, strict=True):
        assert_allclose(mine.numpy(), its, rtol=1e-12, atol=1e-12)
    assert_array_equal(trace.potentiations.numpy(), reference.potentiations)
    assert_array_equal(trace.depressions.numpy(), reference.depressions)


@nets
def test_the_table_tests_what_its_rows_say(net):
    counts = simulate(net.weights(), net.spikes(), backend="reference", **net.arguments()).spike_counts
    assert all(c.any() for c in counts[1:]) == net.fires


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_event_takes_and_returns_torch_tensors(dtype):
    net = NETS["wide gate"]
    weights = [torch.nn.Parameter(torch.tensor(w, dtype=dtype)) for w in net.weights()]
    trace = simulate(weights, torch.tensor(net.spikes()), **net.arguments())
    arrays = simulate([w.detach().numpy() for w in weights], net.spikes(), **net.arguments())
    for mine, its in zip(trace.weights, arrays.weights, strict=True):
        assert mine.dtype == dtype
        assert not mine.requires_grad
        assert_array_equal(mine.numpy(), its)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_reference_runs_where_its_tensors_are():
    net = NETS["wide gate"]
    reference = simulate(net.weights(), net.spikes(), backend="reference", **net.arguments())
    tensors = [torch.tensor(w, device="cuda") for w in net.weights()]
    trace = simulate(tensors, net.spikes(), backend="reference", **net.arguments())
    assert {x.device.type for x in [*trace.weights, *trace.spike_counts, trace.depressions]} == {"cuda"}
    assert_allclose(trace.weights[0].cpu().numpy(), reference.weights[0], rtol=1e-12, atol=1e-12)
