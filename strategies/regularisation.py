"""EWC and LwF as Avalanche has them, mended where that is needed, and what each keeps, counted in bytes."""

from __future__ import annotations

from typing import Any

from avalanche.training.plugins import EWCPlugin, LwFPlugin

from strategies.setup import TrainingSetup, naive_with, nbytes


class EWC(EWCPlugin):  # type: ignore[misc]
    """Elastic weight consolidation with a penalty for each earlier experience.

    Source:
        Kirkpatrick et al. 2017, PNAS; Avalanche, EWCPlugin in separate mode. Differs: the Fisher information is that of
        the mean gradient of a training batch, so it falls with the batch size, and `ewc_lambda` goes with it.
    """

    def __init__(self, *, ewc_lambda: float) -> None:
        super().__init__(ewc_lambda, mode="separate")

    @property
    def kept_bytes(self) -> int:
        """Bytes of Fisher information and anchors, which grow with every experience."""
        kept = [*self.importances.values(), *self.saved_params.values()]
        return nbytes(values.data for parameters in kept for values in parameters.values())


class LwF(LwFPlugin):  # type: ignore[misc]
    """Learning without forgetting: a copy of the network from before the experience teaches its old classes.

    Source:
        Li & Hoiem 2016, ECCV; Avalanche, LwFPlugin. Differs: the teacher is put into eval mode; Avalanche leaves it in
        training mode, where dropout makes what it teaches random.
    """

    def __init__(self, *, alpha: float, temperature: float) -> None:
        super().__init__(alpha=alpha, temperature=temperature)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Copy the network."""
        super().after_training_exp(strategy, **kwargs)
        self.lwf.prev_model.eval()

    @property
    def kept_bytes(self) -> int:
        """Bytes of the teacher, and 8 for each class it knows."""
        if self.lwf.prev_model is None:
            return 0
        classes = sum(len(known) for known in self.lwf.prev_classes_by_task.values())
        return nbytes(self.lwf.prev_model.state_dict().values()) + 8 * classes


def build_ewc(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build EWC with a penalty for each earlier experience."""
    return naive_with(EWC(ewc_lambda=setup.settings.ewc_lambda), setup, plugins)


def build_lwf(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build LwF."""
    settings = setup.settings
    return naive_with(LwF(alpha=settings.lwf_alpha, temperature=settings.lwf_temperature), setup, plugins)
