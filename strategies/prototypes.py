"""Methods that train no network: class means of the inputs, alone or with a covariance that all classes share.

They answer from the images themselves (or features, where those are the inputs), so they show what a network adds.
"""

from __future__ import annotations

from typing import Any

import torch
from avalanche.models.utils import is_multi_task_module
from avalanche.training.supervised import StreamingLDA
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.nn.functional import pad

from src_plugin.errors import ConfigError
from strategies.nearest import NearestByDistance
from strategies.prediction import Scores
from strategies.setup import TrainingSetup, common, nbytes


class OnePass:
    """Shows every image of an experience once, in batches, to `learn`; nothing is propagated, so plugins see no loss.

    `strategy.model` is only a Flatten, and there is no optimizer.
    """

    def training_epoch(self: Any, **kwargs: Any) -> None:
        """Learn from every batch, between the hooks for the beginning and the end of an iteration."""
        for batch in self.dataloader:
            self.mbatch = batch
            self._unpack_minibatch()
            self._before_training_iteration(**kwargs)
            with torch.no_grad():
                self.learn(self.mb_x.flatten(1), self.mb_y)
            self._after_training_iteration(**kwargs)

    def make_optimizer(self, **kwargs: Any) -> None:
        """Do nothing: there are no parameters."""

    def forward(self: Any) -> Tensor:
        """Return the scores of the current batch, which Avalanche's own evaluation asks for."""
        return self.scores(self.mb_x)  # type: ignore[no-any-return]

    def classifiers(self: Any, strategy: Any) -> dict[str, Scores]:
        """Return the one way of answering."""
        return {self.way: self.scores}


