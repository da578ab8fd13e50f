"""For the tests of pretraining: a tiny config, images of four classes, and a training of them."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks.pretrain.config import PretrainConfig
from benchmarks.pretrain.train import pretrain
from image_samples import as_zip

TINY: dict[str, Any] = {
    **{"name": "tiny", "dataset": "image_folder", "folder": ["colours.zip"], "image_size": 8},
    **{"epochs": 2, "batch_size": 40, "lr": 0.02, "warm_up": 0.1, "dropout": 0.2, "hold_out": 0.2},
    "augmentation": {"crop_padding": 1},
}


def config(**changes: Any) -> PretrainConfig:
    return PretrainConfig.model_validate({**TINY, **changes})


def coloured(label: int, seed: int) -> bytes:
    """Return an image of 8 x 8 pixels, noisy, with one of its colours, or none, brighter: the class."""
    pixels = np.random.default_rng([label, seed]).integers(0, 128, (8, 8, 3))
    pixels[..., :label][..., -1:] += 100
    return coded_pixels(pixels.astype(np.uint8))


def coded_pixels(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def coloured_images(folder: Path) -> Path:
    """Write colours.zip into a folder, 200 training and 40 test images of four classes, and return the folder."""
    counts = {"train": 50, "test": 10}
    files = {
        f"{split}/class{label}/{i:02d}.png": coloured(label, 100 * (split == "test") + i)
        for split, n in counts.items()
        for label in range(4)
        for i in range(n)
    }
    as_zip(folder / "colours.zip", files)
    return folder


def train(config: PretrainConfig, images: Path, out: Path, **settings: Any) -> dict[str, torch.Tensor]:
    """Pretrain on the CPU and return the weights, in memory: `load_file` leaves them in the file, which may change."""
    path = pretrain(config, data_root=images, out=out, **{"accelerator": "cpu", **settings})
    return {name: weight.clone() for name, weight in load_file(path).items()}


def about(out: Path) -> dict[str, Any]:
    return json.loads((out / "tiny" / "tiny.json").read_text())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
