"""SleepConfig: every setting of a sleep, checked when it is made.

`SleepConfig()` is `auto`: the sleep in closed form (see `closed_form.py`), then settling and levelling.
`SleepConfig(engine="simulated")` simulates that sleep; `SleepConfig.preset(name)` gives published constants, which are
always simulated (see `presets.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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
        engine: How stage A, the sleep itself, is computed: in "closed_form", or "simulated" step by step. The closed
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
            inputs of the head then, see `src_plugin.night.depth`.
        replay: Stage A, the sleep itself. Off leaves settling and levelling alone: weight averaging with a data-free
            coefficient, the rival that sleep is compared with.
        settle: Stage B: go back towards the weights before the experience until noise-driven outputs are balanced
            between earlier and new classes.
        level: Stage C: even the outputs until noise gives each seen class its share, see `prior`.
        noise: What stages B and C show the head: "gaussian" noise (`src_plugin.night.noise`), or "binary" as it was
            before (`src_plugin.night.binary_noise`).
        prior: Which share of that noise each class is to win: that of its images among all ("counts"), or all the same
            ("equal"), which favours rare classes.
        rehearsal_gate: If earlier classes were in the training batches, let rehearsed and new samples judge what the
            night gave, and undo it if it was nothing; leave stage A out where another plugin protects what earlier
            inputs evoke (`protects_old_inputs`).
        balance_gate: Do not sleep if noise already gives the new classes no more than their share; a network that
            rehearses levels its outputs all the same, if its samples say that this helps.
        first_gate: Keep a first, simulated sleep shallow enough that what was just learnt stays learnt.
        new_classes_gate: Do not sleep after an experience that showed all classes and no new one; a pure sleep does not
            ask.
        hidden_gate: Level only where the head is a single layer: it has no hidden units to replay with, and no weights
            that settling would have to bring back. Asked where stages A and C are both on.
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
        steps = self.steps if isinstance(self.steps, tuple) else (self.steps,)
        _check(bool(steps) and all(_is_int(s) and s >= 0 for s in steps), "steps", self.steps, "whole, 0 or more")
        _check(_is_int(self.steps_growth) and self.steps_growth >= 0, "steps_growth", self.steps_growth, "0 or more")
        for name in ("input_spikes", "dt", "gain"):
            _check(_is_positive(getattr(self, name)), name, getattr(self, name), "a finite number above 0")
        for name in ("max_rate", "gate_width"):
            value = getattr(self, name)
            _check(value is None or _is_positive(value), name, value, "None or a finite number above 0")
        _check(
            self.patch is None or (_is_int(self.patch) and self.patch > 0), "patch", self.patch, "None or pixels > 0"
        )
        _check(_is_number(self.decay) and 0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        _check(
            _is_number(self.inhibition) and self.inhibition >= 0,
            "inhibition",
            self.inhibition,
            "a finite number, 0 or more",
        )
        _check(
            self.depth is None or (_is_number(self.depth) and self.depth >= 0),
            "depth",
            self.depth,
            "None or a finite number, 0 or more",
        )
        share = self.input_share
        _check(_is_positive(share) and share <= 1, "input_share", share, "in (0, 1]")
        for name in ("target_rates", "potentiation", "depression"):
            value = getattr(self, name)
            ok = isinstance(value, tuple) and len(value) == 3 and all(_is_number(v) and v >= 0 for v in value)
            _check(ok, name, value, "three numbers, 0 or more: (first layer, between, output layer)")
        _check(all(0 < r < 1 for r in self.target_rates), "target_rates", self.target_rates, "fractions within (0, 1)")
        for name in ("inc", "dec"):
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            ok = value is None or (bool(numbers) and all(_is_number(v) and v >= 0 for v in numbers))
            _check(ok, name, value, "None, a number, or one number per layer, 0 or more")
        if self.thresholds is not None:
            ok = isinstance(self.thresholds, tuple) and bool(self.thresholds)
            ok = ok and all(isinstance(v, (int, float)) and not isinstance(v, bool) and v >= 0 for v in self.thresholds)
            _check(ok, "thresholds", self.thresholds, "None, or one number per layer, 0 or more")
        gates = ("rehearsal_gate", "balance_gate", "first_gate", "new_classes_gate", "hidden_gate")
        for name in ("normalise", "replay", "settle", "level", *gates):
            value = getattr(self, name)
            _check(isinstance(value, bool), name, value, "true or false")
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
        """Whether stage A is on, and simulated."""
        return self.replay and self.engine == "simulated"

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


def _check(ok: bool, name: str, value: object, wanted: str) -> None:
    if not ok:
        raise ConfigError(f"SleepConfig({name}={value!r}): {name} must be {wanted}")
