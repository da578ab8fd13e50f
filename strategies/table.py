"""STRATEGIES: one row per method; a new method is one entry. SUFFIXES: what a name ends in to have it sleep.

"+src" after any name adds Sleep Replay Consolidation as configured; "+simulated" the same with the sleep simulated,
"+before" `auto` as it was until November 2026, "+settle" all of it but the sleep, "+level" of that the last stage
alone, "+only" nothing but a simulated sleep; "+means" the sleep as configured with class means kept, "+settle_means"
and "+fit" its rivals with the same memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from src_plugin.config.presets import PRESETS
from src_plugin.errors import ConfigError, did_you_mean

if TYPE_CHECKING:  # what these import takes seconds, and a name is checked at once
    from src_plugin.config import SleepConfig
    from strategies.setup import TrainingSetup

    Factory = Callable[[TrainingSetup, list[Any]], Any]

SUFFIXES: dict[str, dict[str, Any]] = {
    "+src": {},
    "+simulated": {"engine": "simulated"},
    # But for rounding; over rehearsal its sleep faded with what was recalled, which it does no more.
    "+before": {"engine": "simulated", "input_share": 1.0, "noise": "binary", "prior": "equal"},
    "+settle": {"replay": False},  # weight averaging with a data-free coefficient: the rival of sleep
    "+level": {"replay": False, "settle": False},  # the outputs balanced, and no weight moved
    "+means": {"keep": "class_means"},  # the output layer is fitted on noise around class means, too
    "+settle_means": {"keep": "class_means", "replay": False},
    "+fit": {"keep": "class_means", "replay": False, "settle": False, "level": False},
    "+only": dict(PRESETS["src_only"].settings),  # the sleep alone, nothing settled or levelled
}
"""End of a strategy's name -> fields of `SleepConfig` that it changes."""


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        factory: What builds the Avalanche strategy from a setup and a fresh list of plugins, which it may change: file
            and function, e.g. "owm.build_owm". Imported when it is used, because Avalanche takes seconds.
        paper: Where the method is from.
        keeps: What it keeps from one experience to the next, besides the model.
        settings: Fields of `Settings` that it reads.
        is_counted: Whether the `kept_bytes` of its plugins are all that it keeps.
        sleeps: Whether a suffix can be added.
        at_once: Whether it trains on all experiences together, as one.
        candidates: What a search tries, six settings for every method that has numbers of its own.
        is_deterministic: Whether nothing in it is drawn at random, so that all seeds give the same.
    """

    factory: str
    paper: str
    keeps: str
    settings: tuple[str, ...] = ()
    is_counted: bool = True
    sleeps: bool = True
    at_once: bool = False
    candidates: tuple[dict[str, float], ...] = ()
    is_deterministic: bool = False

    @property
    def build(self) -> Factory:
        """The factory itself."""
        module, _, name = self.factory.partition(".")
        build: Factory = getattr(import_module(f"strategies.{module}"), name)
        return build

    @property
    def rehearses(self) -> bool:
        """Whether it learns from images of earlier experiences again: from a memory, or from all of them."""
        return "memory_size" in self.settings or not (self.is_counted or self.at_once)


def _line(name: str, *values: float) -> tuple[dict[str, float], ...]:
    return tuple({name: value} for value in values)


STRATEGIES: dict[str, Row] = {
    "naive": Row(
        factory="setup.build_naive",
        paper="plain fine-tuning, the lower bound ('sequential' in Tadros et al. 2022, Table 1)",
        keeps="nothing",
    ),
    "average": Row(
        factory="averaging.build_average",
        paper="weights averaged over experiences at 1/k (mean-IMM, Lee et al. 2017)",
        keeps="nothing but the number of experiences",
        sleeps=False,
    ),
    "replay": Row(
        factory="rehearsal.build_replay",
        paper="rehearsal of random exemplars, balanced over classes (experience replay)",
        keeps="exemplars with their labels",
        settings=("memory_fraction", "memory_size"),
    ),
    "rehearsal": Row(
        factory="rehearsal.build_rehearsal",
        paper="rehearsal of a fraction of the old images, losses weighed by equation 1 (Tadros et al. 2022)",
        keeps="exemplars with their labels",
        settings=("memory_fraction", "memory_size"),
    ),
    "gem": Row(
        factory="gradient_memory.build_gem",
        paper="gradient episodic memory (Lopez-Paz & Ranzato 2017, NeurIPS)",
        keeps="exemplars with their labels",
        settings=("memory_fraction", "memory_size", "gem_strength"),
        candidates=_line("gem_strength", 0, 0.1, 0.25, 0.5, 1, 2),
    ),
    "agem": Row(
        factory="gradient_memory.build_agem",
        paper="averaged gradient episodic memory (Chaudhry et al. 2019, ICLR)",
        keeps="exemplars with their labels",
        settings=("memory_fraction", "memory_size"),
    ),
    "der": Row(
        factory="dark.build_der",
        paper="dark experience replay, DER++ (Buzzega et al. 2020, NeurIPS)",
        keeps="exemplars with their labels and outputs",
        settings=("memory_fraction", "memory_size", "der_alpha", "der_beta"),
        candidates=tuple({"der_alpha": a, "der_beta": b} for a in (0.1, 0.3, 1.0) for b in (0.5, 1.0)),
    ),
    "er_ace": Row(
        factory="dark.build_er_ace",
        paper="experience replay with asymmetric cross-entropy (Caccia et al. 2022, ICLR)",
        keeps="exemplars with their labels",
        settings=("memory_fraction", "memory_size"),
    ),
    "gdumb": Row(
        factory="gdumb.build_gdumb",
        paper="training from scratch on the memory alone (Prabhu et al. 2020, ECCV)",
        keeps="exemplars with their labels, and the first weights",
        settings=("memory_fraction", "memory_size"),
    ),
    "icarl": Row(
        factory="icarl.build_icarl",
        paper="iCaRL (Rebuffi et al. 2017, CVPR): herded exemplars, distillation, nearest class mean; its own loss",
        keeps="exemplars with their labels, class means, and a copy of the network, as teacher",
        settings=("memory_fraction", "memory_size"),
    ),
    "icarl_mlp": Row(
        factory="icarl_paper.build_icarl_mlp",
        paper="iCaRL for heads of Linear layers (Tadros et al. 2022, Table 2)",
        keeps="exemplars with their labels, class means, and a copy of the network, as teacher",
        settings=("memory_fraction", "memory_size"),
    ),
    "cumulative": Row(
        factory="rehearsal.build_cumulative",
        paper="training on all images of all experiences so far, one experience after the other",
        keeps="all images",
        is_counted=False,
    ),
    "ewc": Row(
        factory="regularisation.build_ewc",
        paper="elastic weight consolidation (Kirkpatrick et al. 2017, PNAS)",
        keeps="Fisher information and a copy of the weights, for every experience",
        settings=("ewc_lambda",),
        candidates=_line("ewc_lambda", 1, 10, 100, 1e3, 1e4, 1e5),
    ),
    "ewc_online": Row(
        factory="regularisation.build_ewc_online",
        paper="elastic weight consolidation with a single penalty (Schwarz et al. 2018, ICML)",
        keeps="Fisher information and a copy of the weights",
        settings=("ewc_online_lambda", "ewc_decay"),
        candidates=_line("ewc_online_lambda", 1, 10, 100, 1e3, 1e4, 1e5),
    ),
    "si": Row(
        factory="regularisation.build_si",
        paper="Synaptic Intelligence (Zenke et al. 2017, ICML)",
        keeps="the importance of every weight",
        settings=("si_lambda",),
        candidates=_line("si_lambda", 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3),
    ),
    "mas": Row(
        factory="regularisation.build_mas",
        paper="memory aware synapses (Aljundi et al. 2018, ECCV)",
        keeps="the importance of every weight and a copy of the weights",
        settings=("mas_lambda",),
        candidates=_line("mas_lambda", 1e-3, 0.01, 0.1, 1, 10, 100),
    ),
    "align": Row(
        factory="aligning.build_align",
        paper="output weights of new classes scaled to the norm of old ones (weight aligning, Zhao et al. 2020, CVPR)",
        keeps="the numbers of the classes seen",
    ),
    "lwf": Row(
        factory="regularisation.build_lwf",
        paper="learning without forgetting (Li & Hoiem 2016, ECCV)",
        keeps="a copy of the network, as teacher",
        settings=("lwf_alpha", "lwf_temperature"),
        candidates=_line("lwf_alpha", 0.1, 0.3, 1, 3, 10, 30),
    ),
    "owm": Row(
        factory="owm.build_owm",
        paper="orthogonal weights modification (Zeng et al. 2019, Nat. Mach. Intell.)",
        keeps="a projector for the inputs of every layer",
        settings=("owm_alpha",),
        candidates=_line("owm_alpha", 0.03, 0.1, 0.3, 1, 3, 10),
    ),
    "ncm": Row(
        factory="prototypes.build_ncm",
        paper="nearest class mean of the inputs, no network",
        keeps="the mean image of every class, and of how many",
        sleeps=False,
        is_deterministic=True,
    ),
    "slda": Row(
        factory="prototypes.build_slda",
        paper="streaming linear discriminant analysis of the inputs, no network (Hayes & Kanan 2020, CVPR Workshops)",
        keeps="the mean image of every class, of how many, and one covariance",
        sleeps=False,
    ),
    "joint": Row(
        factory="setup.build_naive",
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
        hint = did_you_mean(base, STRATEGIES, ending=suffix) if suffix else did_you_mean(name, known)
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
    changed = config.changed(**SUFFIXES[suffix])
    if changed.sleep is None and changed.is_pure:
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
    return row.build(setup, plugins)
