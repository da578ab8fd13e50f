"""Every other number of the default, with its reason. A study changes fields and patches no module.

All were chosen on held-out training images of MNIST, Fashion-MNIST, the digits and features of CIFAR-10;
`docs/research_notes.md` has the trials.
"""

from __future__ import annotations

from dataclasses import dataclass

from src_plugin.config.checks import Check, check_fields, is_int, is_least_0, is_positive, is_share


@dataclass(frozen=True, kw_only=True)
class Constants:
    """Numbers that no user needs to set.

    Attributes:
        noise_vectors: Noise vectors of a night; the first half of them is enough to tell shares. Three times as many do
            no better.
        noise_inputs: Current inputs whose correlations the noise has; more tell nothing more.
        noise_spread: Standard deviation of the noise, in those of current inputs: all seen classes vary more than a
            few.
        noise_below: How far below the mean noise lies, in standard deviations, at most by half of the mean.
        settle_step: Factor from one point to the next when balance is looked for from the slept end of the line.
        settle_refinements: Points tried between two that have balance between them.
        level_gain: How far outputs go to equal spread, in logarithms: whole, it would undo what a class with clearer
            features earned.
        level_rounds: Rounds of the fixed point that levels outputs.
        class_vectors: Labelled noise vectors of each class, where class means are kept. Three times as many do no
            better.
        class_spread: Their standard deviation, in those of current inputs around their class means.
        refit_strength: How hard the refitted output layer is pulled back, in units of the hidden activity.
        refit_steps: Iterations of its solver, at most.
        recalled: Recall of rehearsed samples above which a network stays awake, where no samples can judge a night.
        judge_gain: By how much the mean accuracy over classes has to rise in a night where nothing is memorised: about
            what a night costs what is learnt next.
        judge_memorised: Recall from which on exemplars may be memorised.
        judge_margin: Of an accuracy that one exemplar tells; 0.5 / sqrt(n) is the largest standard error of n of them.
    """

    noise_vectors: int = 128
    noise_inputs: int = 300
    noise_spread: float = 3.0
    noise_below: float = 0.7
    settle_step: float = 0.6
    settle_refinements: int = 4
    level_gain: float = 0.5
    level_rounds: int = 60
    class_vectors: int = 32
    class_spread: float = 1.5
    refit_strength: float = 1e-3
    refit_steps: int = 15
    recalled: float = 0.5
    judge_gain: float = 0.01
    judge_memorised: float = 0.75
    judge_margin: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_fields(self, _CHECKS)


_CHECKS = (
    Check(
        ("noise_vectors", "noise_inputs", "settle_refinements", "level_rounds", "class_vectors", "refit_steps"),
        lambda v: is_int(v) and v > 0,
        "whole, 1 or more",
    ),
    Check(("noise_vectors",), lambda v: v % 2 == 0, "even: one half tells shares, both level"),
    Check(("settle_step", "recalled", "judge_memorised"), is_share, "in (0, 1]"),
    Check(("noise_spread", "class_spread", "refit_strength"), is_positive, "a finite number above 0"),
    Check(
        ("noise_below", "level_gain", "judge_gain", "judge_margin"),
        is_least_0,
        "a finite number, 0 or more",
    ),
)

DEFAULT = Constants()
