"""What is put in the place of a simulated sleep, to see which part of it is worth something."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_plugin.config import ClosedForm, by_depth
from src_plugin.head.state import HeadState
from src_plugin.night.closed_form import inhibit

DEFAULT = tuple(ClosedForm().depth * share for share in ClosedForm().depression)
"""The removal of `auto`: first layer, layers between, output layer."""

Again = Callable[[HeadState, NDArray[np.float64]], HeadState]
Update = list[Tensor]
"""How far each weight moves, one tensor per layer, shape (n_post, n_pre)."""

NONE, SIMULATED = "none", "simulated"

TITLES = {
    NONE: "no sleep",
    SIMULATED: "the simulated sleep",
    "unit_means": "only each unit's mean change",
    "unit_means_negative": "each unit's change, on its negative weights alone",
    "rest": "only what is left without it",
    "closed_form": "closed form, as by default",
    "closed_form_alike": "closed form, step sizes of the night",
    "closed_form_norm": "closed form, norm of the night",
    "noise": "isotropic noise, norm of the night",
    "shuffled_weights": "simulated on shuffled weights",
    "permuted_units": "the true update, units permuted",
    "uniform_stimulus": "simulated on a uniform stimulus",
    "hidden_only": "hidden layers only",
    "output_only": "output layer only",
}
"""What may stand in the place of a sleep -> what people read, in the order of tables."""


def replaced(
    trained: HeadState,
    slept: HeadState,
    mean: NDArray[np.float64],
    *,
    again: Again,
    generator: np.random.Generator,
    removal: tuple[float, ...] | None = None,
    gated: bool = False,
) -> dict[str, HeadState]:
    """Return what stands in the place of a sleep, by the names of TITLES.

    Args:
        trained: The head's parameters before the sleep.
        slept: After it.
        mean: Mean of the head's inputs, shape (n_0,).
        again: Sleeps by the same draws from other parameters and another mean.
        generator: For noise and permutations.
        removal: The night's own step sizes as `inhibit` takes them; None where they were not measured.
        gated: Whether the rule moved negative weights alone.
    """
    update = [b - a for a, b in zip(trained.weights, slept.weights, strict=True)]
    silent = [torch.zeros_like(part) for part in update]
    means = [part.mean(1, keepdim=True).expand_as(part) for part in update]
    shuffled = trained.with_weights([shuffle(w, generator) for w in trained.weights])
    moved = again(shuffled, mean)
    updates: dict[str, Update] = {
        NONE: silent,
        SIMULATED: update,
        "unit_means": means,
        "rest": [part - mean for part, mean in zip(update, means, strict=True)],
        "noise": with_norms([normal(part, generator) for part in update], update),
        "shuffled_weights": [b - a for a, b in zip(shuffled.weights, moved.weights, strict=True)],
        "permuted_units": [part[torch.from_numpy(generator.permutation(len(part)))] for part in update],
        "hidden_only": [*update[:-1], silent[-1]],
        "output_only": [*silent[:-1], update[-1]],
    }
    if gated:
        updates["unit_means_negative"] = [on_negative(w, part) for w, part in zip(trained.weights, update, strict=True)]
    states = {name: moved_by(trained, parts) for name, parts in updates.items()}
    states[SIMULATED] = slept  # to the last bit
    states["uniform_stimulus"] = again(trained, np.full_like(mean, mean.mean()))

    n_layers, centre = len(trained.weights), torch.from_numpy(mean).to(trained.weights[0])
    states["closed_form"] = inhibit(trained, centre, by_depth((DEFAULT[0], DEFAULT[1], DEFAULT[2]), n_layers)).state
    if removal is not None:
        states["closed_form_alike"] = inhibit(trained, centre, removal).state
    whole = inhibit(trained, centre, [1.0] * n_layers).state
    along = [b - a for a, b in zip(trained.weights, whole.weights, strict=True)]
    states["closed_form_norm"] = moved_by(trained, with_norms(along, update))
    return {name: states[name] for name in TITLES if name in states}


def moved_by(state: HeadState, update: Update) -> HeadState:
    """Return a state with an update added to its weights."""
    return state.with_weights([w + part for w, part in zip(state.weights, update, strict=True)])


def with_norms(update: Update, like: Update) -> Update:
    """Return an update whose layers have the norms of another's; a layer that does not move stays where it is."""
    return [
        part * (float(other.norm()) / length if (length := float(part.norm())) > 0 else 0.0)
        for part, other in zip(update, like, strict=True)
    ]


def on_negative(weight: Tensor, update: Tensor) -> Tensor:
    """Put each unit's whole change on its negative weights, on all of them the same; shape (n_post, n_pre)."""
    negative = (weight < 0).to(update)
    n = negative.sum(1, keepdim=True)
    return negative * torch.where(n > 0, update.sum(1, keepdim=True) / n.clamp(min=1), 0.0)


def shuffle(weight: Tensor, generator: np.random.Generator) -> Tensor:
    """Return the same weights of a layer in a random order."""
    return weight.flatten()[torch.from_numpy(generator.permutation(weight.numel()))].reshape(weight.shape)


def normal(like: Tensor, generator: np.random.Generator) -> Tensor:
    """Return Gaussian noise of the shape of a tensor."""
    return torch.from_numpy(generator.standard_normal(tuple(like.shape))).to(like)
