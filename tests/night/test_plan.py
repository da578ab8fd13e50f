"""Gates: each says whether to sleep, and why; on heads so small that shares can be counted."""

import pytest
import torch
from torch import nn

from src_plugin.config import SleepConfig
from src_plugin.head.find import find_head
from src_plugin.head.probe import Probe
from src_plugin.head.state import HeadState
from src_plugin.night.plan import (
    RECALLED,
    balanced,
    no_hidden_units,
    no_new_classes,
    noise_share,
    protected,
    rehearsed,
)

ON, PURE = SleepConfig(), SleepConfig.preset("src_only")


def head_and_state(weight, bias=None):
    """A head of one layer with these weights."""
    w = torch.tensor(weight, dtype=torch.float64)
    layer = nn.Linear(w.shape[1], w.shape[0], bias=bias is not None)
    head = find_head(layer, head="")
    return head, HeadState((w,), (None if bias is None else torch.tensor(bias, dtype=torch.float64),))


# -- shares ------------------------------------------------------------------------------------------------------------

NOISE = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)


def test_share_is_the_fraction_of_noise_that_new_classes_win():
    # Output i is input i: two vectors are won by class 0, one by class 1, one by class 2.
    head, state = head_and_state([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert noise_share(Probe(head, NOISE), state, seen=(0, 1, 2), new=(2,)) == 0.25
    assert noise_share(Probe(head, NOISE), state, seen=(0, 1, 2), new=(0,)) == 0.5
    assert noise_share(Probe(head, NOISE), state, seen=(0, 1, 2), new=(1, 2)) == 0.5


def test_outputs_of_classes_never_seen_do_not_count():
    # Output 1 would win everything, but was never trained.
    head, state = head_and_state([[1.0, 0, 0], [9, 9, 9], [0, 0.5, 2]])
    assert noise_share(Probe(head, NOISE), state, seen=(0, 2), new=(2,)) == 0.5


def test_share_takes_biases_into_account():
    head, state = head_and_state([[1.0, 0, 0], [0, 1, 0]], bias=[0.0, 5.0])
    assert noise_share(Probe(head, NOISE), state, seen=(0, 1), new=(1,)) == 1.0


# -- whether to sleep --------------------------------------------------------------------------------------------------


def test_without_new_classes_nothing_can_be_balanced():
    verdict = no_new_classes(ON, ())
    assert verdict.closed
    assert verdict.gate == "new_classes_gate"
    assert "no new classes" in verdict.reason


@pytest.mark.parametrize(("config", "new"), [(ON, (1,)), (ON, None), (PURE, ())], ids=["some", "unknown", "pure"])
def test_new_or_unknown_classes_or_a_pure_sleep_pass_that_gate(config, new):
    assert no_new_classes(config, new) is None


def test_a_head_of_one_layer_is_only_levelled():
    verdict = no_hidden_units(ON, n_layers=1)
    assert (verdict.closed, verdict.gate) == (False, "hidden_gate")
    assert verdict.reason.startswith("levels only: a head of one layer")


@pytest.mark.parametrize(
    ("config", "n_layers"),
    [
        (ON, 2),
        (SleepConfig(hidden_gate=False), 1),
        (SleepConfig(replay=False), 1),
        (SleepConfig(level=False), 1),
        (PURE, 1),
    ],
    ids=["hidden units", "gate off", "the rival", "no levelling", "pure"],
)
def test_hidden_units_or_a_choice_of_stages_pass_that_gate(config, n_layers):
    assert no_hidden_units(config, n_layers=n_layers) is None


def test_a_network_that_rehearses_well_stays_awake_where_nothing_can_judge_the_night():
    verdict = rehearsed(ON, 0.9)
    assert verdict.closed
    assert verdict.gate == "rehearsal_gate"
    assert "rehearsal works: 90%" in verdict.reason


def test_a_network_that_rehearses_badly_sleeps_as_if_it_did_not():
    for recall in (0.0, RECALLED):
        assert rehearsed(ON, recall) is None
    assert rehearsed(ON, RECALLED + 0.01).closed


@pytest.mark.parametrize("recall", [0.0, RECALLED, 0.9, 1.0])
def test_where_samples_judge_the_night_recall_forbids_nothing(recall):
    assert rehearsed(ON, recall, judged=True) is None


def test_without_rehearsal_or_with_the_gate_off_there_is_no_verdict():
    assert rehearsed(ON, None) is None
    assert rehearsed(SleepConfig(rehearsal_gate=False), 0.9) is None


def test_where_old_inputs_are_protected_the_night_goes_on_without_the_sleep_itself():
    verdict = protected(ON, "OWMPlugin")
    assert not verdict.closed
    assert verdict.reason == "settles and levels only: OWMPlugin protects what earlier inputs evoke"
    assert protected(ON, None) is None
    assert protected(SleepConfig(rehearsal_gate=False), "OWMPlugin") is None
    assert protected(PURE, "OWMPlugin") is None


def test_a_balanced_network_stays_awake():
    for share in (0.5, 0.1):
        verdict = balanced(ON, share=share, expected=0.5)
        assert verdict.closed
        assert verdict.gate == "balance_gate"
        assert f"{share:.0%}" in verdict.reason


def test_a_network_that_favours_new_classes_passes():
    assert balanced(ON, share=0.51, expected=0.5) is None


def test_balance_that_is_not_known_or_not_asked_for_passes():
    assert balanced(ON, share=None, expected=None) is None
    assert balanced(SleepConfig(balance_gate=False), share=0.1, expected=0.5) is None
