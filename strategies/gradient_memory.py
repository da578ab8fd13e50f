"""GEM and A-GEM: exemplars are not trained on; a gradient that would raise their loss is turned until it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import qpsolvers
import torch
from avalanche.benchmarks.utils.utils import concat_datasets
from avalanche.training.plugins import AGEMPlugin, GEMPlugin
from torch import Tensor

from src_plugin.errors import ConfigError
from strategies.rehearsal import endless, exemplar_bytes
from strategies.setup import TrainingSetup, naive_with, nbytes


class GEM(GEMPlugin):  # type: ignore[misc]
    """Gradient episodic memory: no step may raise the loss of the exemplars of any earlier experience.

    Args:
        patterns: Exemplars of each experience, drawn at random.
        strength: Margin that is added to the solution: the paper's gamma.

    Source:
        Lopez-Paz & Ranzato 2017, NeurIPS; Avalanche, GEMPlugin. Differs from the paper: exemplars are drawn at random
        and are not the last ones seen, and all outputs compete, not those of the exemplars' own experience only. The
        projected gradient is what the optimizer is given: momentum and weight decay come on top.
    """

    def __init__(self, *, patterns: int, strength: float) -> None:
        super().__init__(patterns, strength)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Choose exemplars, and drop the last gradients, which Avalanche 0.6 holds on to."""
        super().after_training_exp(strategy, **kwargs)
        self.G = torch.empty(0)

    def solve_quadprog(self, g: Tensor) -> Tensor:
        """Return the nearest gradient that goes against none of `G`, shape (n_weights,).

        What Avalanche 0.6 computes, but that copies all gradients to float64, which takes longer than a training step.
        A gradient that is not finite stays what it is: training has diverged.
        """
        n = len(self.G)
        gram = (self.G @ self.G.T).cpu().double().numpy()  # (n, n)
        against = (self.G @ g).cpu().double().numpy()  # (n,)
        if not (np.isfinite(gram).all() and np.isfinite(against).all()):
            return g
        margin = np.full(n, float(self.memory_strength))
        ridge = 1e-3 * np.eye(n)
        v = qpsolvers.solve_qp(gram + ridge, against, -np.eye(n), -margin, solver="quadprog")  # v >= margin
        return g + self.G.T @ torch.from_numpy(v).to(self.G)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the exemplars and their labels (8 each)."""
        return nbytes([*self.memory_x.values(), *self.memory_y.values()])


class AGEM(AGEMPlugin):  # type: ignore[misc]
    """Averaged GEM: no step may raise the mean loss of a random sample of exemplars of all earlier experiences.

    Args:
        patterns: Exemplars of each experience, drawn at random.
        sample_size: Exemplars of which the mean is taken in each iteration; all if they are fewer.

    Source:
        Chaudhry et al. 2019, ICLR; Avalanche, AGEMPlugin. Differs from Avalanche 0.6 as the paper does: a sample is
        drawn from all exemplars alike and may be smaller than the number of experiences, where Avalanche draws equally
        many of each experience and fails; it may not be larger than the memory, where Avalanche repeats exemplars. And
        no iterator is held between experiences, which could not be pickled: each experience begins a new pass.
    """

    def __init__(self, *, patterns: int, sample_size: int) -> None:
        super().__init__(patterns, sample_size)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Begin to draw samples."""
        if self.buffers:
            self.buffer_dliter = endless(concat_datasets(self.buffers), self.sample_size)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Choose exemplars, and drop iterator and gradients."""
        super().after_training_exp(strategy, **kwargs)
        self.buffer_dliter = iter(())
        self.reference_gradients = torch.empty(0)

    def update_memory(self, dataset: Any, num_workers: int = 0, **kwargs: Any) -> None:
        """Keep some images of a data set."""
        rows = torch.randperm(len(dataset))[: self.patterns_per_experience]
        self.buffers.append(dataset.subset(rows.tolist()))

    @property
    def kept_bytes(self) -> int:
        """Bytes of the exemplars and their labels (8 each)."""
        return sum(exemplar_bytes(exemplars) for exemplars in self.buffers)


def patterns_per_experience(setup: TrainingSetup, *, of: str) -> int:
    """Return how many exemplars of each experience a method may keep.

    Args:
        setup: With the number of experiences of the stream.
        of: Name of the method, for people.

    Raises:
        ConfigError: That is less than one, or less than one for each class.
    """
    size, n = setup.memory(of=of), max(1, setup.n_experiences)
    if size < n:
        raise ConfigError(
            f"{of}: a memory of {size} images is less than one exemplar for each of {n} experiences; raise "
            "settings.memory_size"
        )
    return size // n


def build_gem(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build GEM.

    Raises:
        ConfigError: The memory is too small, or there is no solver of quadratic programmes.
    """
    if "quadprog" not in qpsolvers.available_solvers:
        raise ConfigError("gem: solves a quadratic programme in every step and finds no solver: pip install quadprog")
    patterns = patterns_per_experience(setup, of="gem")
    return naive_with(GEM(patterns=patterns, strength=setup.settings.gem_strength), setup, plugins)


def build_agem(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build A-GEM.

    Raises:
        ConfigError: The memory is too small.
    """
    patterns = patterns_per_experience(setup, of="agem")
    return naive_with(AGEM(patterns=patterns, sample_size=setup.batch_size), setup, plugins)
