"""Methods that hold weights or answers, as Avalanche has them, mended where that is needed, and what each keeps.

All but LwF hold weights: they add lambda * sum of importance * (weight - anchor)^2 to the loss, and differ in what
makes a weight important.
"""

from __future__ import annotations

from typing import Any

import torch
from avalanche.models.utils import avalanche_forward
from avalanche.training.plugins import EWCPlugin, LwFPlugin, MASPlugin, SynapticIntelligencePlugin
from avalanche.training.utils import ParamData, zerolike_params_dict
from torch import Tensor, nn
from torch.utils.data import DataLoader

from src_plugin.head.modes import eval_mode
from strategies.setup import TrainingSetup, naive_with, nbytes


class EWC(EWCPlugin):  # type: ignore[misc]
    """Elastic weight consolidation, with a penalty for each earlier experience or, online, a single one.

    Args:
        ewc_lambda: Weight of the penalty.
        decay: Online: how much of the older Fisher information is kept, in [0, 1]; the anchor is the last network. None
            keeps Fisher information and anchors of all experiences apart.

    Source:
        Kirkpatrick et al. 2017, PNAS; online: Schwarz et al. 2018, ICML (progress & compress); Avalanche, EWCPlugin.
        Differs: the Fisher information is that of the mean gradient of a training batch, so it falls with the batch
        size, and `ewc_lambda` goes with it.
    """

    def __init__(self, *, ewc_lambda: float, decay: float | None = None) -> None:
        super().__init__(ewc_lambda, mode="separate" if decay is None else "online", decay_factor=decay)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Make room for outputs that are new."""
        for kept in (*self.importances.values(), *self.saved_params.values()):
            _grow(kept, strategy.model)

    @property
    def kept_bytes(self) -> int:
        """Bytes of Fisher information and anchors, which grow with every experience unless they are online."""
        kept = [*self.importances.values(), *self.saved_params.values()]
        return nbytes(values.data for parameters in kept for values in parameters.values())


class SI(SynapticIntelligencePlugin):  # type: ignore[misc]
    """Synaptic Intelligence: a weight is the more important, the more its way through an experience lowered the loss.

    With `moved` = weights at the end minus the anchor, which is the network at the beginning, an experience adds
    sum over updates of (-gradient * change) / (moved^2 + xi) to the importance, which never falls below 0. The gradient
    is that of the loss alone: what the penalty pulls is taken off again. A sleep comes after this account is closed and
    before the next anchor is taken, so importance does not contain its jump, and the anchor does.

    Args:
        si_lambda: Weight of the penalty: the paper's c, where 1 weighs old and new alike. Noise makes importance too
            large, so less is needed; plain SGD diverges where learning rate * si_lambda * importance exceeds 1, and
            importance grows from one experience to the next.
        xi: Damping, in squared weights.

    Source:
        Zenke, Poole, Ganguli 2017, ICML, equations 3 to 5; authors' code pathint/protocols.py, fig_split_mnist (there
        c = 1 and xi = 0.001, on Adam and with a head per task). Differs: the optimizer is not reset.
        Avalanche 0.6 has another one, SynapticIntelligencePlugin, of which only the choice of parameters is left here
        (and the class, by which SRCPlugin knows to come after it): on a CPU its copies of the weights are the weights
        themselves, so that importance stays 0; and importance ends at 0.001, where nearly all of it then lies.
    """

    def __init__(self, *, si_lambda: float, xi: float = 1e-3) -> None:
        super().__init__(si_lambda, eps=xi)
        self._strength = si_lambda
        self.importance: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}
        self._gain: dict[str, Tensor] = {}  # how far each weight has lowered the loss
        self._start: dict[str, Tensor] = {}

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Take the anchor; heads have grown already."""
        named = dict(self.allowed_parameters(strategy.model, self.excluded_parameters))
        self.anchor = {name: p.detach().clone() for name, p in named.items()}
        self._gain = {name: torch.zeros_like(p) for name, p in self.anchor.items()}
        for name in self.importance.keys() & self.anchor.keys():  # others are frozen by now
            self.importance[name] = _grown(self.importance[name], self.anchor[name])

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Copy the weights."""
        self._start = {name: p.detach().clone() for name, p in self._watched(strategy)}

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Add the penalty."""
        held = [(name, p) for name, p in self._watched(strategy) if name in self.importance]
        if held:
            penalties = [(self.importance[name] * (p - self.anchor[name]).square()).sum() for name, p in held]
            strategy.loss += self._strength * torch.stack(penalties).sum()

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Add what this update gained."""
        for name, p in self._watched(strategy):
            if p.grad is None:
                continue
            start, gradient = self._start[name], p.grad
            if name in self.importance:
                gradient = gradient - 2 * self._strength * self.importance[name] * (start - self.anchor[name])
            self._gain[name] -= gradient * (p.detach() - start)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Close the account of this experience."""
        for name, p in self._watched(strategy):
            moved = p.detach() - self.anchor[name]
            added = self._gain[name] / (moved.square() + self.eps)
            self.importance[name] = (self.importance.get(name, 0.0) + added).clamp_min(0.0)
        self.anchor, self._gain, self._start = {}, {}, {}

    def _watched(self, strategy: Any) -> list[tuple[str, Tensor]]:
        return [(name, p) for name, p in strategy.model.named_parameters() if name in self.anchor]

    @property
    def kept_bytes(self) -> int:
        """Bytes of the importance; anchors are the network as the next experience finds it."""
        return nbytes(self.importance.values())


