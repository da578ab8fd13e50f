"""Which classes are new, which came back, and how well they are recalled."""

import pytest
import torch

from models import mlp
from src_plugin.waking.observer import Waking
from waking_samples import backbone, batches, show


def test_classes_are_new_until_a_sleep():
    model, waking = backbone(), Waking()
    for classes, slept, new, seen in (
        ((0, 1), False, {0, 1}, set()),
        ((2,), True, {0, 1, 2}, set()),
        ((1, 3), True, {3}, {0, 1, 2}),
    ):
        for x, y in batches(3, classes=classes):
            show(waking, model, x, y)
        assert (waking.ledger.new, waking.ledger.seen) == (new, seen)
        waking.forget(slept=slept)
    assert (waking.ledger.new, waking.ledger.seen) == (set(), {0, 1, 2, 3})


COMING_BACK = {
    # classes seen earlier, classes of the experience -> classes that stand against each other
    "only new ones": ((0, 1), (2, 3), (2, 3), (0, 1)),
    "all earlier ones are rehearsed": ((0, 1), (0, 1, 2, 3), (2, 3), (0, 1)),
    "most earlier ones are rehearsed": ((0, 1, 2), (0, 1, 3), (3,), (0, 1, 2)),
    "half of them came back with a new one": ((0, 1), (0, 2), (0, 2), (1,)),
    "some came back alone": ((0, 1, 2), (0, 1), (0, 1), (2,)),
    "all came back alone": ((0, 1), (0, 1), (), (0, 1)),
}


@pytest.mark.parametrize(("earlier", "now", "new", "old"), COMING_BACK.values(), ids=COMING_BACK)
def test_classes_of_the_experience_stand_against_those_that_training_may_have_overwritten(earlier, now, new, old):
    model, waking = mlp(8, 6, 4), Waking()
    for classes in (earlier, now):
        if waking.has_seen_input:
            waking.forget(slept=True)
        x = torch.rand(12, 8)
        show(waking, model, x, torch.tensor([classes[i % len(classes)] for i in range(12)]))
    classes_now = waking.summary().classes
    assert (classes_now.new, classes_now.old) == (new, old)
    rehearsed = new != now
    assert (classes_now.recall is not None) == rehearsed
    waking.forget(slept=True)
    assert waking.ledger.shown == set()


def recall_of(answers, *, epochs=1):
    """Recall after batches of one sample of the old class 0 each, answered rightly (True) or as class 1."""
    waking = Waking()
    waking.ledger.seen = {0}
    model = mlp(12, 4)
    for _ in range(epochs):
        waking.begin_epoch()
        for right in answers:
            waking.begin_forward(model)
            model(torch.ones(2, 12))
            # The second sample is of the new class 1; output 3 is the largest, but was never seen.
            out = torch.tensor([[1.0, 0.0, 0.0, 9.0] if right else [0.0, 1.0, 0.0, 9.0], [0.0, 1.0, 0.0, 9.0]])
            waking.end_forward(model, out, torch.tensor([0, 1]))
    return waking.ledger.recall


def test_recall_is_that_of_the_second_half_of_the_last_epoch():
    assert recall_of([False, False, True, True]) == 1.0
    assert recall_of([True, True, True, False]) == 0.5
    assert recall_of([True, False, False], epochs=2) == 0.0


def test_without_samples_of_earlier_classes_there_is_no_recall():
    model, waking = backbone(), Waking()
    for x, y in batches(3):
        show(waking, model, x, y)
    assert waking.ledger.recall is None


class NoLook(torch.overrides.TorchFunctionMode):
    """Counts what makes a program wait for a GPU: values that Python looks at."""

    LOOKS = ("item", "tolist", "__bool__", "__int__", "__float__", "cpu", "numpy", "nonzero", "unique", "to")

    def __init__(self):
        self.looks = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ in self.LOOKS:
            self.looks.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_no_value_of_a_single_batch_is_looked_at():
    model, waking = mlp(12, 8, 4), Waking()
    for x, y in batches(3):
        show(waking, model, x, y)
    waking.forget(slept=True)
    first, *later = batches(20, classes=(0, 2))
    show(waking, model, *first)
    with NoLook() as mode:
        for x, y in later:
            show(waking, model, x, y)
    assert mode.looks == []
    assert waking.ledger.new == {2}
    assert waking.ledger.recall is not None
