"""Inputs of any sign: whoever normalises, standardises or rotates inputs of the head sleeps as everybody else does."""

import gzip
import struct

import numpy as np
import pytest
import torch
from avalanche.benchmarks import SplitMNIST, nc_benchmark
from avalanche.models import SimpleMLP
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from plugin_samples import NoLogger, own
from src_plugin import SleepConfig, SRCPlugin
from src_plugin.head.find import find_head
from src_plugin.night.noise import draw_noise
from src_plugin.night.sleep import sleep
from src_plugin.waking.mean import lowest_input

DIGITS = load_digits()
IMAGES, LABELS = torch.tensor(DIGITS.data / 16, dtype=torch.float32), torch.tensor(DIGITS.target)
N_TRAIN = 1347


def rotated(x):
    turn, _ = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))
    return torch.nn.functional.layer_norm(x, (64,)) @ turn


FORMS = {
    "normalised": lambda x: (x - 0.3) / 0.37,
    "from -1 to 1": lambda x: 2 * x - 1,
    "standardised columns": lambda x: (x - IMAGES[:N_TRAIN].mean(0)) / IMAGES[:N_TRAIN].std(0).clamp(min=0.02),
    "layer-normalised and rotated": rotated,
}


def quiet():
    return EvaluationPlugin(loggers=[NoLogger()])


def learnt(form, *plugins, bias=True):
    """Learn ten digits, two at a time; return the accuracy on all of them, as the script of the README does."""
    images = form(IMAGES)
    train, test = (TensorDataset(images[s], LABELS[s]) for s in (slice(N_TRAIN), slice(N_TRAIN, None)))
    train.targets, test.targets = LABELS[:N_TRAIN].tolist(), LABELS[N_TRAIN:].tolist()
    torch.manual_seed(0)
    model = SimpleMLP(num_classes=10, input_size=64)
    if not bias:
        for layer in (model.features[0], model.classifier):
            layer.register_parameter("bias", None)
    adam = torch.optim.Adam(model.parameters(), lr=0.001)
    strategy = Naive(model=model, optimizer=adam, train_mb_size=16, train_epochs=5, plugins=plugins, evaluator=quiet())
    strategy.train(nc_benchmark(train, test, n_experiences=5, task_labels=False, seed=0).train_stream)
    return float((model.eval()(images[N_TRAIN:]).argmax(1) == LABELS[N_TRAIN:]).float().mean())


@pytest.mark.slow
@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no biases"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_inputs_of_any_sign_gain_what_pixels_gain(form, bias):
    # Pixels in [0, 1] end at 0.78, and without the plugin at 0.2.
    plugin = SRCPlugin()
    assert learnt(form, plugin, bias=bias) > 0.68
    assert [report.decision for report in plugin.reports] == ["slept"] * 5


# -- Avalanche's own benchmark, as its tutorials call it ---------------------------------------------------------------


def write_idx(path, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())
    with gzip.open(path.with_suffix(".gz"), "wb") as packed:
        packed.write(path.read_bytes())


