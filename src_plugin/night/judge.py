"""A rehearsing network has samples of old classes in its batches; whether a sleep harms it, they can tell.

No sample is kept for that beyond the experience. A night is kept if the mean accuracy over classes rises by
`judge_gain`, which is about what it costs what is learnt next. But exemplars that are recalled may be memorised: the
accuracy on them is above that on other inputs of the same classes, by something of the order of 1 / sqrt(n) with n
different exemplars a class, and a night takes of that, too. So of what has to be gained

    judge_margin / sqrt(n) * (old classes / all classes)

is taken off, times how far the recall is on the way from `judge_memorised` to 1: a handful of memorised exemplars
forbids little, thousands or half forgotten ones forbid any loss. If the whole night is not kept, levelling alone is
tried, and if noise was balanced already, only that is; it forgets little that is memorised, so it has to gain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from src_plugin.config.constants import DEFAULT, Constants
from src_plugin.head.probe import Probe
from src_plugin.head.state import Head, HeadState
from src_plugin.night.plan import Stages
from src_plugin.report import JudgeReport, Verdict
from src_plugin.waking.samples import check_samples, count_exemplars, fingerprints, merge_repeated
from src_plugin.waking.summary import TrainingSummary


def must_rise(exemplars: float, *, recall: float, old: int, new: int, constants: Constants = DEFAULT) -> float:
    """Return by how much the mean accuracy over classes has to rise in a night, as a fraction; below 0 it may fall.

    Args:
        exemplars: Different exemplars of an old class, on average.
        recall: Share of them that training classified rightly.
        old: Number of old classes.
        new: Number of new classes.
        constants: `judge_gain`, `judge_memorised` and `judge_margin`.
    """
    c = constants
    memorised = max(0.0, (recall - c.judge_memorised) / (1.0 - c.judge_memorised)) if c.judge_memorised < 1 else 0.0
    return c.judge_gain - memorised * c.judge_margin / math.sqrt(max(exemplars, 1.0)) * old / (old + new)


@dataclass(frozen=True)
class Judge:
    """Tells by samples whether a night is kept.

    Attributes:
        shown: The head, and its inputs from different samples of old and of new classes.
        classes: Of these samples, shape (n,).
        times: How often each was among the samples, shape (n,).
        among: Outputs among which is chosen, ascending.
        samples: How many there are of old and of new classes.
        exemplars: Different ones of an old class, on average.
        asked: By how much the mean accuracy over classes has to rise.
        trained: That accuracy before the night.
    """

    shown: Probe
    classes: Tensor
    times: Tensor
    among: tuple[int, ...]
    samples: list[int]
    exemplars: float
    asked: float
    trained: float

    @classmethod
    def of(cls, head: Head, trained: HeadState, training: TrainingSummary, constants: Constants = DEFAULT) -> Judge:
        """Return the judge of a night by the samples of a training.

        Args:
            head: The head.
            trained: Its parameters before the night.
            training: Samples, classes and recall.
            constants: See `must_rise`.

        Raises:
            ConfigError: The samples cannot be meant.
        """
        old, new, recall = training.classes.old, training.classes.new or (), training.classes.recall
        x, y = check_samples(training.samples, n_inputs=head.sizes[0], old=old, new=new)
        x, y, times = merge_repeated(x, y)
        y, times = y.to(trained.device), times.to(trained.device)
        shown, among = Probe(head, x.to(trained.weights[0])), training.classes.seen
        exemplars = training.exemplars
        if exemplars is None:
            exemplars = count_exemplars(fingerprints(shown.inputs), y, old=old)
        n_old = int(times[torch.isin(y, torch.tensor(old, device=y.device))].sum())
        asked = must_rise(exemplars, recall=recall or 0.0, old=len(old), new=len(new), constants=constants)
        right = by_class(shown, trained, y, times, among=among)
        return cls(shown, y, times, among, [n_old, int(times.sum()) - n_old], exemplars, asked, right)

    def accepts(self, state: HeadState, night: Stages) -> Verdict:
        """Say whether a night is kept.

        Args:
            state: The parameters after the night.
            night: What it was; levelling alone has to gain, if ever so little, whatever is memorised.
        """
        after = by_class(self.shown, state, self.classes, self.times, among=self.among)
        if night.levels_only:
            return Verdict(night.name, after, 0.0, after > self.trained)
        return Verdict(night.name, after, self.asked, after - self.trained >= self.asked)

    def report(self, verdicts: Sequence[Verdict]) -> JudgeReport:
        """Return what is told of the nights that were tried, at least one."""
        last = verdicts[-1]
        return JudgeReport(self.samples, self.exemplars, last.asked, self.trained, last.after, list(verdicts))


def by_class(shown: Probe, state: HeadState, classes: Tensor, times: Tensor, *, among: tuple[int, ...]) -> float:
    """Return the mean over classes of the share of samples that are classified rightly.

    Args:
        shown: The head, and inputs to show it.
        state: Its parameters.
        classes: Of the inputs, shape (n,).
        times: How often each input counts, shape (n,).
        among: Outputs among which is chosen, ascending.
    """
    columns = torch.tensor(among, device=classes.device)
    answers = columns[shown.logits(state)[:, columns].argmax(1)]
    right = (answers == classes) * times
    rows = [classes == c for c in classes.unique()]
    return float(torch.stack([right[own].sum().double() / times[own].sum() for own in rows]).mean())
