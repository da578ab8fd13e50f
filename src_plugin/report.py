"""SleepReport: what one sleep did, stage by stage, and why. Each stage has a report of its own, and prints its lines.

Everything is a plain number, text or list, so that JSON can hold it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """What became of a head in one night, by the first stage that changed it."""

    SLEPT = "slept"  # a sleep changed weights, and settling did not take all of it back
    SETTLED = "settled"
    LEVELLED = "levelled"
    AWAKE = "awake"


@dataclass(frozen=True)
class _Stage:
    """What one stage did, by the names of `SleepReport.to_dict`; defaults stand for a stage that was not done."""

    def _lines(self, report: SleepReport) -> Iterable[str]:
        return ()

    def _has_moved(self) -> bool:
        """Whether the stage changed weights."""
        return True


@dataclass(frozen=True)
class ClosedFormReport(_Stage):
    """A sleep in closed form.

    Attributes:
        engine: "closed_form".
        strength: The largest of `fractions`; where a depth is given, that.
        fractions: Part of each excited unit's answer to the mean input that was removed, (L).
        answers: Mean over units of that answer before, (L).
    """

    engine: str | None = None
    strength: float = 0.0
    fractions: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)

    def _has_moved(self) -> bool:
        return any(self.fractions)

    def _lines(self, _: SleepReport) -> Iterable[str]:
        parts = ", ".join(f"{fraction:.0%}" for fraction in self.fractions)
        yield f"  sleep   in closed form: units answer the mean input less by {parts}, layer by layer"


@dataclass(frozen=True)
class SimulationReport(_Stage):
    """A simulated sleep.

    Attributes:
        engine: "simulated".
        strength: Depth of the sleep: the factor on how far weights may move.
        input_variation: Mean squared distance of inputs from the mean input, relative to the squared norm of that; the
            depth was measured from it.
        steps: Its length.
        spikes: Spikes per unit layer, the inputs first, (L+1).
        rates: The same per unit and step: firing rates as fractions, (L+1).
        scales: Gain per layer, (L).
        thresholds: Membrane threshold per layer, (L).
        inc: Potentiation step per layer, (L).
        dec: Depression step per layer, (L).
        potentiations: Weight updates upwards per layer, (L).
        depressions: Weight updates downwards per layer, (L).
        kept_fraction: Share of the first sleep's change that was kept.
    """

    engine: str | None = None
    strength: float = 0.0
    input_variation: float | None = None
    steps: int = 0
    spikes: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    inc: list[float] = field(default_factory=list)
    dec: list[float] = field(default_factory=list)
    potentiations: list[int] = field(default_factory=list)
    depressions: list[int] = field(default_factory=list)
    kept_fraction: float | None = None

    def _has_moved(self) -> bool:
        return any(self.potentiations) or any(self.depressions)

    def _lines(self, _: SleepReport) -> Iterable[str]:
        rates = ", ".join(f"{100 * rate:.2g} %" for rate in self.rates[1:])
        yield f"  sleep   simulated: {self.steps} steps, depth {self.strength:.2g}; units fire in {rates} of them"
        if self.kept_fraction is not None:
            yield f"  keep    {self.kept_fraction:.0%} of the change of this first sleep"


@dataclass(frozen=True)
class BalanceReport(_Stage):
    """How much of the noise new classes win.

    Attributes:
        noise_strength: Share of the mean input that binary noise has.
        expected_share: Share of the noise that new classes are to win, after the numbers of their images.
        share_trained: Fraction of noise that they win before the night.
        share_slept: The same after the sleep.
    """

    noise_strength: float | None = None
    expected_share: float | None = None
    share_trained: float | None = None
    share_slept: float | None = None


@dataclass(frozen=True)
class SettleReport(_Stage):
    """Where settling ended.

    Attributes:
        share_settled: Fraction of noise that new classes win there.
        settled_at: Position on the settling line: 1 is the slept head, 0 the other end.
        settled_towards: "before" or "trained".
    """

    share_settled: float | None = None
    settled_at: float | None = None
    settled_towards: str | None = None

    def _has_moved(self) -> bool:
        return self.settled_at != 1.0

    def _lines(self, report: SleepReport) -> Iterable[str]:
        start = "the weights before" if self.settled_towards == "before" else "the trained weights"
        end = "the slept ones" if report.sleep else "the trained ones"
        shares = f"{report.share_slept:.0%} -> {self.share_settled:.0%}"
        yield (
            f"  settle  new classes win {shares} of noise (their share: {report.expected_share:.0%}), at "
            f"{self.settled_at:.2f} of the way from {start} to {end}"
        )


@dataclass(frozen=True)
class LevelReport(_Stage):
    """What levelling made of the outputs.

    Attributes:
        gains: Factor on the outputs of each seen class.
        offsets: Offset of each seen class, after that.
        share_levelled: Fraction of noise that new classes win then, among twice as many noise vectors.
    """

    gains: list[float] | None = None
    offsets: list[float] | None = None
    share_levelled: float | None = None

    def _lines(self, _: SleepReport) -> Iterable[str]:
        if self.gains and self.offsets:
            yield (
                f"  level   outputs times {min(self.gains):.2g} to {max(self.gains):.2g}, offset by "
                f"{min(self.offsets):+.2g} to {max(self.offsets):+.2g}; new classes win {self.share_levelled:.0%}"
            )


@dataclass(frozen=True)
class RefitReport(_Stage):
    """The output layer fitted on labelled noise.

    Attributes:
        refit_vectors: How many noise vectors there were.
        refit_before: Share of them that was classified rightly before.
        refit_after: The same afterwards.
    """

    refit_vectors: int = 0
    refit_before: float = 0.0
    refit_after: float = 0.0

    def _lines(self, _: SleepReport) -> Iterable[str]:
        yield (
            f"  refit   on {self.refit_vectors} noise vectors around class means: {self.refit_before:.0%} of them "
            f"right before, {self.refit_after:.0%} now"
        )


@dataclass(frozen=True)
class Verdict:
    """What samples said of one night that was tried.

    Attributes:
        night: Its name.
        after: Mean accuracy over classes after it.
        asked: By how much it had to rise; 0: at all; below 0: it might fall by so much.
        kept: Whether it did.
    """

    night: str
    after: float
    asked: float
    kept: bool

    def __str__(self) -> str:
        by = f" by {100 * abs(self.asked):.1f} points" if self.asked else ""
        wanted = f"it {'had to rise' if self.asked >= 0 else 'might fall'}{by}"
        return f"after {self.night} {self.after:.1%}; {wanted}: {'kept' if self.kept else 'undone'}"


@dataclass(frozen=True)
class JudgeReport(_Stage):
    """What rehearsed and new samples said.

    Attributes:
        samples: How many samples of old and of new classes judged the night.
        exemplars: How many different ones of an old class were rehearsed, on average.
        must_rise: By how much their accuracy had to rise for the last night to be kept; below 0 it might fall by so
            much, as few exemplars tell little.
        samples_trained: Mean accuracy over classes on them before the night.
        samples_after: The same after the last night that was tried.
        verdicts: On each night that was tried.
    """

    samples: list[int] | None = None
    exemplars: float | None = None
    must_rise: float | None = None
    samples_trained: float | None = None
    samples_after: float | None = None
    verdicts: list[Verdict] = field(default_factory=list)

    def _lines(self, _: SleepReport) -> Iterable[str]:
        if self.samples:
            yield (
                f"  judge   by {self.samples[0]} rehearsed samples ({self.exemplars:.3g} different ones a class) and "
                f"{self.samples[1]} new ones, of which {self.samples_trained:.1%} were right before, class by class"
            )
        yield from (f"          {verdict}" for verdict in self.verdicts)


@dataclass(frozen=True)
class SleepReport:
    """What one sleep did, stage by stage; None stands for a stage that was not done.

    What a stage reports can also be read from here, e.g. `report.share_settled`: None, 0 or empty where it was not
    done.

    Attributes:
        decision: "slept", or "awake" if a gate or zero steps left the head as it was; `status` says what changed it.
        reason: Why.
        layers: Names of the head's layers.
        sizes: Units per layer, the inputs first, (L+1).
        gate: The flat name of the gate that closed or, judging by samples, undid the night; None if none did.
        sleep: The sleep itself.
        balance: How much of the noise new classes win; None where there is nothing to balance.
        settle: Settling.
        level: Levelling.
        refit: The output layer fitted on labelled noise, where class means are kept.
        judge: What samples said of the night.
        skipped: Stages that were not done, with the reason.
        weight_change: Norm of the change of each layer's weights, (L).
        weight_norm: Norm of each layer's weights before, (L).
        backbone_trained: Whether parameters below the head were trained, or buffers there changed (running
            statistics of batch norm), so that earlier means fit less.
        seconds: Wall time.
    """

    decision: str
    reason: str
    layers: list[str]
    sizes: list[int]
    gate: str | None = None
    sleep: ClosedFormReport | SimulationReport | None = None
    balance: BalanceReport | None = None
    settle: SettleReport | None = None
    level: LevelReport | None = None
    refit: RefitReport | None = None
    judge: JudgeReport | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    weight_change: list[float] = field(default_factory=list)
    weight_norm: list[float] = field(default_factory=list)
    backbone_trained: bool = False
    seconds: float = 0.0

    @property
    def status(self) -> Status:
        """What became of the head.

        Example:
            >>> report = SleepReport("slept", "outputs are levelled only", [], [], level=LevelReport([1.2], [0.1], 0.5))
            >>> report.status
            <Status.LEVELLED: 'levelled'>
        """
        if self.decision != "slept":
            return Status.AWAKE
        is_back = self.settle is not None and self.settle.settled_at == 0.0
        if self.sleep is not None and self.sleep._has_moved() and not is_back:
            return Status.SLEPT
        if self.settle is not None and self.settle._has_moved():
            return Status.SETTLED
        return Status.AWAKE if self.level is None and self.refit is None else Status.LEVELLED

    def __getattr__(self, name: str) -> Any:
        """Return what a stage reports under a name."""
        if name in _TOLD:
            return self.to_dict()[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __str__(self) -> str:
        """Return the stages of the sleep, a line each."""
        lines = [f"{self.status}: {self.reason} ({self.seconds:.2f} s)"]
        if self.layers:
            names, sizes = ", ".join(self.layers) or "the module itself", "-".join(map(str, self.sizes))
            lines.append(f"  head    {names} ({sizes})")
        lines += [line for stage in self._stages() for line in stage._lines(self)]
        lines += [f"  skipped {stage}: {why}" for stage, why in self.skipped.items()]
        return "\n".join(lines)

    def _stages(self) -> list[_Stage]:
        return [stage for stage in (getattr(self, name) for name in _STAGES) if stage is not None]

    def to_dict(self) -> dict[str, Any]:
        """Return all fields for JSON, those of the stages beside the others."""
        told = {name: value for stage in _BLANK for name, value in asdict(stage).items()}
        told |= {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _STAGES}
        return told | {name: value for stage in self._stages() for name, value in asdict(stage).items()}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> SleepReport:
        """Read what `to_dict` wrote, of a record for instance; names that are none of today's are left out."""
        told = {**told, "verdicts": [Verdict(**verdict) for verdict in told.get("verdicts", ())]}
        own = {f.name: told[f.name] for f in fields(cls) if f.name in told}
        sleep = ClosedFormReport if told.get("engine") == "closed_form" else SimulationReport
        for slot, kind in zip(
            _STAGES, (sleep, BalanceReport, SettleReport, LevelReport, RefitReport, JudgeReport), strict=True
        ):
            stage = kind(**{f.name: told[f.name] for f in fields(kind) if f.name in told})
            own[slot] = None if stage == kind() else stage
        return cls(**own)


def summarise(reports: Sequence[SleepReport]) -> str:
    """Return how many nights there were, and what they did.

    Example:
        >>> awake = SleepReport("awake", "no class is new", [], [])
        >>> levelled = SleepReport("slept", "", [], [], level=LevelReport([1.2], [0.1], 0.5))
        >>> summarise([levelled, awake, levelled])
        '3 nights: 2 levelled, 1 awake'
    """
    n = Counter(report.status for report in reports)
    told = ", ".join(f"{n[status]} {status}" for status in Status if n[status])
    return f"{len(reports)} night{'' if len(reports) == 1 else 's'}" + (f": {told}" if told else "")


_STAGES = ("sleep", "balance", "settle", "level", "refit", "judge")
"""Fields of SleepReport that are stages."""

_BLANK = (
    ClosedFormReport(),
    SimulationReport(),
    BalanceReport(),
    SettleReport(),
    LevelReport(),
    RefitReport(),
    JudgeReport(),
)

_TOLD = {f.name for stage in _BLANK for f in fields(stage)}
"""What stages report."""