@pytest.fixture
def mnist_root(tmp_path):
    """Digits, 28 x 28, in the files that torchvision's MNIST reads, so that nothing is downloaded."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.kron(DIGITS.images, np.ones((3, 3)))[:, :, :] * 15.9
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    for name, rows in (("train", slice(0, 400)), ("t10k", slice(400, 600))):
        write_idx(raw / f"{name}-images-idx3-ubyte", images[rows])
        write_idx(raw / f"{name}-labels-idx1-ubyte", DIGITS.target[rows])
    return tmp_path


def test_split_mnist_of_avalanche_sleeps_with_its_own_transform(mnist_root):
    # Its default normalises: inputs lie between -0.42 and 2.8.
    benchmark = SplitMNIST(n_experiences=5, seed=0, dataset_root=mnist_root)
    torch.manual_seed(0)
    model = SimpleMLP(num_classes=10)
    adam = torch.optim.Adam(model.parameters(), lr=0.001)
    plugin = SRCPlugin()
    strategy = Naive(model=model, optimizer=adam, train_mb_size=16, train_epochs=2, plugins=[plugin], evaluator=quiet())
    for experience in list(benchmark.train_stream)[:2]:
        strategy.train(experience)
    assert [report.decision for report in own(strategy).reports] == ["slept", "slept"]
    lowest = plugin._waking._inputs.lowest()
    assert lowest.shape == (784,)
    assert lowest.min() == pytest.approx(-0.4242, abs=1e-3)


# -- the pieces --------------------------------------------------------------------------------------------------------


def test_noise_lies_between_the_lowest_and_the_highest_that_inputs_can_be():
    g = torch.Generator().manual_seed(0)
    inputs = torch.rand(300, 4, generator=g) * 3 - torch.tensor([1.0, 2.0, 3.0, 0.5])
    mean, lowest = inputs.double().mean(0).numpy(), inputs.amin(0).double().numpy()
    noise = draw_noise(mean, generator=np.random.default_rng(0), inputs=inputs, lowest=lowest, n=20_000)
    assert bool((noise >= torch.tensor(lowest).float() - 1e-6).all())
    assert bool((noise <= inputs.amax(0) + 1e-5).all())
    below = np.minimum((mean - lowest) / 2, 0.7 * inputs.std(0).numpy())
    np.testing.assert_allclose(noise.mean(0).numpy(), mean - below, atol=0.03)


def test_noise_of_shifted_inputs_is_shifted_noise():
    g = torch.Generator().manual_seed(0)
    inputs, shift = torch.rand(300, 4, generator=g), torch.tensor([0.5, 0.25, 0.0, 1.0])
    mean = inputs.double().mean(0)
    plain = draw_noise(mean.numpy(), generator=np.random.default_rng(0), inputs=inputs)
    moved = draw_noise(
        (mean - shift).numpy(),
        generator=np.random.default_rng(0),
        inputs=inputs - shift,
        lowest=-shift.double().numpy(),
    )
    torch.testing.assert_close(moved, plain - shift, atol=2e-5, rtol=0)


def test_lowest_is_taken_from_inputs_and_never_above_zero():
    inputs = torch.tensor([[0.5, -1.0], [0.25, 2.0]])
    np.testing.assert_array_equal(lowest_input(None, np.array([0.4, 0.5]), inputs), [0.0, -1.0])
    np.testing.assert_array_equal(lowest_input([-0.5, -2.0], np.array([0.4, 0.5]), None), [-0.5, -2.0])
    np.testing.assert_array_equal(lowest_input(None, np.array([0.4, 0.0]), None), [0.0, 0.0])


def test_a_sleep_on_a_mean_of_any_sign_needs_no_lowest_where_nothing_is_balanced():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 20), torch.nn.ReLU(), torch.nn.Linear(20, 2))
    before = find_head(model, torch.zeros(1, 6)).read()
    mean = torch.tensor([0.5, -0.5, 1.0, -1.0, 0.2, 0.0])
    report = sleep(model, mean, SleepConfig(settle=False, level=False))
    assert report.decision == "slept"
    answers = [(w @ mean).relu().mean() for w in (before.weights[0], model[0].weight.detach())]
    assert 0 < answers[1] < answers[0]


def test_the_least_of_each_input_is_kept_from_one_experience_to_the_next_and_saved():
    plugin = SRCPlugin()
    images = 2 * IMAGES[:60] - 1
    dataset = TensorDataset(images, LABELS[:60])
    dataset.targets = LABELS[:60].tolist()
    torch.manual_seed(0)
    model = SimpleMLP(num_classes=10, input_size=64)
    adam = torch.optim.Adam(model.parameters(), lr=0.001)
    strategy = Naive(model=model, optimizer=adam, train_mb_size=16, train_epochs=1, plugins=[plugin], evaluator=quiet())
    kept = []
    for experience in nc_benchmark(dataset, dataset, n_experiences=2, task_labels=False, seed=0).train_stream:
        strategy.train(experience)
        kept.append(plugin._waking.state_dict()["least"])
    assert bool((kept[1] <= kept[0]).all())
    torch.testing.assert_close(kept[1].float(), images.amin(0).clamp(max=0))
