"""Orthogonal weights modification: weights move only where inputs of earlier experiences do not reach.

Per Linear layer, with x its mean input over a batch: `P = inv(I + sum of x x' / alpha)`; gradient <- gradient P.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.supervised import Naive
from torch import Tensor, nn

from src_plugin.errors import ConfigError
from src_plugin.head.modes import eval_mode
from strategies.setup import TrainingSetup, common, nbytes


class OWMPlugin(SupervisedPlugin):  # type: ignore[misc]
    """Multiplies the gradient of every Linear layer, from the second experience on, by a projector P, (n_in, n_in).

    When an experience ends, all its batches pass the network once more, in eval mode, and each layer's mean input over
    each batch updates P, which begins as the identity. P never changes while an experience lasts. That pass uses a copy
    of torch's random state, so later batches are those of plain fine-tuning.

    With a sleep: `auto` leaves out the sleep itself (`protects_old_inputs`), and what settling and levelling moved is
    projected as training is, by the P of the experiences before; P is then updated with the inputs that the network
    gives its layers after the night. A sleep changes what earlier images evoke in hidden layers, while P goes on to
    protect inputs that there are no more, and its first night leaves a network that learns less under P: it cost 3
    points on Split-MNIST and 6 on Split-Fashion-MNIST.

    Momentum is allowed: within an experience the velocity is a sum of gradients that one and the same P has projected,
    and when P changes, the velocity is multiplied by it too. Weight decay and steps scaled weight by weight (Adam) move
    weights against the projection, so they are refused.

    Args:
        alpha: Regularisation, in units of squared inputs; the smaller against the squared norm of the mean inputs, the
            stricter what was seen is protected, and the less can be learnt.

    Attributes:
        projectors: P of each layer, by its name; empty during the first experience.

    Raises:
        ConfigError: Before an experience is trained on: the network has trainable parameters other than the weights of
            Linear layers, biases included, or the optimizer is not SGD without weight decay.

    Source:
        Zeng, Chen, Cui, Yu, "Continual learning of context-dependent processing in neural networks", Nature Machine
        Intelligence 1 (2019), Methods: recursive P, which the experience that follows is projected with.
        Differs: their published code (github.com/beijixiong3510/OWM) updates P before every training step, so an
        experience is projected away from its own batches too; alpha differs between layers there (0.9 first, 0.6 last)
        and falls within each task (by 0.001 in the first layer); biases are weights of a constant input; gradients are
        clipped at norm 10. Here alpha is one constant number and the mean is that of the layer's inputs, as in their
        code, not the response to the mean image, as in their text.
    """

    protects_old_inputs = True
    """For `SRCPlugin`: see there."""

    def __init__(self, *, alpha: float) -> None:
        super().__init__()
        if not alpha > 0:
            raise ConfigError(f"owm: settings.owm_alpha is {alpha:g}; it must be above 0, for example 1.0")
        self.alpha = alpha
        self.projectors: dict[str, Tensor] = {}
        self._awake: dict[str, Tensor] = {}  # weights before a sleep, while it lasts

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Refuse what cannot be projected; heads have grown already."""
        check_projectable(strategy.model, strategy.optimizer)

    def after_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Project the gradients, penalties of other plugins included."""
        for name, layer in trained_layers(strategy.model).items():
            if name in self.projectors and layer.weight.grad is not None:
                layer.weight.grad = layer.weight.grad @ self.projectors[name]

    def before_sleep(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Copy what a sleep is going to change."""
        layers = trained_layers(strategy.model)
        self._awake = {name: layers[name].weight.detach().clone() for name in self.projectors if name in layers}

    def after_sleep(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Project what the sleep changed."""
        layers = trained_layers(strategy.model)
        with torch.no_grad():
            for name, awake in self._awake.items():
                weight = layers[name].weight
                weight.copy_(awake + (weight - awake) @ self.projectors[name])
        self._awake = {}

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Update the projectors with all batches of the experience, and project what momentum carries on."""
        model, device = strategy.model, strategy.device
        layers = trained_layers(model)
        with eval_mode(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
            for images, *_ in strategy.dataloader:
                with mean_inputs(layers) as means:
                    model(images.to(device))
                for name, x in means:
                    P = self.projectors.setdefault(name, torch.eye(len(x), dtype=x.dtype, device=x.device))
                    recurse(P, x, alpha=self.alpha)
        for name, layer in layers.items():
            velocity = strategy.optimizer.state.get(layer.weight, {}).get("momentum_buffer")
            if velocity is not None and name in self.projectors:
                velocity.copy_(velocity @ self.projectors[name])

    @property
    def kept_bytes(self) -> int:
        """Bytes of the projectors."""
        return nbytes(self.projectors.values())


def recurse(P: Tensor, x: Tensor, *, alpha: float) -> None:
    """Update a projector in place by one mean input: `k = P x / (alpha + x' P x)`, `P <- P - k x' P`.

    This is `inv(P) <- inv(P) + x x' / alpha` by the Woodbury identity; P stays symmetric.

    Args:
        P: Shape (n_in, n_in), symmetric; changed.
        x: Shape (n_in,).
        alpha: Regularisation, above 0.
    """
    Px = P @ x  # (n_in,); x' P is the same, transposed
    step = Px / (alpha + x @ Px).sqrt()  # scaled before the product, so that P stays symmetric to the last bit
    P.addr_(step, step, alpha=-1.0)


def trained_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the Linear layers whose weights are trained, by name."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.weight.requires_grad
    }


@contextmanager
def mean_inputs(layers: dict[str, nn.Linear]) -> Iterator[list[tuple[str, Tensor]]]:
    """Catch the mean input, shape (n_in,), of each layer in the forward passes inside; hooks are gone afterwards."""
    means: list[tuple[str, Tensor]] = []
    names = {layer: name for name, layer in layers.items()}

    def catch(layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        x: Tensor = inputs[0] if inputs else named["input"]
        means.append((names[layer], x.reshape(-1, x.shape[-1]).mean(0)))  # type: ignore[index]

    handles = [layer.register_forward_pre_hook(catch, with_kwargs=True) for layer in layers.values()]
    try:
        yield means
    finally:
        for handle in handles:
            handle.remove()


def check_projectable(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Check that projected gradients are all that training moves weights by.

    Raises:
        ConfigError: They are not.
    """
    layers = trained_layers(model)
    weights = {id(layer.weight) for layer in layers.values()}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in weights:
            owner = name.rpartition(".")[0]
            cure = (
                "build the layers without biases (model.bias: false)"
                if owner in layers
                else "freeze what is not a Linear layer (requires_grad_(False))"
            )
            raise ConfigError(
                f"owm projects the weights of Linear layers only, and {type(model).__name__} also trains {name!r}, "
                f"which would forget unprotected; {cure}, or leave owm out"
            )
    decays = any(group.get("weight_decay", 0) for group in optimizer.param_groups)
    if not isinstance(optimizer, torch.optim.SGD) or decays:
        what = "weight decay" if decays else "steps scaled weight by weight"
        raise ConfigError(
            f"owm: {what} of {type(optimizer).__name__} would move weights against the projection; use SGD, with or "
            "without momentum, and no weight decay (training.optimizer: sgd, training.weight_decay: 0)"
        )


def build_owm(setup: TrainingSetup, plugins: list[Any]) -> Any:
    """Build OWM.

    Avalanche warns of callbacks it does not know, such as `before_sleep`, in plugins that it is constructed with; this
    one is therefore added later, before whatever measures the network.

    Raises:
        ConfigError: See `OWMPlugin`.
    """
    check_projectable(setup.model, setup.optimizer)
    strategy = Naive(**common(setup, plugins))
    strategy.plugins.insert(strategy.plugins.index(strategy.evaluator), OWMPlugin(alpha=setup.settings.owm_alpha))
    return strategy
