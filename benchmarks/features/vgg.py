"""PaperVGG: the article's small convolutional network, whose 2048 features of an image are the inputs of its heads.

    images (n, 3, 32, 32) in [0, 1] -> 3 x [conv 3x3, ReLU, conv 3x3, ReLU, max pool 2x2] -> (n, 128 * 4 * 4), >= 0

Source:
    Tadros et al. 2022, Nat. Commun. 13:7742, Methods, network details: three VGG blocks of two 3x3 convolutions with
    32, 64 and 128 filters, trained on Tiny ImageNet; the flattened output is what the sleeping network gets. Hidden
    layers of 1028 and 256 units: authors' code CIFAR10/run_class_task_test_summary.m.
    Inferred: padding 1, one 2x2 max pooling per block and images of 32 pixels a side, which give the article's 2048
    features. The sources name no batch norm in the trunk and no dropout there, so there is none.
    Differs: initial weights are He et al.'s, and zero in the output layer; the sources do not give theirs, and a plain
    network this deep is slow to leave its first loss with small ones.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from src_plugin.errors import ConfigError

CHANNELS = (3, 32, 64, 128)
"""Of the images, and of each block."""

HIDDEN = (1028, 256)
"""Units of the hidden layers above the features."""

REDUCTION = 8
"""Three poolings make the sides of an image so many times shorter."""


class PaperVGG(nn.Module):
    """The trunk: images in, features out.

    Initial weights are drawn from torch's global generator. Pixels are centred here, so that nothing but their size
    and range must be right outside.

    Args:
        image_size: Pixels a side, a multiple of 8; the article's is 32.

    Attributes:
        image_size: As given.
        n_features: Length of the features, 2048 for images of 32 pixels.

    Raises:
        ConfigError: `image_size` is no multiple of 8.
    """

    def __init__(self, image_size: int = 32) -> None:
        super().__init__()
        if image_size < REDUCTION or image_size % REDUCTION:
            raise ConfigError(f"paper_vgg halves images three times: image_size must be 8, 16, ..., not {image_size}")
        self.image_size = image_size
        self.n_features = CHANNELS[-1] * (image_size // REDUCTION) ** 2
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(CHANNELS):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(), nn.Conv2d(n_out, n_out, 3, padding=1)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        self.blocks = nn.Sequential(*layers)
        init_for_relu(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return features, float32, non-negative, shape (n, n_features).

        Args:
            images: float32 in [0, 1], shape (n, 3, image_size, image_size).
        """
        centred = (images - 0.5) * 4.0  # about unit variance: the pixels of photographs spread by 0.25
        features: Tensor = self.blocks(centred).flatten(1)
        return features


class VGGClassifier(nn.Module):
    """The trunk while it is pretrained: below hidden layers and an output for each class.

    Args:
        trunk: The trunk.
        n_classes: Number of outputs.
        dropout: Probability of dropping a hidden unit in training.
    """

    def __init__(self, trunk: PaperVGG, n_classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.trunk = trunk
        layers: list[nn.Module] = []
        for n_pre, n_post in pairwise([trunk.n_features, *HIDDEN]):
            layers += [nn.Linear(n_pre, n_post), nn.ReLU(), nn.Dropout(dropout)]
        output = nn.Linear(HIDDEN[-1], n_classes)
        self.head = nn.Sequential(*layers, output)
        init_for_relu(self.head)
        nn.init.zeros_(output.weight)  # at first all classes are equally likely, and no step is too large

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores, shape (n, n_classes), of images as `PaperVGG` takes them."""
        scores: Tensor = self.head(self.trunk(images))
        return scores


def init_for_relu(module: nn.Module) -> None:
    """Draw weights so that activations keep their scale from layer to layer; biases become 0. In place.

    Source:
        He et al. 2015, Delving deep into rectifiers, equation 10: N(0, 2 / fan in).
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
