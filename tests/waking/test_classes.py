"""How many images of each class were learnt."""

import pytest
import torch

from models import mlp
from src_plugin.night.arguments import prior_of
from src_plugin.waking.classes import ClassLedger
from src_plugin.waking.observer import Waking
from waking_samples import show

N_OUTPUTS = 6


def note(ledger, *epochs):
    """An experience of several epochs, each a list of batches, each a list of classes."""
    for epoch in epochs:
        ledger.begin_epoch()
        for batch in epoch:
            outputs, targets = torch.zeros(len(batch), N_OUTPUTS), torch.tensor(batch)
            ledger.open(outputs, targets)
            ledger.note([(outputs, targets)], names=["fc"], n_outputs=N_OUTPUTS)


def counts(ledger):
    return ledger.classes().counts


def after(*experiences):
    """A ledger after experiences of one epoch each, the last of which has not ended."""
    ledger = ClassLedger()
    for i, batches in enumerate(experiences):
        if i:
            ledger.close(slept=True)
        note(ledger, batches)
    return ledger


def test_before_anything_was_seen_nothing_is_counted():
    assert counts(ClassLedger()) == {}


def test_images_are_counted_over_batches():
    assert counts(after([[0, 0, 1], [1, 0]])) == {0: 3, 1: 2}


def test_images_count_once_however_many_epochs_showed_them():
    ledger = ClassLedger()
    note(ledger, [[0, 0, 1]], [[0, 1, 0]], [[1, 0, 0]])
    assert counts(ledger) == {0: 2, 1: 1}


def test_a_class_that_the_last_epoch_left_out_counts_all_the_same():
    # A sampler may leave out the few images of a class, and loaders drop what does not fill a batch.
    ledger = ClassLedger()
    note(ledger, [[0, 0, 1]], [[0, 0]])
    assert counts(ledger) == {0: 2, 1: 1}


def test_each_class_counts_by_its_fullest_epoch_since_the_last_sleep():
    ledger = ClassLedger()
    note(ledger, [[0, 1, 1]], [[0, 0, 0, 1]], [[0]])
    assert counts(ledger) == {0: 3, 1: 2}
    ledger.close(slept=True)
    note(ledger, [[2]])  # the fullest epoch of before counts no more than once
    assert counts(ledger) == {0: 3, 1: 2, 2: 1}


def test_counts_of_earlier_experiences_are_kept():
    assert counts(after([[0, 0, 1]], [[2, 2, 2, 2, 3]])) == {0: 2, 1: 1, 2: 4, 3: 1}


def test_rehearsed_images_do_not_count_again():
    # Both earlier classes come with a new one: they are rehearsed.
    assert counts(after([[0, 0, 1]], [[0, 1, 2], [0, 1, 2]])) == {0: 2, 1: 1, 2: 2}


def test_images_of_classes_that_came_back_count_again():
    # 0 comes back, 1 and 2 stay away; then 1 comes back with a new class, while two of three stay away.
    assert counts(after([[0, 0, 1, 2]], [[0, 0, 0]])) == {0: 5, 1: 1, 2: 1}
    assert counts(after([[0, 0, 1, 2]], [[1, 3], [1, 3]])) == {0: 2, 1: 3, 2: 1, 3: 2}


def test_where_all_came_back_and_none_is_new_nothing_counts_again():
    assert counts(after([[0, 0, 1]], [[0, 1, 1, 1]])) == {0: 2, 1: 1}


def test_a_deferred_sleep_counts_all_experiences_since_the_last():
    ledger = ClassLedger()
    note(ledger, [[0, 0, 1]])
    ledger.close(slept=False)
    note(ledger, [[2]], [[2]])
    assert counts(ledger) == {0: 2, 1: 1, 2: 1}
    ledger.close(slept=True)
    assert counts(ledger) == {0: 2, 1: 1, 2: 1}


def test_a_class_that_is_still_new_when_it_is_shown_again_counts_again():
    ledger = ClassLedger()
    note(ledger, [[0, 0, 1]])
    ledger.close(slept=False)
    note(ledger, [[1, 1]])
    assert counts(ledger) == {0: 2, 1: 3}


def test_targets_that_are_no_classes_are_not_counted():
    ledger = ClassLedger(needs_classes=False)
    for targets in (torch.rand(3, 2), torch.rand(3)):
        ledger.open(torch.zeros(3, N_OUTPUTS), targets)
        ledger.note([(torch.zeros(3, N_OUTPUTS), targets)], names=["fc"], n_outputs=N_OUTPUTS)
    assert counts(ledger) == {}


@pytest.mark.parametrize("target", [-100, N_OUTPUTS])
def test_whole_numbers_that_are_no_classes_are_not_counted(target):
    ledger = ClassLedger(needs_classes=False)
    note(ledger, [[0, 1], [target, 1]])
    assert counts(ledger) == {}


def test_waking_carries_counts_over():
    model, first, second = mlp(12, 4), Waking(), Waking()
    first.begin_epoch()
    show(first, model, torch.rand(5, 12), torch.tensor([0, 0, 0, 1, 1]))
    first.forget(slept=True)
    second.load_state_dict(first.state_dict())
    for waking in (first, second):
        waking.begin_epoch()
        show(waking, model, torch.rand(3, 12), torch.tensor([2, 2, 3]))
        assert waking.ledger.classes().counts == {0: 3, 1: 2, 2: 2, 3: 1}


def test_after_a_state_from_before_there_were_counts_a_sleep_has_a_prior():
    first, second = Waking(), Waking()
    show(first, mlp(12, 4), torch.rand(2, 12), torch.tensor([0, 1]))
    first.forget(slept=True)
    state = first.state_dict()
    del state["counts"]
    second.load_state_dict(state)
    show(second, mlp(12, 4), torch.rand(2, 12), torch.tensor([2, 3]))
    assert second.ledger.classes().counts is None
    assert prior_of(second.ledger.classes().counts, (0, 1, 2, 3)) == (0.25, 0.25, 0.25, 0.25)
