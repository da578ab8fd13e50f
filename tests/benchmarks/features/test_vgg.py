"""PaperVGG: 2048 features that cannot be negative, and the heads it is trained below."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.features.vgg import PaperVGG, VGGClassifier
from src_plugin.errors import ConfigError

# 3x3 kernels and biases, e.g. 3 * 32 * 9 + 32 = 896 and 32 * 32 * 9 + 32 = 9248.
N_TRUNK = 896 + 9248 + 18496 + 36928 + 73856 + 147584


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(("image_size", "n_features"), [(32, 2048), (8, 128), (64, 8192)])
def test_features_are_as_many_as_it_says(image_size: int, n_features: int) -> None:
    network = PaperVGG(image_size)
    assert network.n_features == n_features
    assert network(torch.rand(2, 3, image_size, image_size)).shape == (2, n_features)


def test_it_has_the_weights_of_the_article_and_nothing_else() -> None:
    assert sum(parameter.numel() for parameter in PaperVGG().parameters()) == N_TRUNK
    assert not list(PaperVGG().buffers())  # no batch norm


def test_features_are_not_negative_and_not_all_zero() -> None:
    features = PaperVGG()(torch.rand(8, 3, 32, 32))
    assert features.min() == 0
    assert features.max() > 0


@torch.no_grad()
def test_pixels_are_centred_and_the_brightest_of_eight_by_eight_is_left() -> None:
    # Each layer hands on its first channel. A white pixel is (1 - 0.5) * 4 = 2, black ones are -2 and end at the ReLU.
    network = PaperVGG(16)
    for layer in network.blocks:
        if isinstance(layer, nn.Conv2d):
            layer.weight.zero_()
            layer.weight[0, 0, 1, 1] = 1.0
    image = torch.zeros(1, 3, 16, 16)
    image[0, 0, 3, 12] = 1.0  # in the upper right quarter
    expected = torch.zeros(1, 128, 2, 2)
    expected[0, 0, 0, 1] = 2.0
    assert torch.equal(network(image), expected.flatten(1))


def test_activations_keep_their_scale_through_six_layers() -> None:
    # PyTorch's own initialisation leaves a hundredth of it.
    features = PaperVGG()(torch.rand(32, 3, 32, 32))
    assert 0.2 < features.std() < 5.0


def test_initial_weights_come_from_the_global_generator() -> None:
    torch.manual_seed(1)
    first = PaperVGG().state_dict()
    torch.manual_seed(1)
    again = PaperVGG().state_dict()
    other = PaperVGG().state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["blocks.0.weight"], other["blocks.0.weight"])


@pytest.mark.parametrize("image_size", [0, 4, 30, -8])
def test_sides_that_cannot_be_halved_three_times_are_refused(image_size: int) -> None:
    with pytest.raises(ConfigError, match=r"8, 16, \.\.\., not"):
        PaperVGG(image_size)


def test_heads_are_those_of_the_article_and_begin_undecided() -> None:
    classifier = VGGClassifier(PaperVGG(), 7)
    sizes = [(layer.in_features, layer.out_features) for layer in classifier.head if isinstance(layer, nn.Linear)]
    assert sizes == [(2048, 1028), (1028, 256), (256, 7)]
    assert torch.equal(classifier(torch.rand(3, 3, 32, 32)), torch.zeros(3, 7))


def test_dropout_is_for_training_only_and_above_the_features() -> None:
    classifier = VGGClassifier(PaperVGG(8), 2, dropout=0.5)
    nn.init.ones_(classifier.head[-1].weight)
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(classifier.trunk(images), classifier.trunk(images))
    assert not torch.equal(classifier(images), classifier(images))
    classifier.eval()
    assert torch.equal(classifier(images), classifier(images))
