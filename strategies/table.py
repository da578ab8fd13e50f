"""STRATEGIES: one row per method; a new method is one entry. SUFFIXES: what a name ends in to have it sleep.

"+src" after any name adds Sleep Replay Consolidation as configured; "+settle" adds all of it but the sleep, "+level" of
that the last stage alone, "+only" nothing but the sleep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from avalanche.training.supervised import Naive

from src_plugin.errors import ConfigError, did_you_mean
from src_plugin.presets import PRESETS
from strategies.averaging import build_average
from strategies.regularisation import build_ewc, build_lwf
from strategies.rehearsal import build_replay
from strategies.setup import TrainingSetup, common

if TYPE_CHECKING:
    from src_plugin.config import SleepConfig

SUFFIXES: dict[str, dict[str, Any]] = {
    "+src": {},
    "+settle": {"replay": False},  # weight averaging with a data-free coefficient: the rival of sleep
    "+level": {"replay": False, "settle": False},  # the outputs balanced, and no weight moved
    "+only": dict(PRESETS["src_only"].settings),  # the sleep alone, nothing settled or levelled
}
"""End of a strategy's name -> fields of `SleepConfig` that it changes."""


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        factory: Builds the Avalanche strategy from a setup and a fresh list of plugins, which it may change.
        paper: Where the method is from.
        keeps: What it keeps from one experience to the next, besides the model.
        settings: Fields of `Settings` that it reads.
        is_counted: Whether the `kept_bytes` of its plugins are all that it keeps.
        sleeps: Whether a suffix can be added.
        at_once: Whether it trains on all experiences together, as one.
    """

    factory: Callable[[TrainingSetup, list[Any]], Any]
    paper: str
    keeps: str
    settings: tuple[str, ...] = ()
    is_counted: bool = True
    sleeps: bool = True
    at_once: bool = False


def _naive(setup: TrainingSetup, plugins: list[Any]) -> Any:
    return Naive(**common(setup, plugins))


STRATEGIES: dict[str, Row] = {
    "naive": Row(
        factory=_naive,
        paper="plain fine-tuning, the lower bound ('sequential' in Tadros et al. 2022, Table 1)",
        keeps="nothing",
    ),
    "average": Row(
        factory=build_average,
        paper="weights averaged over experiences at 1/k (mean-IMM, Lee et al. 2017)",
        keeps="nothing but the number of experiences",
        sleeps=False,
    ),
    "replay": Row(
        factory=build_replay,
        paper="rehearsal of random exemplars, balanced over classes (experience replay)",
        keeps="exemplars with their labels",
        settings=("memory_fraction", "memory_size"),
    ),
    "ewc": Row(
        factory=build_ewc,
        paper="elastic weight consolidation (Kirkpatrick et al. 2017, PNAS)",
        keeps="Fisher information and a copy of the weights, for every experience",
        settings=("ewc_lambda",),
    ),
    "lwf": Row(
        factory=build_lwf,
        paper="learning without forgetting (Li & Hoiem 2016, ECCV)",
        keeps="a copy of the network, as teacher",
        settings=("lwf_alpha", "lwf_temperature"),
    ),
    "joint": Row(
        factory=_naive,
        paper="training on all experiences together, the upper bound ('parallel' in Tadros et al. 2022, Table 1)",
        keeps="all images",
        is_counted=False,
        at_once=True,
    ),
}


def split_name(name: str) -> tuple[str, str]:
    """Return the name of a row and the suffix that follows it, "" without."""
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix), suffix
    return name, ""


def find_row(name: str) -> tuple[Row, str]:
    """Return the row of a strategy, and the suffix that asks for sleep, "" without.

    Args:
        name: A key of STRATEGIES, or one followed by a key of SUFFIXES.

    Raises:
        ConfigError: Unknown name (the nearest known one is given), or a method that cannot be combined with sleep.
    """
    base, suffix = split_name(name)
    if base not in STRATEGIES:
        known = [*STRATEGIES, *(key + end for key, row in STRATEGIES.items() for end in SUFFIXES if row.sleeps)]
        hint = f"; known before {suffix}: {', '.join(STRATEGIES)}" if suffix else did_you_mean(name, known)
        raise ConfigError(f"unknown strategy {name!r}{hint}")
    row = STRATEGIES[base]
    if suffix and not row.sleeps:
        raise ConfigError(
            f"{base!r} cannot be combined with {suffix}: it has no head of Linear layers that could sleep, or would "
            "average the sleep away"
        )
    return row, suffix


def sleep_of(name: str, config: SleepConfig) -> SleepConfig:
    """Return the sleep of a strategy: what is configured, with the changes of its suffix.

    Raises:
        ConfigError: Nothing would be left of it.
    """
    _, suffix = split_name(name)
    changed = replace(config, **SUFFIXES[suffix])
    if not changed.replay and changed.is_pure:
        raise ConfigError(
            f"{name!r} leaves the sleep out, and this sleep neither settles nor levels, so nothing is left of it; "
            "use a preset that does, such as auto"
        )
    return changed


def build_strategy(name: str, setup: TrainingSetup) -> Any:
    """Build an Avalanche strategy.

    Args:
        name: A key of STRATEGIES; with a suffix, an SRCPlugin is put before the setup's own plugins.
        setup: Network, training and sleep.

    Raises:
        ConfigError: See `find_row` and `sleep_of`.
    """
    row, suffix = find_row(name)
    plugins = list(setup.plugins)
    if suffix:
        from src_plugin.config import SleepConfig
        from src_plugin.plugin import SRCPlugin

        config = setup.sleep if isinstance(setup.sleep, SleepConfig) else SleepConfig.preset(setup.sleep)
        src = SRCPlugin(sleep_of(name, config), seed=setup.seed, every=setup.every, reference=setup.reference)
        plugins.insert(0, src)
    return row.factory(setup, plugins)
