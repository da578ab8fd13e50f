"""Every kind of network gains by sleep and keeps what lies below its head, or is refused with the true reason."""

import re

import pytest

from network_samples import KINDS, train
from networks_table import PAGE

SLEEPING = {name: kind for name, kind in KINDS.items() if not kind.refused}
REFUSED = {name: kind for name, kind in KINDS.items() if kind.refused}
QUICK = ("GELU", "BatchNorm behind ReLU", "weight norm", "residual sum", "heads put together", "a dictionary")
GAIN = 20.0
"""Points above training alone at least, where hidden units sleep; see docs/networks.md."""


def test_there_are_as_many_kinds_as_people_have():
    assert len(KINDS) >= 60


@pytest.mark.parametrize("kind", REFUSED.values(), ids=REFUSED)
def test_what_cannot_sleep_is_refused_in_the_first_batch_with_this_reason(kind):
    outcome = train(kind, experiences=1)
    assert re.search(kind.refused, outcome.refusal)


@pytest.mark.parametrize("kind", [SLEEPING[name] for name in QUICK], ids=QUICK)
def test_a_kind_sleeps_and_all_below_stays_as_it_is(kind):
    outcome = train(kind, experiences=2, epochs=1)
    assert (outcome.refusal, outcome.layers, outcome.changed) == ("", kind.layers, ())


@pytest.mark.slow
@pytest.mark.parametrize("kind", SLEEPING.values(), ids=SLEEPING)
def test_a_kind_gains_and_all_below_stays_as_it_is(kind):
    slept, alone = train(kind), train(kind, "alone")
    assert (slept.refusal, slept.layers, slept.changed) == ("", kind.layers, ())
    assert slept.accuracy >= alone.accuracy + (GAIN if kind.gains else -1.0)


def test_the_page_has_a_row_for_each():
    rows = PAGE.read_text("utf-8").splitlines()
    for name in KINDS:
        assert any(row.startswith((f"| {name} |", f"| `{name}` |")) for row in rows), name
