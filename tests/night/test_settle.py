"""Settling lands where noise gives new classes their share, levelling gives every class its own."""

import numpy as np
import pytest
import torch
from torch import nn

from models import mlp, same_bits
from src_plugin.head.find import find_head
from src_plugin.head.probe import Probe
from src_plugin.head.state import HeadState
from src_plugin.night import settle as settling
from src_plugin.night.noise import share_of
from src_plugin.night.settle import align, level, settle
from src_plugin.waking.classes import Classes

N = 101
ONE_EACH = torch.eye(
    N, dtype=torch.float64
)  # noise vector i is input i alone, so W[c, i] is what class c answers to it


def line(new):
    """A state of a head with two outputs: class 0 always answers 0, class 1 as given."""
    return HeadState((torch.stack([torch.zeros(N, dtype=torch.float64), new.to(torch.float64)]),), (None,))


HEAD = find_head(nn.Linear(N, 2, bias=False), head="")
ALL_OLD = line(torch.full((N,), -1.0))
SPREAD = torch.linspace(0.5, 1.5, N)


def settled(**states):
    return settle(Probe(HEAD, ONE_EACH), classes=Classes(new=(1,), old=(0,)), **states)


# -- settling ----------------------------------------------------------------------------------------------------------


def test_settling_lands_where_the_share_is_what_is_expected():
    # On the line at a, class 1 answers a s_i - (1 - a), and wins where s_i > (1 - a) / a. With s from 0.5 to 1.5 that
    # is half of the inputs at (1 - a) / a = 1, a = 0.5.
    found = settled(before=ALL_OLD, trained=line(SPREAD + 9), slept=line(SPREAD))
    assert found.other_end == "before"
    assert found.position == pytest.approx(0.5, abs=0.01)
    assert found.share == pytest.approx(0.5, abs=0.02)
    assert share_of(Probe(HEAD, ONE_EACH).logits(found.state), seen=(0, 1), new=(1,)) == found.share
    assert same_bits(found.state.weights[0], ALL_OLD.towards(line(SPREAD), found.position).weights[0])


@pytest.mark.parametrize("expected", [0.25, 0.8])
def test_settling_lands_where_new_classes_win_the_share_they_are_to_win(expected):
    # As above, a share e of s from 0.5 to 1.5 is above 1.5 - e = (1 - a) / a, so a = 1 / (2.5 - e).
    found = settled(before=ALL_OLD, trained=line(SPREAD + 9), slept=line(SPREAD), expected=expected)
    assert found.other_end == "before"
    assert found.share == pytest.approx(expected, abs=0.02)
    assert found.position == pytest.approx(1 / (2.5 - expected), abs=0.01)


def test_a_sleep_went_too_far_only_if_new_classes_win_less_than_they_are_to_win():
    # Slept: class 1 wins half of the noise, which is too little of three quarters and too much of a quarter.
    slept = line(torch.cat([torch.ones(50), -torch.ones(N - 50)]))
    ends = [settled(before=ALL_OLD, trained=line(SPREAD), slept=slept, expected=e).other_end for e in (0.75, 0.25)]
    assert ends == ["trained", "before"]


def test_sleep_that_went_too_far_is_taken_back_towards_the_trained_head():
    # Slept: class 1 answers -1 and never wins; trained: s. At position a from trained: (1 - a) s - a, so again a = 0.5.
    found = settled(before=ALL_OLD, trained=line(SPREAD), slept=line(torch.full((N,), -1.0)))
    assert found.other_end == "trained"
    assert found.position == pytest.approx(0.5, abs=0.01)
    assert found.share == pytest.approx(0.5, abs=0.02)


def test_no_point_is_tried_after_one_that_none_could_be_nearer_to_balance_than():
    # Shares of 100 inputs are whole hundredths: a third cannot be met better than by 0.33, which is the second try.
    shares = iter([0.4, 0.33, 0.1])
    tried = []
    found = settling._refine(lambda at: tried.append(at) or next(shares), (0.0, 0.2), (1.0, 0.6), 1 / 3, n=100, tries=4)
    assert found[1] == 0.33
    assert len(tried) == 2


def test_a_sleep_that_balanced_everything_by_itself_is_left_as_it_is():
    # 50 of 100 noise vectors each: the share is exactly what is expected.
    slept = line(torch.cat([torch.ones(50), -torch.ones(N - 50)]))
    even = Probe(HEAD, ONE_EACH[:100])
    found = settle(even, before=ALL_OLD, trained=line(SPREAD), slept=slept, classes=Classes(new=(1,), old=(0,)))
    assert (found.position, found.share) == (1.0, 0.5)
    assert same_bits(found.state.weights[0], slept.weights[0])


