"""A model to use, in one file: save_model() writes it, load_model() gives a network on images.

    images -> preprocessing -> backbone, if there is one -> layers -> a score for each class

The file is safetensors: the tensors of the layers, and one JSON text that says all else. It holds no code. A backbone
is named, with the SHA-256 of its weights, and built anew; its weights are not in the file.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from benchmarks.configs.backbone import BackboneConfig
from benchmarks.errors import ModelFileError
from benchmarks.features.weights import state_sha256
from benchmarks.files import write_whole
from benchmarks.runs.image_model import ImageModel, Pixels
from benchmarks.runs.layers import build_layers, count_outputs, describe, plain_layers
from src_plugin.errors import ConfigError, SRCError

SCHEMA = 1
"""Of the JSON text; a file with a larger number was written by newer code."""

ENTRY = "src_plugin_model"
"""Name of the JSON text in the file."""


def save_model(
    path: Path | str,
    head: nn.Module,
    *,
    class_names: Sequence[str],
    backbone: BackboneConfig | None = None,
    provenance: Mapping[str, Any] | None = None,
    pixels: Pixels | None = None,
    probabilities: str = "softmax",
    run: Mapping[str, Any] | None = None,
) -> None:
    """Write a model file; what was there is replaced once all is written.

    Args:
        path: The file; its folders are made.
        head: An `nn.Sequential` of Flatten, Linear, ReLU and Dropout, or others of `LAYERS`; nested ones too.
        class_names: One per output.
        backbone: What gives the head's inputs; None if these are pixels.
        provenance: `Backbone.provenance` of it.
        pixels: What the head takes where there is no backbone.
        probabilities: "softmax" of the outputs, or "shares": outputs are estimates of probabilities.
        run: What made the model, as plain JSON.

    Raises:
        ConfigError: A layer that a file cannot hold, or another number of names than outputs.
    """
    chain = nn.Sequential(*plain_layers(head))
    if count_outputs(chain) != len(class_names):
        raise ConfigError(
            f"{path}: {len(class_names)} class_names for {count_outputs(chain)} outputs; give one for each"
        )
    if (backbone is None) != (provenance is None) or (backbone is None) == (pixels is None):
        raise ConfigError(
            f"{path}: give pixels, or backbone (a BackboneConfig) and provenance (Backbone.provenance) together"
        )
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in chain.state_dict().items()}
    about = {
        "schema": SCHEMA,
        "class_names": list(class_names),
        "layers": [describe(layer) for layer in chain],
        "sha256": state_sha256(state),
        "probabilities": probabilities,
        "backbone": None if backbone is None else {"config": backbone.model_dump(), **dict(provenance or {})},
        "pixels": None if pixels is None else {"shape": pixels.shape, "sides": pixels.sides},
        "run": dict(run or {}),
    }
    text = json.dumps(about, sort_keys=True, allow_nan=False)
    write_whole(Path(path), safetensors.torch.save(state, {ENTRY: text}))


def load_model(path: Path | str, *, weights: Path | str | None = None) -> ImageModel:
    """Read a model file; the network is on the CPU, in eval mode.

    Args:
        path: The file.
        weights: File with the weights of the backbone, where it is not where it was in training.

    Raises:
        ModelFileError: It is missing, torn, of newer code, or no model; or its backbone has other weights here.
    """
    path = Path(path)
    about, state = _read(path)
    try:
        head = build_layers(about["layers"])
        head.load_state_dict(state)
        is_whole = state_sha256(head.state_dict()) == about["sha256"]
        if about["backbone"] is not None:
            config = BackboneConfig.model_validate(about["backbone"]["config"])
    except (KeyError, TypeError, RuntimeError, ValidationError) as error:
        raise ModelFileError(f"{path} contradicts itself ({_first_line(error)}); {CURE}") from error
    if not is_whole:
        raise ModelFileError(f"{path} is damaged: its weights are not those that were written; {CURE}")
    if about["backbone"] is None:
        return ImageModel(head, about, Pixels(**about["pixels"]))
    return _on_backbone(path, head, about, config, weights=weights)


CURE = "copy it anew, or make it again: python -m benchmarks run CONFIG --save-models, with a new --out"


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the JSON text and the tensors of a file."""
    if not path.is_file():
        raise ModelFileError(
            f"there is no model file {path}; python -m benchmarks run CONFIG --save-models leaves one beside each "
            "record"
        )
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(ENTRY)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is torn, or no safetensors file ({_first_line(error)}); {CURE}") from error
    if text is None:
        raise ModelFileError(f"{path} holds weights, but no model: it lacks the text {ENTRY}; give a file of a run")
    try:
        about = json.loads(text)
        schema = int(about["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path}: its text {ENTRY} cannot be read ({_first_line(error)}); {CURE}") from error
    if schema > SCHEMA:
        raise ModelFileError(
            f"{path} has schema {schema}, and this code reads up to {SCHEMA}: newer code wrote it, so update this one"
        )
    return about, state


def _on_backbone(
    path: Path, head: nn.Module, about: dict[str, Any], config: BackboneConfig, *, weights: Path | str | None
) -> ImageModel:
    """Build the backbone, and refuse another than the head was trained on."""
    from benchmarks.features.backbones import build_backbone  # here, because timm takes seconds

    if weights is not None:
        config = config.model_copy(update={"weights": str(weights)})
    cure = "give the file of those it was trained on: --weights FILE, in code load_model(..., weights=FILE)"
    try:
        backbone = build_backbone(config)
    except SRCError as error:
        raise ModelFileError(f"{path}: its backbone {config.name} cannot be built: {error}. Or {cure}") from error
    then, now = (story["weights"]["sha256"] for story in (about["backbone"], backbone.provenance))
    if then != now:
        raise ModelFileError(
            f"{path} was trained on {config.name} with weights of SHA-256 {then[:16]}..., and those found here "
            f"({config.weights}) have {now[:16]}...; {cure}"
        )
    if any(about["backbone"][what] != backbone.provenance[what] for what in ("transform", "preprocessing")):
        warnings.warn(
            f"{path}: images are prepared otherwise here than in training; install the versions "
            f"{about['backbone']['versions']}, or expect somewhat other probabilities",
            stacklevel=3,
        )
    return ImageModel(head, about, backbone.transform, backbone.module)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
