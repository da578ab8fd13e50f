"""SleepReport: what one sleep did, stage by stage, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class SleepReport:
    """What one sleep did, stage by stage. Everything is a plain number, text or list, so that JSON can hold it.

    Attributes:
        decision: "slept", or "awake" if a gate or zero steps left the head as it was.
        reason: Why.
        gate: The field of SleepConfig whose gate closed or, judging by samples, undid the night; None if none did.
        layers: Names of the head's layers.
        sizes: Units per layer, the inputs first, (L+1).
        engine: What computed the sleep itself: "closed_form" or "simulated"; None if it was left out.
        fractions: In closed form: part of each excited unit's answer to the mean input that was removed, (L).
        answers: In closed form: the mean over units of that answer before, (L).
        steps: Steps of a simulated sleep.
        strength: Depth of the sleep: the factor on how far weights may move.
        input_variation: Mean squared distance of inputs from the mean input, relative to the squared norm of that; the
            depth was measured from it.
        spikes: Spikes per unit layer, the inputs first, (L+1).
        rates: The same per unit and step: firing rates as fractions, (L+1).
        scales: Gain per layer, (L).
        thresholds: Membrane threshold per layer, (L).
        inc: Potentiation step per layer, (L).
        dec: Depression step per layer, (L).
        potentiations: Weight updates upwards per layer, (L).
        depressions: Weight updates downwards per layer, (L).
        noise_strength: Share of the mean input that noise of stages B and C has.
        expected_share: Share of the noise that new classes are to win, after the numbers of their images.
        share_trained: Fraction of noise that new classes win before the sleep.
        share_slept: The same after stage A.
        silenced: Whether outputs of new classes had no past, so that settling started from silenced ones.
        share_settled: The same after stage B.
        share_levelled: The same after stage C, among twice as many noise vectors.
        settled_at: Position on the settling line: 1 is the slept head, 0 the other end.
        settled_towards: "before" or "trained".
        gains: Factor on the outputs of each seen class in stage C.
        offsets: Offset of each seen class in stage C, after that.
        kept_fraction: Share of the first sleep's change that was kept.
        samples: How many samples of old and of new classes judged the night.
        exemplars: How many different ones of an old class were rehearsed, on average.
        must_rise: By how much the next had to rise for the night to be kept; below 0 it might fall by so much, as few
            exemplars tell little.
        samples_trained: Mean accuracy over classes on rehearsed and new samples before the night, where it was judged.
        samples_after: The same after it; if several nights were tried, after the last.
        verdicts: What samples said of each night that was tried: `night` (by name), `after`, `asked` (as `must_rise`)
            and `kept`.
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
    engine: str | None = None
    fractions: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    steps: int = 0
    strength: float = 0.0
    input_variation: float | None = None
    spikes: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    inc: list[float] = field(default_factory=list)
    dec: list[float] = field(default_factory=list)
    potentiations: list[int] = field(default_factory=list)
    depressions: list[int] = field(default_factory=list)
    noise_strength: float | None = None
    expected_share: float | None = None
    share_trained: float | None = None
    share_slept: float | None = None
    silenced: bool = False
    share_settled: float | None = None
    share_levelled: float | None = None
    settled_at: float | None = None
    settled_towards: str | None = None
    gains: list[float] | None = None
    offsets: list[float] | None = None
    kept_fraction: float | None = None
    samples: list[int] | None = None
    exemplars: float | None = None
    must_rise: float | None = None
    samples_trained: float | None = None
    samples_after: float | None = None
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    weight_change: list[float] = field(default_factory=list)
    weight_norm: list[float] = field(default_factory=list)
    backbone_trained: bool = False
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return the stages of the sleep, a line each."""
        lines = [
            f"{self.decision}: {self.reason} ({self.seconds:.2f} s)",
        ]
        if self.layers:
            lines.append(
                f"  head    {', '.join(self.layers) or 'the module itself'} ({'-'.join(map(str, self.sizes))})"
            )
        if self.fractions:
            parts = ", ".join(f"{fraction:.0%}" for fraction in self.fractions)
            how = f"in closed form, depth {self.strength:.2g}"
            lines.append(f"  sleep   {how}: units answer the mean input less by {parts}, layer by layer")
        if self.rates:
            rates = ", ".join(f"{100 * rate:.2g} %" for rate in self.rates[1:])
            lines.append(
                f"  sleep   simulated: {self.steps} steps, depth {self.strength:.2g}; units fire in {rates} of them"
            )
        if self.kept_fraction is not None:
            lines.append(f"  keep    {self.kept_fraction:.0%} of the change of this first sleep")
        if self.settled_at is not None:
            start = "the weights before" if self.settled_towards == "before" else "the trained weights"
            end = "the slept ones" if self.engine or self.rates else "the trained ones"
            lines.append(
                f"  settle  new classes win {self.share_slept:.0%} -> {self.share_settled:.0%} of noise (their share: "
                f"{self.expected_share:.0%}), at {self.settled_at:.2f} of the way from {start} to {end}"
                + (" with new outputs silenced, since they had no past" if self.silenced else "")
            )
        if self.gains is not None and self.offsets is not None:
            lines.append(
                f"  level   outputs times {min(self.gains):.2g} to {max(self.gains):.2g}, offset by "
                f"{min(self.offsets):+.2g} to {max(self.offsets):+.2g}; new classes win {self.share_levelled:.0%}"
            )
        if self.samples and self.samples_trained is not None:
            lines.append(
                f"  judge   by {self.samples[0]} rehearsed samples ({self.exemplars:.3g} different ones a class) and "
                f"{self.samples[1]} new ones, of which {self.samples_trained:.1%} were right before, class by class"
            )
            lines += [_line_of(verdict) for verdict in self.verdicts]
        lines += [f"  skipped {stage}: {why}" for stage, why in self.skipped.items()]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields for JSON."""
        return asdict(self)


def _line_of(verdict: dict[str, Any]) -> str:
    """Return what samples said of one attempt."""
    asked = verdict["asked"]
    if not asked:
        wanted = "it had to rise"
    else:
        wanted = f"it {'had to rise' if asked > 0 else 'might fall'} by {100 * abs(asked):.1f} points"
    outcome = "kept" if verdict["kept"] else "undone"
    return f"          after {verdict['night']} {verdict['after']:.1%}; {wanted}: {outcome}"