def test_without_balance_on_the_line_the_most_balanced_point_is_taken():
    # Class 1 wins everything at both ends and everywhere between: there is nothing better than what was seen.
    found = settled(before=line(SPREAD), trained=line(SPREAD), slept=line(SPREAD + 1))
    assert found.other_end == "before"
    assert found.share == 1.0
    assert 0.0 < found.position <= 1.0


def test_points_are_looked_at_down_to_a_fiftieth_of_the_way():
    # 60 inputs are always won, and the others from a = 0.02 on: at 0.6^7 = 0.028, and no more at 0.6^8 = 0.017.
    before = line(torch.where(torch.arange(N) < 60, 1.0, -0.02 / 0.98))
    found = settled(before=before, trained=line(torch.ones(N)), slept=line(torch.ones(N)), expected=0.5)
    assert found.position == pytest.approx(0.6**8)
    assert found.share == 60 / N


@pytest.mark.parametrize(("expected", "tries"), [(0.355, 1), (0.345, 4)], ids=["nearest", "another may be nearer"])
def test_of_ten_vectors_a_share_within_a_twentieth_is_near_enough(expected, tries):
    tried = []

    def share(position):
        tried.append(position)
        return 0.4

    settling._refine(share, (0.0, 0.2), (1.0, 0.6), expected, n=10, tries=4)
    assert len(tried) == tries


def test_the_crossing_nearest_to_the_slept_head_is_taken():
    # Near `before` class 1 wins again by chance; the scan comes from the slept end and stops at the first balance.
    before = line(torch.full((N,), -1.0))
    slept = line(SPREAD)
    found = settled(before=before, trained=line(SPREAD), slept=slept)
    noise = Probe(HEAD, ONE_EACH)
    further = [share_of(noise.logits(before.towards(slept, a)), seen=(0, 1), new=(1,)) for a in (0.6, 0.8, 1.0)]
    assert found.position < 0.6
    assert all(share > 0.5 for share in further)


def test_biases_settle_with_the_weights():
    head = find_head(nn.Linear(N, 2), head="")
    bias = torch.tensor([0.0, 4.0], dtype=torch.float64)
    before = HeadState(ALL_OLD.weights, (torch.zeros(2, dtype=torch.float64),))
    slept = HeadState(line(SPREAD).weights, (bias,))
    noise = Probe(head, ONE_EACH)
    found = settle(noise, before=before, trained=slept, slept=slept, classes=Classes(new=(1,), old=(0,)))
    torch.testing.assert_close(found.state.biases[0], found.position * bias)


# -- heads that grew ---------------------------------------------------------------------------------------------------


def states(n_old, n_new):
    """Heads 3-2-n and 3-2-m, the old one all 1 and the new one all 2."""
    old = HeadState((torch.ones(2, 3), torch.ones(n_old, 2)), (torch.ones(2), torch.ones(n_old)))
    new = HeadState((2 * torch.ones(2, 3), 2 * torch.ones(n_new, 2)), (2 * torch.ones(2), 2 * torch.ones(n_new)))
    return old, new


def test_a_head_that_kept_its_shape_is_simply_what_it_was():
    old, new = states(4, 4)
    aligned, lost = align(old, new)
    assert lost == 0
    assert all(torch.equal(a, b) for a, b in zip(aligned.tensors(), old.tensors(), strict=True))


def test_units_that_grew_since_are_taken_as_they_are_now():
    old, new = states(2, 4)
    aligned, lost = align(old, new)
    assert lost == 4  # two rows of two weights
    assert torch.equal(aligned.weights[0], old.weights[0])
    assert aligned.weights[1].tolist() == [[1, 1], [1, 1], [2, 2], [2, 2]]
    assert aligned.biases[1].tolist() == [1, 1, 2, 2]


def test_aligning_changes_neither_state():
    old, new = states(2, 4)
    align(old, new)
    assert all((t == 1).all() for t in old.tensors())
    assert all((t == 2).all() for t in new.tensors())


# -- levelling ---------------------------------------------------------------------------------------------------------

SEEN = (0, 2, 3)


def levelling(bias=True):
    model = mlp(20, 30, 5, bias=bias, dtype=torch.float64)
    head = find_head(model, torch.ones(1, 20, dtype=torch.float64))
    with torch.no_grad():
        model[2].weight[0] += 0.2  # class 0 wins more than its part
    state = head.read()
    noise = torch.from_numpy(np.random.default_rng(0).random((4096, 20)) < 0.4).double()
    return head, state, noise


def wins(head, state, noise):
    winners = head.logits(state, noise)[:, list(SEEN)].argmax(1)
    return torch.bincount(winners, minlength=len(SEEN)).double() / len(noise)


