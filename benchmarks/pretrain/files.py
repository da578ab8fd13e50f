"""What a pretraining leaves in its folder: states to go on from, the trunk's weights, and what they are.

| file | what |
|---|---|
| `states/last.ckpt`, `states/best.ckpt` | Lightning's states after the last epoch, and the best on held-out images |
| `backbone.safetensors` | the trunk after the best epoch, for `PaperVGG` |
| `<name>.json` | config, images, accuracies, seconds, versions, commit; written last: where it is, all is there |
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from benchmarks.errors import DataError, TrainingError
from benchmarks.files import write_whole
from benchmarks.pretrain.data import ImageDataModule
from benchmarks.pretrain.module import refuse_other
from benchmarks.records.environment import commit, hardware, versions

try:
    from lightning_fabric.plugins import TorchCheckpointIO
    from pytorch_lightning.callbacks import ModelCheckpoint
except ImportError as error:
    raise ImportError("pretraining needs the 'lightning' extra: pip install 'src-plugin[lightning]'") from error

WEIGHTS = "backbone.safetensors"
TRUNK = "classifier.trunk."
PACKAGES = ("pytorch-lightning", "torchmetrics", "safetensors", "pillow")
"""Besides those that every record names."""


class WholeFiles(TorchCheckpointIO):
    """Lightning's states, each on disk whole or not at all.

    Lightning's own way moves them from the system's folder of temporary files, which may be on another disk, and such a
    move can be cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a state."""
        file = io.BytesIO()
        torch.save(checkpoint, file)
        write_whole(Path(path), file.getvalue())


def state_file(folder: Path, which: str) -> Path:
    """Return where the "last" or the "best" state lies."""
    return folder / "states" / f"{which}.ckpt"


def keepers(folder: Path) -> list[ModelCheckpoint]:
    """Return what keeps the best state and the last, in this order: the last knows which was the best."""
    settings: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    states = state_file(folder, "last").parent
    best = ModelCheckpoint(states, "best", monitor="held_out_accuracy", mode="max", **settings)
    return [best, ModelCheckpoint(states, "last", **settings)]


def forget(folder: Path) -> None:
    """Delete the states of an earlier training, and the file that says that there is a backbone."""
    for path in (_about(folder), state_file(folder, "best"), state_file(folder, "last")):
        path.unlink(missing_ok=True)


def is_done(folder: Path, data: ImageDataModule) -> bool:
    """Return whether there is a backbone of this config and these images, whole.

    Raises:
        TrainingError: There is one of another config or other images, which is not replaced unasked; or the file that
            should say so cannot be read.
    """
    path = _about(folder)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        of = {**found["config"], "images": found["images"]["sha256"]}
        is_whole: bool = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() == found["weights_sha256"]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path} should say what backbone lies beside it, and does not: {error!r}. Delete it, or begin anew: "
            "--restart (resume=False)"
        ) from error
    with contextlib.suppress(DataError):  # there are no images here that could be others
        refuse_other(data, of, where=path)
    return is_whole


def write_backbone(
    folder: Path, data: ImageDataModule, accuracies: dict[str, float], *, device: str, max_seconds: float | None
) -> None:
    """Write the weights of the best state, and then what they are.

    Args:
        folder: Of the pretraining, with its states.
        data: The images it saw.
        accuracies: Of the best state, by what they were measured on: "held_out" and "test".
        device: Where it was trained.
        max_seconds: As asked for.
    """
    best, last = (torch.load(state_file(folder, which), map_location="cpu") for which in ("best", "last"))
    weights = {
        name.removeprefix(TRUNK): value.contiguous()
        for name, value in best["state_dict"].items()
        if name.startswith(TRUNK)
    }
    packed = safetensors.torch.save(weights, metadata={"format": "pt", "network": "paper_vgg", "name": folder.name})
    write_whole(folder / WEIGHTS, packed)
    config, counts, (commit_, tree_clean) = data.config, data.counts(), commit()
    about = {
        "schema": 1,
        "network": "paper_vgg",
        **config.model_dump(include={"name", "description", "source"}),
        "config": config.identity(),
        "max_seconds": max_seconds,
        "images": {"sha256": data.fingerprints(), "n": counts, "n_classes": len(data.found.class_names)},
        "epochs": last["global_step"] / data.n_steps,
        "best_epoch": best["epoch"] + 1,
        "seconds": last["callbacks"]["Budget"]["time_elapsed"]["train"],
        # Counts over counts: means in float32 are not quite.
        "accuracy": {name: round(value * counts[name]) / counts[name] for name, value in accuracies.items()},
        "weights_sha256": hashlib.sha256(packed).hexdigest(),
        "versions": versions() | {name: metadata.version(name) for name in PACKAGES},
        "commit": commit_,
        "tree_clean": tree_clean,
        "hardware": hardware(device),
    }
    text = json.dumps(about, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_whole(_about(folder), text.encode())


def _about(folder: Path) -> Path:
    return folder / f"{folder.name}.json"
