"""SleepConfig: every setting of a sleep, checked when it is made.

`SleepConfig()` is `auto`: the sleep in closed form (see `src_plugin.night.closed_form`), then settling and levelling.
`SleepConfig(sleep=Simulation())` simulates that sleep; `SleepConfig.preset(name)` gives published constants, which are
always simulated (see `src_plugin.config.presets`).

In files and records settings are flat: `SleepConfig.from_dict({"depth": 0.5})`, and the same for
`SleepConfig.preset("auto", depth=0.5)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args

from src_plugin.config.checks import FLAG, Check, check_choice, check_fields, is_flag
from src_plugin.config.constants import Constants
from src_plugin.config.engines import ClosedForm, Engine, Measuring, Simulation, by_depth
from src_plugin.errors import ConfigError, did_you_mean

__all__ = ["ClosedForm", "Constants", "Gates", "Measuring", "Simulation", "SleepConfig", "as_config", "by_depth"]

NoiseKind = Literal["gaussian", "binary"]

Prior = Literal["counts", "equal"]

Keep = Literal["mean", "class_means"]


@dataclass(frozen=True, kw_only=True)
class Gates:
    """What keeps a healthy network awake; each can be switched off. A flat name ends in `_gate`: `hidden_gate`.

    Attributes:
        rehearsal: If earlier classes were in the training batches, let rehearsed and new samples judge what the
            night gave, and undo it if it was nothing; leave the sleep itself out where another plugin protects what
            earlier inputs evoke (`protects_old_inputs`).
        balance: Do not sleep if noise already gives the new classes no more than their share; a network that
            rehearses levels its outputs all the same, if its samples say that this helps.
        new_classes: Do not sleep after an experience that showed all classes and no new one; a pure sleep does not
            ask.
        hidden: Level only where the head is a single layer: it has no hidden units to replay with, and no weights
            that settling would have to bring back. Asked where the sleep itself and levelling are both on.
    """

    rehearsal: bool = True
    balance: bool = True
    new_classes: bool = True
    hidden: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_fields(self, (Check(tuple(gate.name for gate in fields(self)), is_flag, FLAG),))


@dataclass(frozen=True, kw_only=True)
class SleepConfig:
    """How the head sleeps, and what is done around the sleep. The defaults are `auto`.

    Attributes:
        sleep: The sleep itself: `ClosedForm` or `Simulation`. None leaves settling and levelling alone: weight
            averaging with a data-free coefficient, the rival that sleep is compared with.
        settle: Go back towards the weights before the experience until noise-driven outputs are balanced
            between earlier and new classes.
        level: Even the outputs until noise gives each seen class its share, see `prior`.
        noise: What settling and levelling show the head: "gaussian" noise (`src_plugin.night.noise`), or "binary" as it
            was before (`src_plugin.night.binary_noise`).
        prior: Which share of that noise each class is to win: that of its images among all ("counts"), or all the same
            ("equal"), which favours rare classes.
        keep: What is kept of inputs between experiences: their "mean" alone, as in the article, or also the mean of
            each class ("class_means"): then the output layer is fitted on noise around these, at the end of a night.
        gates: What keeps a healthy network awake.
        constants: Every other number.

    Raises:
        ConfigError: A value that cannot be meant.

    Example:
        >>> SleepConfig(sleep=ClosedForm(fractions=(1, 0, 0))) == SleepConfig.preset("auto", fractions=(1, 0, 0))
        True
    """

    sleep: Engine | None = field(default_factory=ClosedForm)
    settle: bool = True
    level: bool = True
    noise: NoiseKind = "gaussian"
    prior: Prior = "counts"
    keep: Keep = "mean"
    gates: Gates = field(default_factory=Gates)
    constants: Constants = field(default_factory=Constants)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_choice(self, "noise", get_args(NoiseKind))
        check_choice(self, "prior", get_args(Prior))
        check_choice(self, "keep", get_args(Keep))
        for name, kinds, example in (
            ("sleep", (ClosedForm, Simulation, type(None)), "ClosedForm(), Simulation() or None"),
            ("gates", (Gates,), "Gates(balance=False)"),
            ("constants", (Constants,), "Constants(noise_vectors=256)"),
        ):
            value = getattr(self, name)
            if not isinstance(value, kinds):
                raise ConfigError(f"SleepConfig({name}={value!r}): give {example}")
        check_fields(self, (Check(("settle", "level"), is_flag, FLAG),))

    @classmethod
    def preset(cls, name: str, **changes: Any) -> SleepConfig:
        """Return the settings published under a name, e.g. `SleepConfig.preset("paper/split_mnist")`.

        Args:
            name: A key of `PRESETS`.
            **changes: Settings, by their flat names, that shall be otherwise.

        Raises:
            ConfigError: The name, or a setting to change, is unknown; the nearest known one is named.
        """
        from src_plugin.config.presets import PRESETS

        if name not in PRESETS:
            raise ConfigError(f"unknown preset {name!r}{did_you_mean(name, PRESETS)}")
        return cls.from_dict({**PRESETS[name].settings, **changes})

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> SleepConfig:
        """Make a config from flat settings, e.g. out of YAML or JSON; lists become tuples.

        `engine` ("closed_form" or "simulated") says which of the two the sleep is, and `replay` (true or false)
        whether there is one; gates end in `_gate`. In a night in closed form `steps: 0` leaves out every stage.

        Raises:
            ConfigError: A key is unknown (the nearest known one is named) or a value cannot be meant.
        """
        known = flat_names()
        for key in settings:
            if key not in known:
                raise ConfigError(f"unknown SleepConfig field {key!r}{did_you_mean(key, known)}")
        engine = settings.get("engine", "closed_form")
        if engine not in _ENGINES:
            raise ConfigError(f"SleepConfig(engine={engine!r}): unknown engine{did_you_mean(str(engine), _ENGINES)}")
        replay = settings.get("replay", True)
        if not isinstance(replay, bool):
            raise ConfigError(f"SleepConfig(replay={replay!r}): replay must be {FLAG}")
        given = {key: value for key, value in settings.items() if key in _TOP}
        if "constants" in given:
            given["constants"] = _nested(Constants, given["constants"])
        gates = Gates(**{g: settings[f"{g}_gate"] for g in _names(Gates) if f"{g}_gate" in settings})
        if engine == "simulated":
            own = {key: settings[key] for key in _names(Simulation) if key in settings}
            if "measuring" in own:
                own["measuring"] = _nested(Measuring, own["measuring"])
            fractions = settings.get("fractions", ClosedForm().fractions)
            if fractions not in (ClosedForm().fractions, [*ClosedForm().fractions]):
                raise ConfigError(
                    f"SleepConfig(fractions={fractions!r}): only a sleep in closed form reads fractions; this one is "
                    "simulated, so give a depth, or add engine='closed_form'"
                )
            simulation = Simulation(**own)
            return cls(sleep=simulation if replay else None, gates=gates, **given)
        _check_idle(settings)
        form = ClosedForm(**{k: settings[k] for k in _names(ClosedForm) if k in settings})
        if settings.get("steps", True) == 0:
            return cls(**{**given, "sleep": None, "settle": False, "level": False}, gates=gates)
        return cls(sleep=form if replay else None, gates=gates, **given)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings flat, in a form that JSON and YAML can hold and `from_dict` reads back.

        What only the other engine reads has its default; `constants` and `measuring` are left out where they have it.
        """
        told: dict[str, Any] = {
            "engine": "simulated" if self.simulates else "closed_form",
            "fractions": ClosedForm().fractions,
        }
        told |= asdict(Simulation())
        if self.sleep is not None:
            told |= asdict(self.sleep)
        told |= {"replay": self.sleep is not None, "settle": self.settle, "level": self.level}
        told |= {"noise": self.noise, "prior": self.prior, "keep": self.keep}
        told |= {f"{name}_gate": value for name, value in asdict(self.gates).items()}
        told["constants"] = asdict(self.constants)
        usual = {"constants": asdict(Constants()), "measuring": asdict(Measuring())}
        told = {key: value for key, value in told.items() if value != usual.get(key, _NOTHING)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in told.items()}

    def changed(self, **changes: Any) -> SleepConfig:
        """Return a copy in which some settings, by their flat names, are otherwise."""
        return SleepConfig.from_dict({**self.to_dict(), **changes})

    def why_off(self, index: int) -> str | None:
        """Return why sleep number `index` (from 0) can change nothing, whatever training showed; or None."""
        if isinstance(self.sleep, Simulation) and self.sleep.steps_at(index) == 0:
            return "zero steps"
        return None if self.sleep or not self.is_pure else "every stage is switched off"

    @property
    def is_off(self) -> bool:
        """Whether no sleep can change anything: all have zero steps, or every stage is off."""
        if isinstance(self.sleep, Simulation):
            return not self.sleep.has_steps
        return self.sleep is None and self.is_pure

    @property
    def simulation(self) -> Simulation:
        """The simulated sleep.

        Raises:
            ConfigError: The sleep is none.
        """
        if not isinstance(self.sleep, Simulation):
            raise ConfigError(f"SleepConfig(sleep={self.sleep!r}) simulates no sleep; give Simulation()")
        return self.sleep

    @property
    def simulates(self) -> bool:
        """Whether the sleep itself is on, and simulated."""
        return isinstance(self.sleep, Simulation)

    @property
    def needs_rates(self) -> bool:
        """Whether a stage shows the head spikes or binary noise, at rates that the mean input gives."""
        return self.simulates or (self.noise == "binary" and not self.is_pure)

    @property
    def is_pure(self) -> bool:
        """Whether a sleep is nothing but SRC: no settling, no levelling, no refitted output layer."""
        return not (self.settle or self.level or self.refits)

    @property
    def refits(self) -> bool:
        """Whether the output layer is fitted on labelled noise: class means are kept."""
        return self.keep != "mean"


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


