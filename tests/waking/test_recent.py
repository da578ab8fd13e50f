"""What is held of an experience until its sleep."""

import pytest
import torch

from src_plugin.waking.recent import RECENT, Recent


def batch(value, classes):
    """Inputs that all have one value, and their classes."""
    return torch.full((len(classes), 3), float(value)), torch.tensor(classes)


def noted(*batches, seen=(0, 1)):
    recent = Recent()
    for x, y in batches:
        recent.note([(x, y)], seen=seen)
    return recent


def test_samples_are_of_earlier_and_of_new_classes():
    x, y = noted(batch(1, [0, 2]), batch(2, [3]), batch(3, [1, 1, 3])).samples
    assert sorted(zip(x[:, 0].tolist(), y.tolist(), strict=True)) == [(1, 0), (1, 2), (2, 3), (3, 1), (3, 1), (3, 3)]


MISSING = {
    "nothing": ([], (0, 1)),
    "nothing earlier": ([batch(1, [2, 3])], (0, 1)),
    "nothing new": ([batch(1, [0, 1])], (0, 1)),
    "a first experience": ([batch(1, [0, 1])], ()),
    "no classes": ([(torch.ones(4, 3), None)], (0, 1)),
    "not one class per input": ([(torch.ones(4, 3), torch.tensor([0, 2]))], (0, 1)),
}


@pytest.mark.parametrize(("batches", "seen"), MISSING.values(), ids=MISSING)
def test_there_are_no_samples_without_both(batches, seen):
    assert noted(*batches, seen=seen).samples is None


def test_what_is_held_is_bounded_and_the_latest_even_of_rare_exemplars():
    recent = noted(*(batch(i, [0] + [2] * 99) for i in range(100)))
    x, y = recent.samples
    assert int((y == 0).sum()) == 100  # one of every batch, though inputs of the first are long gone
    assert RECENT <= int((y == 2).sum()) < RECENT + 100
    assert RECENT <= len(recent.inputs) < RECENT + 100
    assert float(x[y == 2].max()) == float(recent.inputs.max()) == 99.0
    assert float(recent.inputs.min()) == 90.0


def test_different_exemplars_are_counted_over_the_whole_experience():
    recent = noted(*(batch(i % 3, [0] * 50 + [2] * 50) for i in range(60)))  # 3,000 of class 0, of which 3 differ
    assert recent.exemplars([0]) == 3.0
    assert recent.exemplars([0, 1]) == 1.5  # class 1 was seen earlier and not rehearsed
    assert len(recent.samples[1]) < 2 * (RECENT + 50)


def test_without_rehearsal_there_are_no_exemplars():
    assert noted(batch(1, [2, 3])).exemplars([0, 1]) is None
