"""What stands in the place of a sleep, on small heads; and nights that are gone through again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from benchmarks.explain.controls.rows import (
    CONTROLS,
    IN_PLACE,
    NONE,
    SIMULATED,
    Current,
    Given,
    on_negative,
    replaced,
    with_norms,
)
from benchmarks.explain.layers import correlation, describe_layers
from benchmarks.explain.nights import Night, pass_again, simulate_again
from benchmarks.explain.one_night.recording import Recording
from sleep_samples import CURRENT, MEAN, NEW, OLD, trained
from sleep_samples import SIMULATED as SETTINGS
from src_plugin.head.find import find_head
from src_plugin.head.state import HeadState
from src_plugin.night.stimulus import as_generator
from src_plugin.waking.classes import Classes
from src_plugin.waking.summary import TrainingSummary


def state(*weights: list[list[float]]) -> HeadState:
    return HeadState(tuple(torch.tensor(w) for w in weights), (None,) * len(weights))


def test_a_whole_change_goes_to_negative_weights_alone():
    weight = torch.tensor([[-1.0, 2.0, -3.0], [1.0, 2.0, 3.0]])
    update = torch.tensor([[-0.3, -0.3, 0.0], [-0.1, -0.1, -0.1]])
    assert_close(on_negative(weight, update), torch.tensor([[-0.3, 0.0, -0.3], [0.0, 0.0, 0.0]]))


def test_norms_are_those_of_the_other_and_what_is_still_stays():
    update, like = [torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)], [torch.tensor([[0.0, 10.0]]), torch.ones(1, 2)]
    first, second = with_norms(update, like)
    assert_close(first, torch.tensor([[6.0, 8.0]]))
    assert_close(second, torch.zeros(1, 2))


def test_layers_by_hand():
    # x = (1, 0.5): answers 1, -0.5, 2. The rows fall by 0.1, 0, 0.2 on average: exactly as relu of the answers.
    before = state([[1.0, 0.0], [0.0, -1.0], [1.0, 2.0]])
    after = state([[0.9, -0.1], [0.0, -1.0], [0.7, 1.9]])
    (layer,) = describe_layers(before, after, torch.tensor([1.0, 0.5]))
    assert layer.correlation == pytest.approx(1.0)
    assert layer.correlation_excited is None  # of two units
    # they lose 0.1 + 0.05 and 0.3 + 0.05 of 1 + 2
    assert layer.fraction == pytest.approx(0.5 / 3.0)
    # the rows moved by (0.1, 0.1) and (0.3, 0.1); without their means (0.1, -0.1) is left of the second
    assert layer.rest == pytest.approx((0.02 / 0.12) ** 0.5, rel=1e-5)
    assert layer.rising == 0.0
    assert layer.excited == pytest.approx(2 / 3)


def test_no_correlation_of_what_does_not_vary():
    assert correlation(torch.ones(5), torch.arange(5.0)) is None


@pytest.fixture
def evening() -> Night:
    model, before = trained(bias=False)
    head = find_head(model, head="")
    training = TrainingSummary(mean=MEAN, inputs=CURRENT, before=before, classes=Classes(NEW, OLD))
    return Night(head, head.read(), training, SETTINGS, as_generator(3))


def test_a_night_again_is_the_night_and_leaves_the_head_as_it_was(evening: Night):
    first, asleep, report = simulate_again(evening)
    assert report.decision == "slept"
    assert asleep is not None
    assert_close(evening.head.read().tensors(), evening.trained.tensors(), rtol=0, atol=0)
    again, _ = pass_again(evening, asleep.state)
    assert_close(again.tensors(), first.tensors(), rtol=0, atol=0)
    same = asleep.again(evening.trained, MEAN)
    assert_close(same.tensors(), asleep.state.tensors(), rtol=0, atol=0)


def test_a_recorded_night_is_the_night_and_its_parts_add_up(evening: Night):
    _, asleep, _ = simulate_again(evening)
    assert asleep is not None
    steps = asleep.n_steps
    recording = Recording(steps, n_parts=7, shown=[range(3, 13), range(steps - 5, steps)])
    with recording.listening():
        simulate_again(evening)
    for now, slept in zip(recording.weights[-1], asleep.state.weights, strict=True):
        assert_close(torch.from_numpy(now), slept, rtol=0, atol=1e-6)
    assert len(recording.weights) == len(recording.counts) == 7
    for layer, rate in enumerate(asleep.rule["rates"]):
        assert sum(part[layer].mean() for part in recording.counts) / steps == pytest.approx(rate)
    assert [len(layer) for layer in recording.spikes[0]] == [10] * (len(asleep.rule["thresholds"]) + 1)
    assert recording.spikes[1][0].any()


def test_parts_of_an_update_are_what_they_are_called(evening: Night):
    _, asleep, _ = simulate_again(evening)
    assert asleep is not None
    current = Current(CURRENT, evening.head.hidden, NEW, OLD)
    more = {"seed": (0,), "removal": (0.1, 0.1, 0.1), "gated": True, "current": current}
    states = replaced(Given(evening.trained, asleep.state, MEAN, asleep.again, **more))
    assert list(states) == list(IN_PLACE)
    moved = {
        name: [a - b for a, b in zip(there.weights, evening.trained.weights, strict=True)]
        for name, there in states.items()
    }
    whole = moved[SIMULATED]
    assert all(float(part.norm()) == 0.0 for part in moved[NONE])
    for layer, part in enumerate(whole):
        assert float(part.norm()) > 0
        assert_close(moved["unit_means"][layer] + moved["rest"][layer], part, rtol=0, atol=1e-6)
        assert_close(moved["unit_means"][layer].std(1), torch.zeros(len(part)), rtol=0, atol=1e-6)
        assert_close(moved["hidden_only"][layer] + moved["output_only"][layer], part, rtol=0, atol=1e-6)
        assert_close(moved["permuted_units"][layer].mean(1).sort()[0], part.mean(1).sort()[0], rtol=0, atol=1e-6)
        for name in ("noise", "decay", "closed_form_norm"):
            assert float(moved[name][layer].norm()) == pytest.approx(float(part.norm()), rel=1e-3)


def given(*weights: list[list[float]], **more) -> Given:
    before = state(*weights)
    return Given(before, before, np.ones(2), lambda now, _: now, seed=(0,), **more)


def test_controls_without_a_meaning_say_why():
    one = given([[1.0, 2.0], [3.0, 4.0]], simulated=False)
    reasons = {name: control.why_not(one) for name, control in CONTROLS.items()}
    assert reasons["hidden_only"] == reasons["output_only"] == "the head has one layer"
    assert reasons["unit_means_negative"] == "the rule is not gated: all weights move"
    assert reasons["closed_form"] == "the sleep is the closed form"
    assert reasons["aligned"] == "the images of the current experience are not looked at"
    assert not set(replaced(one)) & {name for name, reason in reasons.items() if reason}
    first = given([[1.0, 2.0], [3.0, 4.0]], current=Current(torch.ones(1, 2), lambda _, x: x, (0, 1), ()))
    assert CONTROLS["centred"].why_not(first) == "there are no old classes yet"


def test_aligned_outputs_have_one_norm_and_centred_ones_one_mean():
    # rows of norm 5 and 10 on the inputs (1, 1): outputs 7 and 14
    current = Current(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), lambda _, x: x, new=(1,), old=(0,))
    before = given([[3.0, 4.0], [6.0, 8.0]], current=current)
    assert_close(CONTROLS["aligned"].act(before).weights[0], torch.tensor([[3.0, 4.0], [3.0, 4.0]]))
    assert_close(CONTROLS["centred"].act(before).weights[0] @ torch.ones(2), torch.tensor([10.5, 10.5]))
