"""The table of controls: each makes something else of the trained head, the slept head and the mean input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from src_plugin.config import ClosedForm, by_depth
from src_plugin.head.state import HeadState
from src_plugin.night.closed_form import fractions_of_steps, inhibit
from strategies.aligning import align

Again = Callable[[HeadState, NDArray[np.float64]], HeadState]
Update = list[Tensor]
"""How far each weight moves, one tensor per layer, shape (n_post, n_pre)."""

NONE, SIMULATED = "none", "simulated"


@dataclass(frozen=True)
class Current:
    """What the current experience showed.

    Attributes:
        inputs: Of the head, shape (n, n_0).
        hidden: Gives the inputs of the last layer, of parameters and inputs of the head.
        new: Classes of this experience.
        old: Classes of earlier ones.
    """

    inputs: Tensor
    hidden: Callable[[HeadState, Tensor], Tensor]
    new: tuple[int, ...]
    old: tuple[int, ...]


@dataclass(frozen=True)
class Given:
    """What a control is given of a night.

    Attributes:
        trained: Parameters before the sleep.
        slept: After it.
        mean: Mean of the head's inputs, shape (n_0,).
        again: Sleeps by the same draws from other parameters and another mean.
        seed: Of noise and permutations, the same for each control.
        gated: Whether the rule moved negative weights alone.
        simulated: Whether the sleep was; else it was the closed form.
        removal: The night's own step sizes as `fractions_of_steps` takes them; None where they were not measured.
        current: The current experience; None where it is not looked at.
    """

    trained: HeadState
    slept: HeadState
    mean: NDArray[np.float64]
    again: Again
    seed: tuple[int, ...]
    gated: bool = False
    simulated: bool = True
    removal: tuple[float, ...] | None = None
    current: Current | None = None

    def generator(self) -> np.random.Generator:
        """Return a new generator for noise and permutations."""
        return np.random.default_rng(list(self.seed))

    @property
    def update(self) -> Update:
        """How far the sleep moved each weight."""
        return [b - a for a, b in zip(self.trained.weights, self.slept.weights, strict=True)]

    @property
    def mean_input(self) -> Tensor:
        """The mean input, in the type of the weights."""
        return torch.from_numpy(self.mean).to(self.trained.weights[0])

    @property
    def now(self) -> Current:
        """The current experience, of controls that are not made without."""
        assert self.current is not None
        return self.current


def _always(given: Given) -> str:
    return ""


def _needs_layers(given: Given) -> str:
    return "" if len(given.trained.weights) > 1 else "the head has one layer"


def _needs_gate(given: Given) -> str:
    return "" if given.gated else "the rule is not gated: all weights move"


def _needs_removal(given: Given) -> str:
    return "" if given.removal is not None else "the step sizes of the night were not measured"


def _needs_simulation(given: Given) -> str:
    return "" if given.simulated else "the sleep is the closed form"


def _needs_current(given: Given) -> str:
    return "" if given.current is not None else "the images of the current experience are not looked at"


def _needs_old(given: Given) -> str:
    return _needs_current(given) or ("" if given.now.old else "there are no old classes yet")


@dataclass(frozen=True)
class Control:
    """Something in the place of a sleep.

    Attributes:
        title: What people read.
        act: Makes parameters of what it is given.
        why_not: Says why it has no meaning there; "" if it has one.
        whole_night: Whether it stands in the place of settling and levelling as well.
    """

    title: str
    act: Callable[[Given], HeadState]
    why_not: Callable[[Given], str] = _always
    whole_night: bool = False


def _moved(change: Callable[[Given], Update]) -> Callable[[Given], HeadState]:
    """Return a control that moves the trained weights by something else than the sleep did."""
    return lambda given: moved_by(given.trained, change(given))


def _unit_means(given: Given) -> Update:
    return [part.mean(1, keepdim=True).expand_as(part) for part in given.update]


def _rest(given: Given) -> Update:
    return [part - mean for part, mean in zip(given.update, _unit_means(given), strict=True)]


def _on_negative(given: Given) -> Update:
    return [on_negative(w, part) for w, part in zip(given.trained.weights, given.update, strict=True)]


def _noise(given: Given) -> Update:
    update, generator = given.update, given.generator()
    return with_norms([normal(part, generator) for part in update], update)


def _decay(given: Given) -> Update:
    return with_norms([-w for w in given.trained.weights], given.update)


def _on_shuffled(given: Given) -> Update:
    generator = given.generator()
    shuffled = given.trained.with_weights([shuffle(w, generator) for w in given.trained.weights])
    moved = given.again(shuffled, given.mean)
    return [b - a for a, b in zip(shuffled.weights, moved.weights, strict=True)]


def _permuted_units(given: Given) -> Update:
    generator = given.generator()
    return [part[torch.from_numpy(generator.permutation(len(part)))] for part in given.update]


def _hidden_only(given: Given) -> Update:
    return [*given.update[:-1], torch.zeros_like(given.update[-1])]


def _output_only(given: Given) -> Update:
    return [*(torch.zeros_like(part) for part in given.update[:-1]), given.update[-1]]


def _inhibited(given: Given, fractions: Sequence[float]) -> HeadState:
    return inhibit(given.trained, given.mean_input, fractions).state


def _by_steps(given: Given) -> HeadState:
    return _inhibited(given, fractions_of_steps(given.trained, given.mean_input, given.removal or ()))


def _closed_form_norm(given: Given) -> Update:
    whole = _inhibited(given, fractions_of_steps(given.trained, given.mean_input, [1.0] * len(given.trained.weights)))
    along = [b - a for a, b in zip(given.trained.weights, whole.weights, strict=True)]
    return with_norms(along, given.update)


def _aligned(given: Given) -> HeadState:
    output = given.trained.weights[-1].clone()
    align(output, old=given.now.old, new=given.now.new)
    return given.trained.with_weights([*given.trained.weights[:-1], output])


def _centred(given: Given) -> HeadState:
    """Shift the outputs of seen classes until the current experience gives all the same mean output."""
    state, now = given.trained, given.now
    hidden = now.hidden(state, now.inputs.to(state.weights[0]))
    seen, mean = [*now.old, *now.new], hidden.mean(0)
    outputs = F.linear(mean, state.weights[-1], state.biases[-1])[seen]
    shifted = state.weights[-1].clone()  # written as levelling writes its offsets, since there may be no biases
    shifted[seen] += (outputs.mean() - outputs)[:, None] * mean / (mean @ mean)
    return state.with_weights([*state.weights[:-1], shifted])


CONTROLS: Mapping[str, Control] = MappingProxyType(
    {
        NONE: Control("no sleep", lambda given: given.trained),
        SIMULATED: Control("the simulated sleep", lambda given: given.slept),
        "unit_means": Control("only each unit's mean change", _moved(_unit_means)),
        "unit_means_negative": Control(
            "each unit's change, on its negative weights alone", _moved(_on_negative), _needs_gate
        ),
        "rest": Control("only what is left without it", _moved(_rest)),
        "closed_form": Control(
            "closed form, as by default",
            lambda given: _inhibited(given, by_depth(ClosedForm().fractions, len(given.trained.weights))),
            _needs_simulation,
        ),
        "closed_form_alike": Control("closed form, step sizes of the night", _by_steps, _needs_removal),
        "closed_form_norm": Control("closed form, norm of the night", _moved(_closed_form_norm), _needs_simulation),
        "noise": Control("isotropic noise, norm of the night", _moved(_noise)),
        "decay": Control("decay, norm of the night", _moved(_decay)),
        "shuffled_weights": Control("simulated on shuffled weights", _moved(_on_shuffled)),
        "permuted_units": Control("the true update, units permuted", _moved(_permuted_units)),
        "uniform_stimulus": Control(
            "simulated on a uniform stimulus",
            lambda given: given.again(given.trained, np.full_like(given.mean, given.mean.mean())),
        ),
        "permuted_pixels": Control(
            "mean image with its pixels permuted",
            lambda given: given.again(given.trained, given.generator().permutation(given.mean)),
        ),
        "last_mean": Control(
            "mean of the last experience only",
            lambda given: given.again(given.trained, given.now.inputs.double().mean(0).numpy()),
            _needs_current,
        ),
        "hidden_only": Control("hidden layers only", _moved(_hidden_only), _needs_layers),
        "output_only": Control("output layer only", _moved(_output_only), _needs_layers),
        "aligned": Control("weight aligning, and nothing else", _aligned, _needs_old, whole_night=True),
        "centred": Control(
            "outputs shifted by the current experience, and nothing else", _centred, _needs_old, whole_night=True
        ),
    }
)
"""What may stand in the place of a sleep, in the order of tables."""

TITLES = {name: control.title for name, control in CONTROLS.items()}
"""Its name -> what people read."""


IN_PLACE = tuple(name for name, control in CONTROLS.items() if not control.whole_night)
"""Those that leave the rest of the night as it is."""


def replaced(given: Given) -> dict[str, HeadState]:
    """Return what stands in the place of a sleep alone, of all controls that have a meaning there."""
    return {name: CONTROLS[name].act(given) for name in IN_PLACE if not CONTROLS[name].why_not(given)}


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