def test_levelled_classes_win_equally_often():
    head, state, noise = levelling()
    assert wins(head, state, noise).max() > 0.6
    levelled = level([Probe(head, noise)], state, seen=SEEN)
    # Not to the last vote: shares are those of a softmax, so that they change smoothly.
    assert wins(head, levelled.state, noise).tolist() == pytest.approx([1 / 3] * 3, abs=0.05)
    assert levelled.shares.tolist() == wins(head, levelled.state, noise).tolist()
    assert float(levelled.offsets.mean()) == pytest.approx(0.0, abs=1e-12)


PRIORS = {"a rare class": (0.6, 0.3, 0.1), "a rarer one": (0.5, 0.48, 0.02), "equal": (1 / 3, 1 / 3, 1 / 3)}


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_levelled_classes_win_the_shares_they_are_to_win(prior):
    head, state, noise = levelling()
    levelled = level([Probe(head, noise)], state, seen=SEEN, prior=prior)
    assert wins(head, levelled.state, noise).tolist() == pytest.approx(prior, abs=0.05)
    assert float(levelled.offsets.mean()) == pytest.approx(0.0, abs=1e-12)


def test_without_a_prior_all_classes_are_to_win_the_same():
    head, state, noise = levelling()
    without = level([Probe(head, noise)], state, seen=SEEN)
    equal = level([Probe(head, noise)], state, seen=SEEN, prior=[1 / 3] * 3)
    assert all(same_bits(a, b) for a, b in zip(without.state.tensors(), equal.state.tensors(), strict=True))


def test_noise_in_two_parts_levels_as_noise_in_one():
    head, state, noise = levelling()
    whole = level([Probe(head, noise)], state, seen=SEEN)
    parts = level([Probe(head, noise[:1000]), Probe(head, noise[1000:])], state, seen=SEEN)
    torch.testing.assert_close(parts.gains, whole.gains)
    torch.testing.assert_close(parts.offsets, whole.offsets)
    assert parts.shares.tolist() == whole.shares.tolist()


def test_only_outputs_of_seen_classes_are_levelled():
    head, state, noise = levelling()
    levelled = level([Probe(head, noise)], state, seen=SEEN).state
    assert same_bits(levelled.weights[0], state.weights[0])
    assert same_bits(levelled.biases[0], state.biases[0])
    for after, before in ((levelled.weights[1], state.weights[1]), (levelled.biases[1], state.biases[1])):
        moved = [not same_bits(a, b) for a, b in zip(after, before, strict=True)]
        assert moved == [True, False, True, True, False]


def test_outputs_come_half_of_the_way_to_equal_spread():
    head, state, noise = levelling()
    state.weights[1][2] *= 9.0
    state.biases[1][2] *= 9.0
    before = head.logits(state, noise)[:, list(SEEN)].std(0)
    levelled = level([Probe(head, noise)], state, seen=SEEN)
    torch.testing.assert_close(levelled.gains, (before.mean() / before).sqrt())
    assert float(levelled.gains[1]) < 1.0 < float(levelled.gains[0])
    assert (levelled.state.biases[1] / state.biases[1])[list(SEEN)].tolist() == pytest.approx(levelled.gains.tolist())


def test_the_offset_is_what_the_mean_hidden_activity_makes_of_the_new_weights():
    head, state, noise = levelling(bias=False)
    levelled = level([Probe(head, noise)], state, seen=SEEN)
    mean, rows = head.hidden(state, noise).mean(0), list(SEEN)
    added = levelled.state.weights[1][rows] - levelled.gains[:, None] * state.weights[1][rows]
    torch.testing.assert_close(added @ mean, levelled.offsets)


def test_levelling_changes_no_state_it_was_given():
    head, state, noise = levelling()
    before = [t.clone() for t in state.tensors()]
    level([Probe(head, noise)], state, seen=SEEN)
    assert all(same_bits(a, b) for a, b in zip(state.tensors(), before, strict=True))


@pytest.mark.parametrize("case", ["silent hidden layer", "equal outputs"])
def test_outputs_that_noise_cannot_tell_apart_are_left_alone(case):
    head, state, noise = levelling(bias=False)
    w = -state.weights[0].abs() if case == "silent hidden layer" else state.weights[0]
    out = state.weights[1] if case == "silent hidden layer" else torch.zeros_like(state.weights[1])
    still = state.with_weights([w, out])
    levelled = level([Probe(head, noise)], still, seen=SEEN)
    assert all(same_bits(a, b) for a, b in zip(levelled.state.weights, still.weights, strict=True))
    assert (levelled.gains.tolist(), levelled.offsets.tolist()) == ([1.0] * 3, [0.0] * 3)
    assert levelled.shares.tolist() == wins(head, still, noise).tolist()
