"""For the tests of model files: photos of coloured noise, and configs that learn them in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

COLOURS = {"blue": (30, 40, 200), "green": (40, 180, 60), "red": (210, 50, 40), "yellow": (220, 210, 50)}
SMALL = {"name": "test_resnet", "weights": "random", "image_size": 32, "precision": "single"}
"""A backbone of timm's own for tests, with random weights."""


def make_photos(folder: Path, *, n: int, seed: int = 0, classes: list[str] | None = None, side: int = 16) -> list[Path]:
    """Write `n` photos of each class into folder/class/; return their paths, class by class."""
    rng, paths = np.random.default_rng(seed), []
    for name in classes or list(COLOURS):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = np.array(COLOURS[name]) + rng.normal(0, 30, (side, side, 3))
            paths.append(folder / name / f"{i}.png")
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(paths[-1])
    return paths


def write_photos_config(folder: Path, **changes: Any) -> Path:
    """Write a config on data/photos, two experiences of two classes; return its path."""
    raw = {
        "stream": {"dataset": "image_folder", "folder": ["photos"], "n_experiences": 2, "scale": "first"},
        "model": {"hidden": [16]},
        "training": {"optimizer": "adam", "lr": 0.01, "batch_size": 10, "epochs": 2},
        "strategies": ["naive+src"],
    }
    path = folder / "photos.yaml"
    path.write_text(yaml.safe_dump({**raw, **changes}), encoding="utf-8")
    return path
