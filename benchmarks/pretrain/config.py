"""PretrainConfig: on which images the article's backbone is trained, and how, from YAML. Strict, as `RunConfig` is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from benchmarks.configs.files import explain, refuse_unknown
from benchmarks.configs.run import Fraction, NotNegative, Positive, Section
from benchmarks.configs.yaml_files import BACKBONE, read_mapping
from benchmarks.features.vgg import REDUCTION
from src_plugin.errors import ConfigError


class Augmentation(Section):
    """What is drawn anew for each training image in each epoch.

    Attributes:
        crop_padding: Black pixels around an image, from which a part of its own size is cut; 0 cuts nothing.
        flip: Whether every second image, by chance, is mirrored left to right.
    """

    crop_padding: Annotated[int, Field(ge=0)] = 4
    flip: bool = True


class PretrainConfig(Section):
    """The images, and how `VGGClassifier` learns to tell their classes apart.

    Attributes:
        dataset: A name of `benchmarks.data.sets.IMAGE_SETS`.
        folder: Where the images of `dataset: image_folder` are: folders or zip files, under the data root.
        image_size: Images are brought to so many pixels a side.
        epochs: Times that each training image is seen.
        batch_size: Images of a step, of all devices together; what is left over of an epoch is not trained on.
        lr: The largest learning rate of SGD.
        momentum: As in torch.optim.SGD.
        weight_decay: As in torch.optim.SGD.
        schedule: "constant", or "cosine": from `lr` down to 0 at the end.
        warm_up: Part of the training in which the learning rate rises from 0 to `lr`, in a straight line.
        dropout: Probability of dropping a unit of a hidden layer above the features, in training.
        augmentation: What is drawn for each image.
        precision: Lightning's name of it: "32-true" (float32), or "bf16-mixed" (bfloat16 where it is safe).
        hold_out: Part of the training images of each class that is not trained on, but chooses the best epoch.
        seed: Of the initial weights, the held-out images, their order, crops and dropout.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    description: str = ""
    source: str = ""
    dataset: str
    folder: list[str] = Field(default_factory=list)
    image_size: Annotated[int, Field(ge=REDUCTION, multiple_of=REDUCTION)] = 32
    epochs: Positive
    batch_size: Positive
    lr: Annotated[float, Field(gt=0)]
    momentum: Fraction = 0.9
    weight_decay: NotNegative = 0.0
    schedule: Literal["constant", "cosine"] = "cosine"
    warm_up: Fraction = 0.0
    dropout: Fraction = 0.0
    augmentation: Augmentation = Augmentation()
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    hold_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _crop_shows_something(self) -> PretrainConfig:
        if self.augmentation.crop_padding >= self.image_size:
            raise ValueError(
                f"augmentation.crop_padding {self.augmentation.crop_padding} of images of {self.image_size} pixels "
                "would cut out nothing but black; 4 is usual for 32 pixels"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """Return what of it decides about the weights, as plain JSON: images by what they are, not by where."""
        return self.model_dump(exclude={"name", "description", "source", "folder"})


def load_pretrain_config(path: Path) -> PretrainConfig:
    """Read a config; `name` is the file's own name unless it says otherwise.

    Raises:
        ConfigError: The file is missing or not YAML, a key is unknown (the nearest known one is named), or a value does
            not fit.
    """
    raw = read_mapping(path, BACKBONE)
    raw = {"name": path.stem, **raw}
    refuse_unknown(raw, PretrainConfig, path, "")
    try:
        return PretrainConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, [(path, raw)])) from error
