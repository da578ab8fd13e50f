"""ImageModel: a trained model that takes images, its preprocessing and backbone included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.data.images import open_image
from benchmarks.errors import DataError, ImageError

Transform = Callable[[Image.Image], Tensor]


class Pixels:
    """Turns an image into the values of its pixels in [0, 1].

    Args:
        shape: Of what comes out: (1, h, w) is grey, (3, h, w) RGB, (h * w,) a row of grey values.
        sides: Width and height of the images it takes; None of rows of numbers that are no image.
    """

    def __init__(self, shape: Sequence[int], sides: Sequence[int] | None) -> None:
        self.shape = tuple(shape)
        self.sides = None if sides is None else (sides[0], sides[1])

    def __call__(self, image: Image.Image) -> Tensor:
        """Return float32 values.

        Raises:
            DataError: The image is of another size, or the network takes no images.
        """
        if self.sides is None:
            raise DataError(f"the network learnt rows of numbers of shape {self.shape}, no images; give it a Tensor")
        if image.size != self.sides:
            given, wanted = (f"{width} x {height}" for width, height in (image.size, self.sides))
            raise DataError(f"it has {given} pixels, and the network learnt images of {wanted}; bring it to that size")
        pixels = torch.from_numpy(np.array(image.convert("RGB" if self.shape[0] == 3 else "L")))
        pixels = pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels
        return pixels.reshape(self.shape).float() / 255


class ImageModel(nn.Module):
    """A trained model on images: preprocessing, backbone and head. It is in eval mode when it is loaded.

    Args:
        head: From features, or pixels, to scores.
        about: What the file says, see `save_model`.
        transform: Turns an RGB image into what goes through the network, shape (...).
        backbone: From images to features; None if the head takes them as they are.

    Attributes:
        class_names: One per score.
        about: As given.
        transform: As given; for a DataLoader of your own.
    """

    def __init__(
        self, head: nn.Module, about: Mapping[str, Any], transform: Transform, backbone: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.head = head
        self.backbone = backbone
        self.transform = transform
        self.about = dict(about)
        self.class_names: tuple[str, ...] = tuple(about["class_names"])
        self.is_half = backbone is not None and about["backbone"]["config"]["precision"] == "half"
        self.eval()

    def forward(self, images: Sequence[Image.Image] | Tensor) -> Tensor:
        """Return scores, float32, shape (n, n_classes); the largest is the answer.

        Args:
            images: PIL images, or what `transform` makes of them, stacked: shape (n, ...).
        """
        x = (
            images
            if isinstance(images, Tensor)
            else torch.stack([self.transform(image.convert("RGB")) for image in images])
        )
        x = x.to(next(iter(self.head.state_dict().values())).device)
        if self.backbone is not None:
            x = self.backbone(x)
            x = x.half().float() if self.is_half else x  # as the features were kept that the head learnt
        scores: Tensor = self.head(x)
        return scores

    def probabilities(self, images: Sequence[Image.Image] | Tensor) -> Tensor:
        """Return the probability of each class, shape (n, n_classes), rows that sum to 1; see `forward`.

        They are the softmax of the scores. Where training was by squared error, scores are estimates of probabilities
        themselves: what is below 0 counts as 0, and rows are divided by their sums.
        """
        with torch.no_grad():
            scores = self.forward(images)
        if self.about["probabilities"] == "softmax":
            return torch.softmax(scores, dim=1)
        shares = scores.clamp(min=0)
        total = shares.sum(dim=1, keepdim=True)
        return torch.where(total > 0, shares / total, torch.full_like(shares, 1 / shares.shape[1]))

    def predict(self, paths: Sequence[Path], *, batch_size: int = 64) -> Tensor:
        """Return the probabilities of image files, on the CPU, shape (n, n_classes).

        Raises:
            DataError: One cannot be read, or does not fit; the message names it.
        """
        found = [torch.empty(0, len(self.class_names))]
        for i in range(0, len(paths), batch_size):
            rows = []
            for path in paths[i : i + batch_size]:
                try:
                    rows.append(self.transform(open_image(path)))
                except ImageError:
                    raise
                except DataError as error:
                    raise DataError(f"{path}: {error}") from error
            found.append(self.probabilities(torch.stack(rows)).cpu())
        return torch.cat(found)
