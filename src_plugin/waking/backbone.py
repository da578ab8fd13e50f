"""NormHold: batch norm below a head stays in eval mode in training, as long as everything below the head is frozen.

A frozen parameter stays as it is, but running statistics are buffers: in training mode they move in every forward pass.
Then the backbone is another one, and the mean input of earlier experiences no longer fits its features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


class NormHold:
    """Puts norm layers with running statistics below a head into eval mode, and remembers of which head, by name."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()  # of layers that may be trained: the head, and Linear layers above it
        self._held: list[nn.Module] = []

    def __call__(self, model: nn.Module, names: Sequence[str] | None = None) -> None:
        """Put norm layers into eval mode if all is frozen below the head; take those back that are frozen no longer.

        Args:
            model: The model, in training.
            names: Names of the layers of its head, and of Linear layers above that; None takes those of the last call.
        """
        self._names = self._names if names is None else tuple(names)
        modules = dict(model.named_modules())
        layers = [modules[name] for name in self._names if name in modules]
        norms = frozen_norms(model, apart_from=layers) if layers else []
        for module in self._held:
            if module not in norms and model.training:
                module.train()
        self._held = [module for module in norms if module.training or module in self._held]
        for module in self._held:
            module.eval()

    def renew(self, model: nn.Module) -> None:
        """Do so again if something has put a held layer back to training, as every `model.train()` does."""
        if any(module.training for module in self._held):
            self(model)

    def let_go(self) -> None:
        """Put what is held back into training mode; only names are kept until the next call."""
        for module in self._held:
            module.train()
        self._held = []


def is_candidate(model: nn.Module) -> bool:
    """Whether norms would move in the next pass while something is frozen.

    Then it is worth to find out whether all but the head is.
    """
    has_frozen = any(not parameter.requires_grad for parameter in model.parameters())
    return has_frozen and any(module.training for module in _norms(model))


def frozen_norms(model: nn.Module, *, apart_from: Iterable[nn.Module]) -> list[nn.Module]:
    """Return batch and instance norms with running statistics, if a model is frozen outside the layers named.

    None if a parameter outside them is trainable, or if there is none at all: then nothing says that the rest is to
    stay as it is.
    """
    layers = list(apart_from)
    known = {id(p) for layer in layers for p in layer.parameters()}
    outside = [p for p in model.parameters() if id(p) not in known]
    if not outside or any(p.requires_grad for p in outside):
        return []
    return [norm for norm in _norms(model) if norm not in layers]


def _norms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, _NormBase) and m.running_mean is not None]
