"""The plan of a night: which nights are tried, in which order, and why. All gates stand here, and nowhere else.

A healthy network is left as it is. Each gate is a field of `Gates` and can be switched off there.
"""

from __future__ import annotations

from dataclasses import dataclass

from src_plugin.config import SleepConfig
from src_plugin.report import BalanceReport
from src_plugin.waking.classes import Classes
from src_plugin.waking.summary import TrainingSummary


@dataclass(frozen=True)
class Stages:
    """The stages of one night: why each is left out, or None where it is done.

    Attributes:
        sleep: Of the sleep itself.
        settle: Of settling.
        level: Of levelling.
        refits: Whether the output layer is fitted on labelled noise afterwards, where there is some.
        levels_only: Whether the night is meant to level outputs and do nothing else.
    """

    sleep: str | None = None
    settle: str | None = None
    level: str | None = None
    refits: bool = False
    levels_only: bool = False

    @property
    def name(self) -> str:
        """What a report calls such a night."""
        return "levelling alone" if self.levels_only else "the night"


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        reason: Why.
        nights: Nights to try, one after the other, until one is kept; none stays awake.
        gate: Flat name of the gate that keeps the network awake, if no night is tried or none is kept.
        is_judged: Whether samples judge each night.
    """

    reason: str
    nights: tuple[Stages, ...] = ()
    gate: str | None = None
    is_judged: bool = False


def plan_night(config: SleepConfig, training: TrainingSummary, *, n_layers: int, balance: BalanceReport | None) -> Plan:
    """Say whether to sleep, what for, and how.

    Args:
        config: The stages that are on, and the gates that are asked.
        training: Classes, recall, whether there are samples and weights before, and the name of a protector.
        n_layers: Of the head. A single layer has no hidden weights that later classes could have moved: what an output
            answers changes by its own row alone, and a sleep and a way back cost 1 to 12 points of what levelling alone
            keeps (docs/research_notes.md).
        balance: How much of the noise new classes win; None where there is nothing to balance (pure SRC, or no old and
            new classes).
    """
    classes = training.classes
    recall = classes.recall if balance else None
    is_judged = config.gates.rehearsal and recall is not None and training.samples is not None
    if classes.old and classes.new == () and config.gates.new_classes and not config.is_pure:
        return Plan("no new classes in this experience", gate="new_classes_gate")
    if config.gates.rehearsal and recall is not None and not is_judged and recall > config.constants.recalled:
        return Plan(f"rehearsal works: {recall:.0%} of rehearsed samples are recalled", gate="rehearsal_gate")
    balanced = _why_balanced(config, balance)
    if balanced and not (is_judged and config.level):
        return Plan(balanced, gate="balance_gate", is_judged=is_judged)
    one_layer = n_layers == 1 and config.gates.hidden and config.sleep and config.level
    shallow = "levels only: a head of one layer has no hidden units to replay with" if one_layer else None
    protected = _why_protected(config, training)
    reason = shallow or balanced or protected or _why_sleep(config, classes)
    whole = _whole_night(config, training, is_protected=bool(protected))
    if balance is None and (shallow or whole.sleep):
        why = _why_unbalanced(classes)
        if shallow:
            return Plan(f"{shallow}; {why}", gate="hidden_gate")
        return Plan(f"without the sleep itself nothing is left to do: {why}")
    gate = ("balance_gate" if balanced else "rehearsal_gate") if is_judged else None
    nights = [whole]
    if balanced or shallow:  # whole classes may be out of balance all the same
        nights = [_levelling("the outputs are levelled only" if balanced else reason, whole)]
    elif is_judged and config.level and not whole.levels_only:
        nights.append(_levelling("too few samples were right after it", whole))
    return Plan(reason, tuple(nights), gate, is_judged)


def _levelling(why: str, whole: Stages) -> Stages:
    """Return a night in which outputs are levelled only, where a whole one could level them."""
    return Stages(why, why, whole.level, refits=whole.refits, levels_only=True)


def _whole_night(config: SleepConfig, training: TrainingSummary, *, is_protected: bool) -> Stages:
    """Return the night that goes through every stage that is on and finds what it needs."""
    classes, off = training.classes, "switched off"
    sleep = settle = level = None
    how = config.sleep
    if how is not None and (is_protected or how.is_nothing):
        sleep = "it is to change nothing" if how.is_nothing else "a gate leaves it out"
    if classes.new is None:
        settle = level = "it is not known which classes are new"
    elif not (classes.old and classes.new):
        settle = level = "there are no earlier classes"
    elif training.before is None:
        settle = "the weights before the experience were not given"
    return Stages(
        sleep if how else off,
        settle if config.settle else off,
        level if config.level else off,
        refits=config.refits,
        levels_only=not (how or config.settle),
    )


def _why_balanced(config: SleepConfig, balance: BalanceReport | None) -> str | None:
    """Say that noise gives the new classes no more than their share; None if it does, or if nobody asks."""
    if not config.gates.balance or balance is None or balance.share_trained is None or balance.expected_share is None:
        return None
    share, expected = balance.share_trained, balance.expected_share
    told = f"new classes do not dominate: noise gives them {share:.0%}, their share is {expected:.0%}"
    return told if share <= expected else None


def _why_protected(config: SleepConfig, training: TrainingSummary) -> str | None:
    """Say that a plugin protects what earlier inputs evoke: the sleep itself would move just that.

    Under orthogonal weights modification the sleep costs 3 to 5 points, settling and levelling nothing.
    """
    if config.is_pure or not config.gates.rehearsal or training.protector is None:
        return None
    return f"settles and levels only: {training.protector} protects what earlier inputs evoke"


def _why_unbalanced(classes: Classes) -> str:
    """Say why there are no classes that outputs could be balanced between."""
    if classes.new is None:
        return "it is not known which classes are new (new_classes)"
    return f"there are no {'new classes (new_classes)' if classes.old else 'earlier classes (old_classes)'}"


def _why_sleep(config: SleepConfig, classes: Classes) -> str:
    if config.is_pure:
        return "pure SRC sleeps whenever it is told to"
    if classes.new is None:
        return "it is not known which classes are new, so no gate could tell"
    return "the classes of this experience crowd out others" if classes.old else "first sleep: all classes are new"
