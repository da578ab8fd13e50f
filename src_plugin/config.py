"""SleepConfig: every setting of a sleep, checked when it is made.

`SleepConfig()` is `auto`: the sleep in closed form (see `closed_form.py`), then settling and levelling.
`SleepConfig(engine="simulated")` simulates that sleep; `SleepConfig.preset(name)` gives published constants, which are
always simulated (see `presets.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from src_plugin.errors import ConfigError, did_you_mean

PerLayer = float | tuple[float, ...]

Engine = Literal["closed_form", "simulated"]

NoiseKind = Literal["gaussian", "binary"]

Prior = Literal["counts", "equal"]

SIMULATION = (
    *("steps_growth", "input_spikes", "input_share", "max_rate", "dt", "patch", "decay", "gate_width", "inhibition"),
    *("gain", "normalise", "thresholds", "target_rates", "inc", "dec", "potentiation"),
)
"""Fields that only a simulated sleep reads."""


@dataclass(frozen=True, kw_only=True)
class SleepConfig:
    """How the head sleeps, and what is done around the sleep.

    The defaults are `auto`. Fields that describe a layer come as three numbers where the head is not known yet:
    (first layer, every layer between, output layer); a head of one layer uses the last.

    Attributes:
        engine: How the sleep itself is computed: in "closed_form", or "simulated" step by step. The closed
            form is the expectation of the simulated, ungated sleep.
        steps: Length of a simulated sleep in steps. A tuple gives the length of the first, second, ... sleep, the last
            one from then on. 0 means no sleep at all, of either engine: nothing is changed by any stage.
        steps_growth: Steps added with every sleep: the k-th sleep (from 0) has `steps + k * steps_growth`.
        input_spikes: Expected input spikes per step, n; input i spikes with p_i = min(1, n * x_i / sum(x)), x the mean
            input. Used where `max_rate` is None.
        input_share: Upper bound of n, as a share of the inputs. Where most inputs spike in every step, few are silent,
            and units are excited by what should inhibit them.
        max_rate: Firing rate r of an input of mean 1, in Hz; p_i = min(1, 2 * dt * r * x_i). The factor 2 is that of
            the authors' code (its rate is nominal).
        dt: Length of a step in s. Only with `max_rate`.
        patch: Side, in pixels, of the square window of the mean image that is shown in a step, at a fresh random
            place each step. None shows the whole mean. Needs a square mean image.
        decay: Factor on every membrane potential per step: the leak.
        gate_width: Width of the weight-dependent gate of the plasticity rule, in weight units; None is the ungated
            rule printed as Algorithm 1 of the paper.
        inhibition: Share of the layer's mean impulse taken from every impulse of the layer (0 in all published runs).
        gain: Factor on all synaptic impulses (`alpha_scale` of the authors' code).
        normalise: Also divide the gain of each layer by its data-based norm, as the authors' code does.
        thresholds: Membrane thresholds, one per layer. None measures them: see `target_rates`.
        target_rates: Fraction of steps in which a unit of the layer fires, on average, when the sleep begins.
        inc: Potentiation step in weight units, one number or one per layer. None: see `potentiation`.
        dec: Depression step in weight units, one number or one per layer. None: see `depression`.
        potentiation: Potentiation over a whole sleep of a unit firing at its target rate, in standard deviations of
            the layer's weights, before `depth`. Used where `inc` is None.
        depression: The same for depression, in closed form, too. Used where `dec` is None.
        depth: Factor on `potentiation` and `depression`. None is 0.25 in closed form; a simulated sleep measures it on
            inputs of the head then, see `src_plugin.night.calibrate`.
        replay: The sleep itself. Off leaves settling and levelling alone: weight averaging with a data-free
            coefficient, the rival that sleep is compared with.
        settle: Go back towards the weights before the experience until noise-driven outputs are balanced
            between earlier and new classes.
        level: Even the outputs until noise gives each seen class its share, see `prior`.
        noise: What settling and levelling show the head: "gaussian" noise (`src_plugin.night.noise`), or "binary" as it
            was before (`src_plugin.night.binary_noise`).
        prior: Which share of that noise each class is to win: that of its images among all ("counts"), or all the same
            ("equal"), which favours rare classes.
        rehearsal_gate: If earlier classes were in the training batches, let rehearsed and new samples judge what the
            night gave, and undo it if it was nothing; leave the sleep itself out where another plugin protects what
            earlier inputs evoke (`protects_old_inputs`).
        balance_gate: Do not sleep if noise already gives the new classes no more than their share; a network that
            rehearses levels its outputs all the same, if its samples say that this helps.
        first_gate: Keep a first, simulated sleep shallow enough that what was just learnt stays learnt.
        new_classes_gate: Do not sleep after an experience that showed all classes and no new one; a pure sleep does not
            ask.
        hidden_gate: Level only where the head is a single layer: it has no hidden units to replay with, and no weights
            that settling would have to bring back. Asked where the sleep itself and levelling are both on.
    """

    engine: Engine = "closed_form"

    steps: int | tuple[int, ...] = 800
    steps_growth: int = 0

    input_spikes: float = 32.0
    input_share: float = 1 / 24
    max_rate: float | None = None
    dt: float = 0.001
    patch: int | None = None

    decay: float = 0.999
    gate_width: float | None = None
    inhibition: float = 0.0
    gain: float = 1.0
    normalise: bool = False
    thresholds: tuple[float, ...] | None = None
    target_rates: tuple[float, float, float] = (0.018, 0.011, 0.005)

    inc: PerLayer | None = None
    dec: PerLayer | None = None
    potentiation: tuple[float, float, float] = (0.020, 0.008, 0.005)
    depression: tuple[float, float, float] = (0.29, 0.25, 0.03)
    depth: float | None = None

    replay: bool = True
    settle: bool = True
    level: bool = True
    noise: NoiseKind = "gaussian"
    prior: Prior = "counts"
    rehearsal_gate: bool = True
    balance_gate: bool = True
    first_gate: bool = True
    new_classes_gate: bool = True
    hidden_gate: bool = True

    def __post_init__(self) -> None:
        """Normalise sequences to tuples and refuse what cannot be meant."""
        for name in ("steps", "thresholds", "target_rates", "inc", "dec", "potentiation", "depression"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        for name, known in (("engine", get_args(Engine)), ("noise", get_args(NoiseKind)), ("prior", get_args(Prior))):
            value = getattr(self, name)
            if value not in known:
                hint = did_you_mean(str(value), known)
                raise ConfigError(f"SleepConfig({name}={value!r}): unknown {name}{hint}")
        for names, is_meant, wanted in _CHECKS:
            for name in names:
                value = getattr(self, name)
                if not is_meant(value):
                    raise ConfigError(f"SleepConfig({name}={value!r}): {name} must be {wanted}")
        if self.engine == "closed_form":
            idle = [f.name for f in fields(self) if f.name in SIMULATION and getattr(self, f.name) != f.default]
            if idle:
                raise ConfigError(
                    f"SleepConfig({idle[0]}={getattr(self, idle[0])!r}): only a simulated sleep reads {idle[0]}; add "
                    "engine='simulated'"
                )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> SleepConfig:
        """Return the settings published under a name, e.g. `SleepConfig.preset("paper/split_mnist")`.

        Args:
            name: A key of `src_plugin.presets.PRESETS`.
            **changes: Fields to set otherwise than the preset does.

        Raises:
            ConfigError: The name, or a field to change, is unknown; the nearest known one is named.
        """
        from src_plugin.presets import PRESETS

        if name not in PRESETS:
            raise ConfigError(f"unknown preset {name!r}{did_you_mean(name, PRESETS)}")
        return cls.from_dict({**PRESETS[name].settings, **changes})

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> SleepConfig:
        """Make a config from a mapping, e.g. out of YAML or JSON; lists become tuples.

        Raises:
            ConfigError: A key is unknown (the nearest known one is named) or a value cannot be meant.
        """
        known = [field.name for field in fields(cls)]
        for key in settings:
            if key not in known:
                raise ConfigError(f"unknown SleepConfig field {key!r}{did_you_mean(key, known)}")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, in a form that JSON and YAML can hold and `from_dict` reads back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def steps_at(self, index: int) -> int:
        """Return the length, in steps, of sleep number `index` (from 0)."""
        base = self.steps[min(index, len(self.steps) - 1)] if isinstance(self.steps, tuple) else self.steps
        return base + index * self.steps_growth if base else 0

    @property
    def is_off(self) -> bool:
        """Whether no sleep can change anything: all have zero steps, or every stage is off."""
        steps = self.steps if isinstance(self.steps, tuple) else (self.steps,)
        return not any(steps) or not (self.replay or self.settle or self.level)

    @property
    def simulates(self) -> bool:
        """Whether the sleep itself is on, and simulated."""
        return self.replay and self.engine == "simulated"

    @property
    def needs_rates(self) -> bool:
        """Whether a stage shows the head spikes or binary noise, at rates that the mean input gives."""
        return self.simulates or (self.noise == "binary" and not self.is_pure)

    @property
    def is_pure(self) -> bool:
        """Whether a sleep is nothing but SRC: no settling, no levelling."""
        return not (self.settle or self.level)


def as_config(config: SleepConfig | str | None) -> SleepConfig:
    """Return the config that a user meant: itself, a preset by name, or `auto` for None.

    Raises:
        ConfigError: It is neither, or the preset is unknown.
    """
    if isinstance(config, SleepConfig):
        return config
    if config is None or isinstance(config, str):
        return SleepConfig.preset(config or "auto")
    raise ConfigError(
        f"config is a {type(config).__name__}; give a SleepConfig, the name of a preset, or "
        "SleepConfig.from_dict({...}); names of layers go to head=[...]"
    )


def by_depth(triple: tuple[float, float, float], n_layers: int) -> tuple[float, ...]:
    """Spread (first, between, output) over a head; a head of one layer is an output layer."""
    first, between, output = triple
    return (first, *[between] * (n_layers - 2), output) if n_layers > 1 else (output,)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: object) -> bool:
    return _is_number(value) and value > 0  # type: ignore[operator]


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are(value: object, is_meant: Callable[[Any], bool]) -> bool:
    """Whether all numbers of a tuple, of which there must be one, are meant; another value stands for itself."""
    return all(map(is_meant, value)) and bool(value) if isinstance(value, tuple) else is_meant(value)


def _is_least_0(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_threshold(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0  # infinite is silence


_CHECKS: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("steps",), lambda v: _are(v, lambda s: _is_int(s) and s >= 0), "whole, 0 or more"),
    (("steps_growth",), lambda v: _is_int(v) and v >= 0, "0 or more"),
    (("input_spikes", "dt", "gain"), _is_positive, "a finite number above 0"),
    (("max_rate", "gate_width"), lambda v: v is None or _is_positive(v), "None or a finite number above 0"),
    (("patch",), lambda v: v is None or (_is_int(v) and v > 0), "None or pixels > 0"),
    (("decay", "input_share"), lambda v: _is_number(v) and 0 < v <= 1, "in (0, 1]"),
    (("inhibition",), _is_least_0, "a finite number, 0 or more"),
    (("depth",), lambda v: v is None or _is_least_0(v), "None or a finite number, 0 or more"),
    (
        ("target_rates", "potentiation", "depression"),
        lambda v: isinstance(v, tuple) and len(v) == 3 and _are(v, _is_least_0),
        "three numbers, 0 or more: (first layer, between, output layer)",
    ),
    (("target_rates",), lambda v: _are(v, lambda rate: 0 < rate < 1), "fractions within (0, 1)"),
    (("inc", "dec"), lambda v: v is None or _are(v, _is_least_0), "None, a number, or one number per layer, 0 or more"),
    (
        ("thresholds",),
        lambda v: v is None or (isinstance(v, tuple) and _are(v, _is_threshold)),
        "None, or one number per layer, 0 or more",
    ),
    (
        (
            *("normalise", "replay", "settle", "level", "rehearsal_gate", "balance_gate", "first_gate"),
            *("new_classes_gate", "hidden_gate"),
        ),
        lambda v: isinstance(v, bool),
        "true or false",
    ),
)
"""Fields, what they may be, and how that is called."""
