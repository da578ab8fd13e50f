"""ImageDataModule: the images of a pretraining, all of them in memory, and which of them come in which batch.

Images are opened once and kept as bytes (32 x 32 pixels: 3 KB each). Crops and mirroring are done on whole batches of
them. All that chance decides about an epoch is drawn from the seed and the number of the epoch, so that an epoch is the
same whether training was interrupted before it or not, and whatever the number of devices.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmarks.data.images import CURE, MEND, Images, ImageSet, tell_of_greyscale
from benchmarks.data.load import load_images
from benchmarks.errors import ImageError
from benchmarks.pretrain.config import PretrainConfig
from src_plugin.errors import ConfigError

try:
    from pytorch_lightning import LightningDataModule
except ImportError as error:
    raise ImportError("pretraining needs the 'lightning' extra: pip install 'src-plugin[lightning]'") from error

IMAGES_AT_ONCE = 500
"""Images of a batch where nothing is learnt."""


def seed_of(*numbers: int) -> int:
    """Return one seed for several numbers, e.g. a seed and an epoch; other numbers, other seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


class Opened(Dataset[Tensor]):
    """Images as bytes, each opened when asked for: shape (size, size, 3), uint8.

    Images of another size are resized as `build_backbone` does for the features: whole, bicubic.
    """

    def __init__(self, images: Images, size: int) -> None:
        self.images = images
        self.size = size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        try:
            image = self.images.open(i)
        except ImageError as error:  # a PretrainConfig has no `unreadable`
            raise ImageError(str(error).removesuffix(CURE) + MEND, i) from error
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(image))


def open_all(images: Images, *, size: int, workers: int = 0) -> Tensor:
    """Open all images of a split.

    Args:
        images: The split.
        size: Pixels a side.
        workers: Processes that open images; 0 opens them here.

    Returns:
        uint8, shape (n, size, size, 3).
    """
    loader = DataLoader(Opened(images, size), batch_size=IMAGES_AT_ONCE, num_workers=workers)
    return torch.cat(list(loader)) if len(images) else torch.empty((0, size, size, 3), dtype=torch.uint8)


def hold_out(labels: Tensor, *, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Divide the images of each class by chance.

    Args:
        labels: int64, shape (n,).
        fraction: Part of each class that is held out, rounded, but at least one image where a class has two.
        seed: Decides which.

    Returns:
        The numbers of the images to train on, and of those held out, both rising.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, 0))
    is_held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        own = (labels == label).nonzero().squeeze(1)
        n = min(max(round(fraction * len(own)), 1), len(own) - 1)
        is_held_out[own[torch.randperm(len(own), generator=generator)[:n]]] = True
    return (~is_held_out).nonzero().squeeze(1), is_held_out.nonzero().squeeze(1)


class Draws(Sampler[Tensor]):
    """Batches of an epoch: which images, where each is cut, and whether it is mirrored.

    Each item is int64, shape (b, 4): number of the image, rows and columns left out above and left of the part that is
    cut from the padded image, and 1 if it is mirrored. Several devices share each batch.

    Args:
        n: Images to draw from.
        config: Batch size, augmentation and seed.
        rank: Which of the devices this is.
        n_devices: How many there are.

    Raises:
        ConfigError: The batch size is no multiple of the number of devices, or there is not an image for each.
    """

    def __init__(self, n: int, config: PretrainConfig, *, rank: int = 0, n_devices: int = 1) -> None:
        if config.batch_size % n_devices:
            raise ConfigError(
                f"batch_size: {config.batch_size} images cannot be shared out among {n_devices} devices; take "
                "a multiple"
            )
        self.n = n
        self.batch_size = min(config.batch_size, n - n % n_devices)
        if not self.batch_size:
            raise ConfigError(f"{n} training images cannot be shared out among {n_devices} devices; use fewer devices")
        self.config = config
        self.rank = rank
        self.n_devices = n_devices
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw for this epoch next, counted from 0. Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n // self.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(seed_of(self.config.seed, 1, self.epoch))
        order = torch.randperm(self.n, generator=generator)
        augmentation = self.config.augmentation
        corners = torch.randint(2 * augmentation.crop_padding + 1, (self.n, 2), generator=generator)
        flips = torch.randint(2, (self.n, 1), generator=generator) * int(augmentation.flip)
        drawn = torch.cat([order[:, None], corners, flips], dim=1)
        for batch in drawn[: len(self) * self.batch_size].split(self.batch_size):
            yield batch[self.rank :: self.n_devices]


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Some images in memory, asked for by a batch of `Draws` or, as they are, by their numbers.

    Args:
        pixels: uint8, shape (n_all, size, size, 3).
        labels: int64, shape (n_all,).
        rows: Which images, shape (n,); they are numbered 0 to n - 1 here.
        padding: Black pixels around each image, for cutting.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, *, rows: Tensor, padding: int = 0) -> None:
        self.pixels = pixels
        self.labels = labels
        self.rows = rows
        self.padding = padding

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Return images, uint8, shape (b, size, size, 3), and labels, shape (b,).

        Args:
            drawn: Shape (b, 4), see `Draws`, or (b,): numbers of images.
        """
        numbers, *how = drawn.unbind(1) if drawn.ndim == 2 else (drawn,)
        rows = self.rows[numbers]
        images = self.pixels[rows]
        if how:
            top, left, flip = how
            images = cut(images, top=top, left=left, flip=flip, padding=self.padding)
        return images, self.labels[rows]


def cut(images: Tensor, *, top: Tensor, left: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Cut a part of its own size from each image with black pixels around it, and mirror some.

    Args:
        images: Shape (b, size, size, 3).
        top: First row of the part in the padded image, 0 to 2 * padding, shape (b,).
        left: First column, the same.
        flip: 1 where left and right change sides, shape (b,).
        padding: Black pixels on each side.

    Returns:
        Shape as given.
    """
    b, size = images.shape[:2]
    padded = functional.pad(images, (0, 0, padding, padding, padding, padding))
    steps = torch.arange(size)
    rows = top[:, None] + steps  # (b, size)
    columns = left[:, None] + torch.where(flip[:, None] == 1, size - 1 - steps, steps)
    return padded[torch.arange(b)[:, None, None], rows[:, :, None], columns[:, None, :]]