class MAS(MASPlugin):  # type: ignore[misc]
    """Memory aware synapses: a weight is the more important, the more the squared length of the outputs hangs on it.

    Source:
        Aljundi et al. 2018, ECCV; Avalanche, MASPlugin. Differs: gradients are those of a batch's mean, and the
        importance of old and new experiences is averaged (half and half) instead of summed, both as in Avalanche.
        Importance is computed in eval mode; Avalanche computes it in training mode, where dropout makes it random. A
        batch whose loss is exactly 0 is trained on; Avalanche 0.6 takes it for a missing loss and raises.
    """

    def __init__(self, *, mas_lambda: float) -> None:
        super().__init__(lambda_reg=mas_lambda)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Make room for outputs that are new."""
        for kept in (self.importance, self.params):
            _grow(kept or {}, strategy.model)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Add the penalty."""
        if self.importance is None:
            return
        penalty = torch.zeros((), device=strategy.device)
        for name, p in strategy.model.named_parameters():
            if name in self.importance:
                penalty = penalty + (self.importance[name].data * (p - self.params[name].data).square()).sum()
        strategy.loss += self._lambda * penalty

    def _get_importance(self, strategy: Any) -> dict[str, Any]:
        """Return the mean absolute gradient of the squared length of the outputs, over the batches of an experience."""
        model, dataset = strategy.model, strategy.experience.dataset
        importance = dict(zerolike_params_dict(model))
        batches = DataLoader(dataset, batch_size=strategy.train_mb_size, collate_fn=dataset.collate_fn)
        with eval_mode(model):
            for images, *_, tasks in batches:
                strategy.optimizer.zero_grad()
                outputs = avalanche_forward(model, images.to(strategy.device), tasks)  # (n, n_classes)
                outputs.square().sum(dim=1).mean().backward()
                for name, p in model.named_parameters():
                    if p.grad is not None:
                        importance[name].data += p.grad.abs() / len(batches)
        return importance

    @property
    def kept_bytes(self) -> int:
        """Bytes of importance and anchors."""
        kept = [*(self.importance or {}).values(), *(self.params or {}).values()]
        return nbytes(values.data for values in kept)


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


def _grown(old: Tensor, like: Tensor) -> Tensor:
    """Return values of a parameter that may have grown since, with 0 for what is new."""
    new = torch.zeros_like(like)
    new[tuple(slice(n) for n in old.shape)] = old
    return new


def _grow(kept: dict[str, Any], model: nn.Module) -> None:
    """Give what Avalanche keeps the shapes of the model's parameters; its own way to do so warns with torch 2.9."""
    for name, p in model.named_parameters():
        if name in kept and kept[name].shape != p.shape:
            kept[name] = ParamData(name, init_tensor=_grown(kept[name].data, p.detach()), device=p.device)


def build_ewc(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build EWC with a penalty for each earlier experience."""
    return naive_with(EWC(ewc_lambda=setup.settings.ewc_lambda), setup, plugins)


def build_ewc_online(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build EWC with a single penalty."""
    settings = setup.settings
    return naive_with(EWC(ewc_lambda=settings.ewc_online_lambda, decay=settings.ewc_decay), setup, plugins)


def build_si(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build Synaptic Intelligence."""
    return naive_with(SI(si_lambda=setup.settings.si_lambda), setup, plugins)


def build_mas(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build memory aware synapses."""
    return naive_with(MAS(mas_lambda=setup.settings.mas_lambda), setup, plugins)


def build_lwf(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build LwF."""
    settings = setup.settings
    return naive_with(LwF(alpha=settings.lwf_alpha, temperature=settings.lwf_temperature), setup, plugins)