_Kind = TypeVar("_Kind", Constants, Measuring)

_NOTHING = object()

_ENGINES = ("closed_form", "simulated")

_TOP = ("settle", "level", "noise", "prior", "keep", "constants")
"""Fields of SleepConfig that are called the same in flat settings."""


def _names(kind: type) -> list[str]:
    return [f.name for f in fields(kind)]


def flat_names() -> list[str]:
    """Return the names of all flat settings."""
    return ["engine", "replay", *_TOP, "fractions", *_names(Simulation), *(f"{name}_gate" for name in _names(Gates))]


def simulation_only() -> list[str]:
    """Return the names of flat settings that a night in closed form must not be given."""
    return [name for name in _names(Simulation) if name not in ("first_gate", *_names(ClosedForm))]


def _check_idle(settings: Mapping[str, Any]) -> None:
    """Refuse what only a simulated sleep reads, where it is not the default.

    Raises:
        ConfigError: There is such a setting.
    """
    usual = Simulation()
    for name in simulation_only():
        value = settings.get(name, getattr(usual, name))
        value = tuple(value) if isinstance(value, list) else value
        if value != getattr(usual, name) and (name, value) != ("steps", 0):
            raise ConfigError(
                f"SleepConfig({name}={settings[name]!r}): only a simulated sleep reads {name}; add engine='simulated'"
            )


def _nested(kind: type[_Kind], given: Any) -> _Kind:
    """Return an object out of its settings, or as it is."""
    if not isinstance(given, Mapping):
        return given  # type: ignore[no-any-return]  # SleepConfig refuses what it is not
    known = _names(kind)
    for key in given:
        if key not in known:
            raise ConfigError(f"unknown {kind.__name__} field {key!r}{did_you_mean(key, known)}")
    return kind(**given)