class ImageDataModule(LightningDataModule):
    """Training, held-out and test images for `VGGModule`.

    Args:
        config: Which images, and how they are drawn.
        data_root: Folder with the files of data sets; None is `data` in the current folder.
        download: Fetch missing files; by one process, before the others look.
        workers: Processes that open images, once, before training.

    Attributes:
        images: The image set, after `setup`.
    """

    def __init__(
        self, config: PretrainConfig, *, data_root: Path | None = None, download: bool = False, workers: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        self.data_root = data_root
        self.download = download
        self.workers = workers
        self.images: ImageSet | None = None
        self._pixels: dict[str, Tensor] = {}
        self._fingerprints: dict[str, str] | None = None

    def prepare_data(self) -> None:
        """Fetch what is missing."""
        if self.download:
            self._load(download=True)

    def setup(self, stage: str | None = None) -> None:
        """Find the images; nothing is opened yet."""
        if self.images is None:
            self.images = self._load(download=False)
            rows = hold_out(self.images.train.labels, fraction=self.config.hold_out, seed=self.config.seed)
            self._train_rows, self._held_out_rows = rows

    def _load(self, *, download: bool) -> ImageSet:
        return load_images(
            self.config.dataset, data_root=self.data_root, download=download, folder=tuple(self.config.folder)
        )

    @property
    def found(self) -> ImageSet:
        """The image set; it is looked for when first asked for."""
        self.setup()
        assert self.images is not None
        return self.images

    def fingerprints(self) -> dict[str, str]:
        """Return what the images are: a SHA-256 of each split."""
        if self._fingerprints is None:
            found = self.found
            self._fingerprints = {"train": found.train.fingerprint(), "test": found.test.fingerprint()}
        return self._fingerprints

    def counts(self) -> dict[str, int]:
        """Return how many images are trained on, held out, and for testing."""
        n_test = len(self.found.test)
        return {"train": len(self._train_rows), "held_out": len(self._held_out_rows), "test": n_test}

    @property
    def n_steps(self) -> int:
        """Batches of an epoch."""
        return len(self._draws())

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return shuffled batches of crops."""
        padding = self.config.augmentation.crop_padding
        data = Crops(self._open("train"), self.found.train.labels, rows=self._train_rows, padding=padding)
        return DataLoader(data, sampler=self._draws(), batch_size=None)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return the held-out images as they are."""
        return self._plain("train", self._held_out_rows)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return the test images as they are."""
        return self._plain("test", torch.arange(len(self.found.test)))

    def _plain(self, split: str, rows: Tensor) -> DataLoader[tuple[Tensor, Tensor]]:
        rank, n_devices = self._device()
        data = Crops(self._open(split), getattr(self.found, split).labels, rows=rows)
        numbers = torch.arange(rank, len(rows), n_devices)
        return DataLoader(data, sampler=list(numbers.split(IMAGES_AT_ONCE)), batch_size=None)

    def _draws(self) -> Draws:
        rank, n_devices = self._device()
        return Draws(len(self._train_rows), self.config, rank=rank, n_devices=n_devices)

    def _device(self) -> tuple[int, int]:
        """Return which of the devices this is, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _open(self, split: str) -> Tensor:
        """Return all images of a split as bytes; they are opened when first asked for."""
        if split not in self._pixels:
            if split == "train" and self._device()[0] == 0:
                tell_of_greyscale(self.found)
            images = getattr(self.found, split)
            self._pixels[split] = open_all(images, size=self.config.image_size, workers=self.workers)
        return self._pixels[split]

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Return images as the network takes them: float32 in [0, 1], shape (b, 3, size, size), channels last."""
        images, labels = batch
        return images.permute(0, 3, 1, 2).float() / 255, labels
