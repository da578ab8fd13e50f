"""What both forms of iCaRL share: exemplars chosen by herding, a teacher, and answers by the nearest class mean.

Herding takes as its k-th exemplar the sample x that brings the mean of those taken nearest to the mean of the class:
    argmin_x | mean - (phi(x) + phi(p_1) + ... + phi(p_{k-1})) / k |
All features phi have length 1: training and sleep change how strongly units fire far more than which of them do, and
the mean of a class should not be that of its strongest images.

Source: Rebuffi et al. 2017, CVPR, "iCaRL: incremental classifier and representation learning", Algorithms 1, 4 and 5.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from avalanche.benchmarks.utils.utils import concat_datasets
from avalanche.core import SupervisedPlugin
from avalanche.training.supervised import Naive
from torch import Tensor, nn
from torch.nn import functional

from src_plugin.errors import ConfigError
from strategies.nearest import NearestMean
from strategies.prediction import Scores
from strategies.rehearsal import exemplar_bytes
from strategies.setup import TrainingSetup, common, nbytes


def herd(features: Tensor, n: int) -> list[int]:
    """Return which samples herding takes, in the order it takes them; each is taken once.

    Args:
        features: Shape (n_samples, n_features).
        n: How many to take; fewer samples are all taken.
    """
    norms = features.square().sum(dim=1)  # (n_samples,)
    towards = features @ features.mean(dim=0)
    overlap = torch.zeros_like(norms)
    taken: list[int] = []
    for k in range(1, min(n, len(features)) + 1):
        distance = norms + 2.0 * overlap - 2.0 * k * towards  # k^2 times the square, less what all have in common
        distance[taken] = torch.inf
        taken.append(int(distance.argmin()))
        overlap += features @ features[taken[-1]]
    return taken


class Teacher(SupervisedPlugin):  # type: ignore[misc]
    """A loss to which a copy of the network contributes, made when an experience has ended and any sleep is over.

    The copy is in eval mode. Subclasses say what is copied and what becomes of its answers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network: nn.Module | None = None
        self.old_classes: list[int] = []
        self.answers: Tensor | None = None  # of the teacher to the batch that is trained on

    def taught(self, model: nn.Module) -> nn.Module:
        """Return what is to be copied."""
        return model

    def ask(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the teacher's outputs for a batch."""
        raise NotImplementedError

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; in evaluation, where no teacher was asked, that of the labels."""
        raise NotImplementedError

    def before_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Ask the teacher, if there is one."""
        if self.network is not None:
            with torch.no_grad():
                self.answers = self.ask(strategy.mb_x, strategy.mb_y)

    def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Forget its answers."""
        self.answers = None

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Copy the network."""
        self.network = deepcopy(self.taught(strategy.model)).eval().requires_grad_(False)
        self.old_classes = sorted({*self.old_classes, *_classes(strategy.experience)})

    @property
    def kept_bytes(self) -> int:
        """Bytes of the teacher, and 8 for each class it knows."""
        return 0 if self.network is None else nbytes(self.network.state_dict().values()) + 8 * len(self.old_classes)


class HerdingPlugin(SupervisedPlugin):  # type: ignore[misc]
    """Keeps exemplars, puts them among the images of later experiences, and answers by the nearest of their means.

    Where there is a sleep, exemplars are chosen by the network that training has left, before it (so that the sleep
    does not decide what is kept), and class means are computed anew after it. Exemplars are subsets of the experiences'
    data sets; herding orders them, and the first ones stay when the share of a class shrinks.

    Args:
        size: Exemplars, all classes together; each class seen has the same share, rounded down.
        nearest: Takes the class means.
    """

    def __init__(self, size: int, nearest: NearestMean | None = None) -> None:
        super().__init__()
        self.size = size
        self.nearest = nearest
        self.exemplars: dict[int, Any] = {}
        self._has_chosen = False  # for the experience that is trained on

    def features(self, strategy: Any, images: Tensor) -> Tensor:
        """Return features, on the CPU, shape (n, n_features), as the network has them in eval mode."""
        raise NotImplementedError

    def before_train_dataset_adaptation(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Refuse a stream in which a class comes twice.

        Raises:
            ConfigError: It does.
        """
        self._has_chosen = False
        experience = strategy.experience
        back = set(self.exemplars) & _classes(experience) if self.exemplars else _twice(experience)
        if back:
            raise ConfigError(
                "iCaRL lets the old network answer for images of classes it has seen, so each class must come in one "
                f"experience only, with one number in all tasks; classes {sorted(back)} come in several. Use a stream "
                "of disjoint classes (nc_benchmark makes one), or another strategy, such as replay"
            )

    def after_train_dataset_adaptation(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Put the exemplars among the images of the experience."""
        strategy.adapted_dataset = concat_datasets([strategy.adapted_dataset, *self.exemplars.values()])

    def before_sleep(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Choose exemplars; class means show what the sleep is going to change."""
        self._choose(strategy)
        self._learn_means(strategy)

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Choose exemplars if no sleep asked for that, and learn the class means of the network as it is now."""
        self._choose(strategy)
        self._learn_means(strategy)

    def _choose(self, strategy: Any) -> None:
        if self._has_chosen:
            return
        images = strategy.experience.dataset
        targets = torch.as_tensor(list(images.targets))
        new = sorted(_classes(strategy.experience))
        share = self.size // len({*self.exemplars, *new})
        for label, part in self.exemplars.items():
            self.exemplars[label] = part.subset(range(min(share, len(part))))
        for label in new:
            part = images.subset((targets == label).nonzero().squeeze(1).tolist())
            self.exemplars[label] = part.subset(herd(self._lengths_1(strategy, part), share))
        self._has_chosen = True

    def _learn_means(self, strategy: Any) -> None:
        assert self.nearest is not None
        for label, part in self.exemplars.items():
            self.nearest.learn(label, self._lengths_1(strategy, part))

    def _lengths_1(self, strategy: Any, part: Any) -> Tensor:
        shown = part.eval()  # transforms of use, not of training
        images = torch.stack([shown[i][0] for i in range(len(shown))])
        return functional.normalize(self.features(strategy, images))

    def nearest_mean(self, strategy: Any, images: Tensor) -> Tensor:
        """Return the scores of images, shape (n, n_classes)."""
        assert self.nearest is not None
        return self.nearest(self.features(strategy, images)).to(images.device)  # type: ignore[no-any-return]

    def outputs(self, strategy: Any) -> Scores:
        """Return what gives the outputs of the network."""
        model: nn.Module = strategy.model
        return model

    def classifiers(self, strategy: Any) -> dict[str, Scores]:
        """Return both ways to answer, the nearest class mean first; before there are means, the outputs alone."""
        outputs = {"outputs": self.outputs(strategy)}
        if self.nearest is None or not bool(self.nearest.known.any()):
            return outputs
        return {"nearest_mean": partial(self.nearest_mean, strategy), **outputs}

    def answering_network(self, strategy: Any) -> nn.Module:
        """Return the layers that give the features, and the class means on top of them."""
        assert self.nearest is not None
        return nn.Sequential(self.below(strategy), self.nearest)

    def below(self, strategy: Any) -> nn.Module:
        """Return the layers that give the features."""
        raise NotImplementedError

    @property
    def kept_bytes(self) -> int:
        """Bytes of the exemplars with their labels, and of the class means."""
        means = 0 if self.nearest is None else nbytes([self.nearest.means[self.nearest.known]])
        return means + sum(exemplar_bytes(part) for part in self.exemplars.values())


def icarl_with(herding: HerdingPlugin, teacher: Teacher, setup: TrainingSetup, plugins: list[Any]) -> Naive:
    """Return plain fine-tuning of `setup.model` with the loss of a teacher, and with exemplars.

    Avalanche warns of callbacks it does not know, such as `before_sleep`, in plugins that it is constructed with; this
    one is therefore added later, before whatever measures the network.
    """
    strategy = Naive(**{**common(setup, plugins), "criterion": teacher})
    strategy.plugins.insert(strategy.plugins.index(strategy.evaluator), herding)
    return strategy


def _classes(experience: Any) -> set[int]:
    return {int(label) for label in experience.dataset.targets}


def _twice(experience: Any) -> set[int]:
    """Return classes that come in several experiences of the stream, as far as it says."""
    stream: Any = getattr(experience, "origin_stream", None)
    seen: set[int] = set()
    twice: set[int] = set()
    for other in stream if hasattr(stream, "__len__") else ():  # one without length may be gone when it is looked at
        classes = {int(label) for label in getattr(other, "classes_in_this_experience", None) or ()}
        twice |= seen & classes
        seen |= classes
    return twice
