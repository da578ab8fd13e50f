"""The first gate of a simulated sleep: what was just learnt stays learnt; on heads so small that predictions count."""

import pytest
import torch
from torch import nn

from src_plugin.config import Measuring
from src_plugin.head.find import find_head
from src_plugin.head.state import HeadState
from src_plugin.night.replay import keep_first

FRACTIONS = Measuring().first_shares


def head_and_state(weight):
    """A head of one layer with these weights."""
    w = torch.tensor(weight, dtype=torch.float64)
    return find_head(nn.Linear(w.shape[1], w.shape[0], bias=False), head=""), HeadState((w,), (None,))


def flipping(share, at):
    """A head where the sleep flips this share of 100 predictions, all at one fraction of the change.

    Input i is unit i alone. Class 0 answers 1; class 1 answers 0 awake, and 1/at asleep where it is to flip, so that
    it wins from fraction `at` on.
    """
    head, trained = head_and_state([[1.0] * 100, [0.0] * 100])
    slept = trained.weights[0].clone()
    slept[1, : round(100 * share)] = 1.0 / at
    return head, trained, HeadState((slept,), (None,)), torch.eye(100, dtype=torch.float64)


def test_a_first_sleep_that_changes_no_prediction_is_kept_whole():
    head, trained, slept, inputs = flipping(0.0, at=0.5)
    state, fraction = keep_first(head, trained, slept, inputs, Measuring())
    assert fraction == 1.0
    assert torch.equal(state.weights[0], slept.weights[0])


@pytest.mark.parametrize("times", [1, 7], ids=["one look", "several looks"])
@pytest.mark.parametrize(("share", "kept"), [(0.01, 1.0), (0.02, 0.6)], ids=["1 percent may change", "2 may not"])
def test_of_a_first_sleep_the_largest_harmless_part_is_kept(share, kept, times):
    # Fractions 1 and 0.8 are past 0.65, where the predictions flip; 0.6 is not.
    head, trained, slept, inputs = flipping(share, at=0.65)
    state, fraction = keep_first(head, trained, slept, inputs.repeat_interleave(times, dim=0), Measuring())
    assert fraction == kept
    assert torch.equal(state.weights[0], trained.towards(slept, kept).weights[0])


def test_a_first_sleep_of_which_any_part_harms_is_taken_back():
    head, trained, slept, inputs = flipping(0.5, at=0.01)
    state, fraction = keep_first(head, trained, slept, inputs, Measuring())
    assert fraction == 0.0
    assert torch.equal(state.weights[0], trained.weights[0])


def test_fractions_are_tried_from_all_to_nothing():
    assert list(FRACTIONS) == sorted(FRACTIONS, reverse=True)
    assert (FRACTIONS[0], FRACTIONS[-1]) == (1.0, 0.0)