class NearestClassMean(OnePass, SupervisedTemplate):  # type: ignore[misc]
    """Answers with the class whose mean image is nearest, by Euclidean distance.

    A class that comes back moves its mean by as much as its new images count among all it had. Images come in the order
    of the data, not shuffled, so that runs with different seeds agree in every bit.

    Attributes:
        means: Mean image of each class seen, flat, shape (n_inputs,).
        counts: Images each of them is the mean of.
    """

    way = "nearest mean"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.means: dict[int, Tensor] = {}
        self.counts: dict[int, int] = {}

    def make_train_dataloader(self, shuffle: bool = False, **kwargs: Any) -> None:
        """Make the loader, unshuffled."""
        super().make_train_dataloader(shuffle=shuffle, **kwargs)

    def learn(self, x: Tensor, y: Tensor) -> None:
        """Move the means of the classes in a batch.

        Args:
            x: Shape (n, n_inputs).
            y: Labels, shape (n,).
        """
        for c in y.unique().tolist():
            new = x[y == c]
            self.counts[c] = self.counts.get(c, 0) + len(new)
            mean = self.means.setdefault(c, torch.zeros_like(new[0]))
            mean.lerp_(new.mean(0), len(new) / self.counts[c])

    def scores(self, images: Tensor) -> Tensor:
        """Return minus the distance to each mean, shape (n, classes up to the largest seen); -inf if it has none."""
        scores = images.new_full((len(images), 1 + max(self.means, default=0)), -torch.inf)
        for c, mean in self.means.items():
            scores[:, c] = -torch.linalg.vector_norm(images.flatten(1) - mean, dim=1)
        return scores

    def answering_network(self, strategy: Any) -> nn.Module:
        """Return the class means as a layer."""
        length = len(next(iter(self.means.values())))
        nearest = NearestByDistance(1 + max(self.means), length)
        for c, mean in self.means.items():
            nearest.means[c], nearest.known[c] = mean.cpu(), True
        return nn.Sequential(nn.Flatten(), nearest)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the means, and 8 for each count."""
        return nbytes(self.means.values()) + 8 * len(self.counts)


class StreamingDiscriminant(OnePass, StreamingLDA):  # type: ignore[misc]
    """Linear discriminant analysis of the inputs, updated image by image: class means, and one covariance.

    Source:
        Hayes & Kanan, "Lifelong machine learning with deep streaming linear discriminant analysis", CVPR Workshops
        2020; Avalanche, StreamingLDA on a Flatten, with its shrinkage of 1e-4. Differs, in results only by rounding:
        a batch is learnt at once, while Avalanche 0.6 rebuilds the covariance at every image, and after every batch
        inverts it for an output nobody uses. Differs, in results: Avalanche gives a class that was never seen the score
        0, above that of many a class that was; here it is -inf, and images are seen once, whatever the epochs. Its
        check of plugins warns of every plugin there is, so the check that all other strategies make stands in.
    """

    way = "discriminant"
    input_size: int
    num_updates: int
    muK: Tensor  # means, (n_classes, n_inputs)
    cK: Tensor  # counts, (n_classes,)
    Sigma: Tensor  # covariance, (n_inputs, n_inputs)
    Lambda: Tensor  # its inverse, with some shrinkage

    def __init__(self, **settings: Any) -> None:
        super().__init__(slda_model=nn.Flatten(), input_size=0, num_classes=0, **settings)

    def _check_plugin_compatibility(self) -> None:
        SupervisedTemplate._check_plugin_compatibility(self)

    def learn(self, x: Tensor, y: Tensor) -> None:
        """Update means and covariance as if the images of a batch came one by one.

        With d = x - mean of its class before it, and t images before it, image by image `(t + 1) covariance <-
        t covariance + d d' t / (t + 1)`.

        Args:
            x: Shape (n, n_inputs).
            y: Labels, shape (n,).
        """
        self._grow(n_inputs=x.shape[1], n_classes=int(y.max()) + 1)
        d = torch.empty_like(x)
        for c in y.unique().tolist():
            rows = torch.nonzero(y == c)[:, 0]
            before = self.cK[c] + torch.arange(len(rows), device=x.device)[:, None]  # images of the class before each
            sums = self.cK[c] * self.muK[c] + x[rows].cumsum(0)
            d[rows] = x[rows] - (sums - x[rows]) / before.clamp(min=1)  # the first has 0 for its mean
            self.cK[c] += len(rows)
            self.muK[c] = sums[-1] / self.cK[c]
        t = self.num_updates + torch.arange(len(x), device=x.device)
        self.Sigma = self.num_updates * self.Sigma + d.T @ (d * (t / (t + 1))[:, None])
        self.num_updates += len(x)
        self.Sigma /= self.num_updates

    def _grow(self, *, n_inputs: int, n_classes: int) -> None:
        """Make room for inputs, whose number the first batch shows, and for classes."""
        if self.input_size == 0:
            self.input_size = n_inputs
            self.muK = self.muK.new_zeros(0, n_inputs)
            self.Sigma = self.Sigma.new_zeros(n_inputs, n_inputs)
        more = max(0, n_classes - len(self.cK))
        self.muK, self.cK = pad(self.muK, (0, 0, 0, more)), pad(self.cK, (0, more))

    def scores(self, images: Tensor) -> Tensor:
        """Return the discriminants, shape (n, classes up to the largest seen); -inf for a class that was not."""
        return self.predict(images.flatten(1)).masked_fill(self.cK == 0, -torch.inf)  # type: ignore[no-any-return]

    def answering_network(self, strategy: Any) -> nn.Module:
        """Return the discriminants as a Linear layer, with the bias -inf for a class that was not seen."""
        self.predict(self.muK[:1])  # inverts the covariance, if images came since
        weights = self.Lambda @ self.muK.T  # (n_inputs, n_classes), as `predict` has them
        linear = nn.Linear(*weights.shape)
        with torch.no_grad():
            linear.weight.copy_(weights.T)
            linear.bias.copy_((-0.5 * (self.muK.T * weights).sum(dim=0)).masked_fill(self.cK == 0, -torch.inf))
        return nn.Sequential(nn.Flatten(), linear)

    @property
    def kept_bytes(self) -> int:
        """Bytes of means, counts and covariance; its inverse, kept until the next image, can be had from it."""
        return nbytes([self.muK, self.cK, self.Sigma])


def build_ncm(setup: TrainingSetup, plugins: list[Any]) -> NearestClassMean:
    """Build nearest class mean.

    Raises:
        ConfigError: Tasks have outputs of their own.
    """
    return NearestClassMean(**_untrained(setup, plugins, of="ncm"), optimizer=None)


def build_slda(setup: TrainingSetup, plugins: list[Any]) -> StreamingDiscriminant:
    """Build streaming linear discriminant analysis.

    Raises:
        ConfigError: Tasks have outputs of their own.
    """
    settings = _untrained(setup, plugins, of="slda")
    del settings["model"]
    return StreamingDiscriminant(**settings)


def _untrained(setup: TrainingSetup, plugins: list[Any], *, of: str) -> dict[str, Any]:
    if is_multi_task_module(setup.model):
        raise ConfigError(
            f"{of} knows no tasks, and would mix the classes that all of them number from 0; leave it out, or drop "
            "stream.task_labels"
        )
    settings = {**common(setup, plugins), "model": nn.Flatten(), "train_epochs": 1}
    del settings["optimizer"]
    return settings
