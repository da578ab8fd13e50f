"""The two ways to compute the sleep itself: ClosedForm and Simulation."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from src_plugin.config.checks import (
    DEPTH,
    FLAG,
    TRIPLE,
    Check,
    PerLayer,
    Triple,
    are,
    check_fields,
    is_flag,
    is_int,
    is_least_0,
    is_positive,
    is_share,
    is_triple,
    or_none,
)
from src_plugin.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ClosedForm:
    """What a simulated, ungated sleep does on average; see `src_plugin.night.closed_form`.

    Attributes:
        fractions: The part of its answer to the mean input that an excited unit loses: in the first layer, in layers
            between, in the output layer. A night of all zeros leaves the sleep out.
        depth: None takes `fractions`. A number takes as much as a simulated sleep of that depth would take instead:
            that is the factor on its `depression`.
        depression: Of that simulated sleep, see `Simulation`.

    Example:
        >>> ClosedForm().fractions
        (0.7, 0.2, 0.0)
    """

    fractions: Triple = (0.7, 0.2, 0.0)
    depth: float | None = None
    depression: Triple = (0.29, 0.25, 0.03)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_fields(
            self,
            (
                Check(("fractions", "depression"), is_triple, TRIPLE),
                Check(("fractions",), lambda v: are(v, lambda f: 0 <= f <= 1), "parts, in [0, 1]"),
                Check(("depth",), or_none(is_least_0), DEPTH),
            ),
        )
        usual = {f.name: f.default for f in fields(self)}
        if self.depth is not None and self.fractions != usual["fractions"]:
            raise ConfigError(f"ClosedForm(fractions={self.fractions}, depth={self.depth}): give one of the two")
        if self.depth is None and self.depression != usual["depression"]:
            raise ConfigError(f"ClosedForm(depression={self.depression}): only a depth reads it; give fractions=(...)")

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is taken from any layer."""
        return self.depth == 0 or (self.depth is None and not any(self.fractions))


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How a simulated sleep measures what it is not given. No user needs to set these.

    Attributes:
        threshold_steps: Steps of stimulus, without plasticity, from which thresholds are placed.
        depth_per_variation: Depth per unit of variation of the inputs.
        depth_most: The largest depth.
        depth_unmeasured: Depth where no inputs can be looked at: about what grey images of clothes get.
        first_kept: Share of predictions on current inputs that a first sleep must leave as they are.
        first_shares: Shares of that sleep's change that are tried, largest first.
    """

    threshold_steps: int = 250
    depth_per_variation: float = 0.3
    depth_most: float = 1.0
    depth_unmeasured: float = 0.2
    first_kept: float = 0.99
    first_shares: tuple[float, ...] = (1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1, 0.05, 0.0)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        numbers = ("depth_per_variation", "depth_most", "depth_unmeasured")
        shares = Check(("first_shares",), lambda v: isinstance(v, tuple) and are(v, is_least_0), "numbers, 0 or more")
        check_fields(
            self,
            (
                Check(("threshold_steps",), lambda v: is_int(v) and v > 0, "whole, 1 or more"),
                Check(numbers, is_least_0, "a finite number, 0 or more"),
                Check(("first_kept",), is_share, "in (0, 1]"),
                shares,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """A sleep simulated step by step. Numbers that are None are measured: thresholds, steps of the weights, and depth.

    Attributes:
        steps: Length of a sleep in steps. A tuple gives the length of the first, second, ... sleep, the last one from
            then on. In a night of 0 steps nothing is changed by any stage.
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
        depression: The same for depression. Used where `dec` is None.
        depth: Factor on `potentiation` and `depression`. None measures it on inputs of the head, see
            `src_plugin.night.calibrate`.
        first_gate: Keep a first sleep shallow enough that what was just learnt stays learnt.
        measuring: How measured numbers are measured.

    Source:
        Tadros et al. 2022, Nat. Commun. 13:7742, Methods. What measures numbers is of this project.
    """

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
    target_rates: Triple = (0.018, 0.011, 0.005)
    inc: PerLayer | None = None
    dec: PerLayer | None = None
    potentiation: Triple = (0.020, 0.008, 0.005)
    depression: Triple = (0.29, 0.25, 0.03)
    depth: float | None = None
    first_gate: bool = True
    measuring: Measuring = field(default_factory=Measuring)

    def __post_init__(self) -> None:
        """Normalise sequences to tuples and refuse what cannot be meant."""
        check_fields(self, _CHECKS)

    def steps_at(self, index: int) -> int:
        """Return the length, in steps, of sleep number `index` (from 0)."""
        base = self.steps[min(index, len(self.steps) - 1)] if isinstance(self.steps, tuple) else self.steps
        return base + index * self.steps_growth if base else 0

    @property
    def has_steps(self) -> bool:
        """Whether any sleep has steps."""
        return any(self.steps if isinstance(self.steps, tuple) else (self.steps,))

    @property
    def is_nothing(self) -> bool:
        """Whether weights move by nothing."""
        return self.depth == 0 and not self.has_given_steps

    @property
    def has_given_steps(self) -> bool:
        """Whether the steps of the weights are given, so that no depth is read."""
        return self.inc is not None and self.dec is not None


Engine = ClosedForm | Simulation


def _is_threshold(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0  # infinite is silence


_CHECKS = (
    Check(("steps",), lambda v: are(v, lambda s: is_int(s) and s >= 0), "whole, 0 or more"),
    Check(("steps_growth",), lambda v: is_int(v) and v >= 0, "0 or more"),
    Check(("input_spikes", "dt", "gain"), is_positive, "a finite number above 0"),
    Check(("max_rate", "gate_width"), or_none(is_positive), "None or a finite number above 0"),
    Check(("patch",), or_none(lambda v: is_int(v) and v > 0), "None or pixels > 0"),
    Check(("decay", "input_share"), is_share, "in (0, 1]"),
    Check(("inhibition",), is_least_0, "a finite number, 0 or more"),
    Check(("depth",), or_none(is_least_0), DEPTH),
    Check(("target_rates", "potentiation", "depression"), is_triple, TRIPLE),
    Check(("target_rates",), lambda v: are(v, lambda rate: 0 < rate < 1), "fractions within (0, 1)"),
    Check(("inc", "dec"), or_none(lambda v: are(v, is_least_0)), "None, a number, or one number per layer, 0 or more"),
    Check(
        ("thresholds",),
        or_none(lambda v: isinstance(v, tuple) and are(v, _is_threshold)),
        "None, or one number per layer, 0 or more",
    ),
    Check(("normalise", "first_gate"), is_flag, FLAG),
    Check(("measuring",), lambda v: isinstance(v, Measuring), "a Measuring(threshold_steps=...)"),
)


def by_depth(triple: Triple, n_layers: int) -> tuple[float, ...]:
    """Spread (first, between, output) over a head; a head of one layer is an output layer."""
    first, between, output = triple
    return (first, *[between] * (n_layers - 2), output) if n_layers > 1 else (output,)
