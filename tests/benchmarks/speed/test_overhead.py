"""The overhead of a suite: ratios within a turn, and only for streams that a plain program makes too."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.configs.run import RunConfig
from benchmarks.speed.overhead import Turn, make_table, measure
from benchmarks.streams.loading import Places
from lab_samples import TINY
from src_plugin.errors import ConfigError

EVEN = {**TINY, "stream": {"dataset": "digits", "n_experiences": 5}}


def test_overheads_are_fractions_of_the_same_turn() -> None:
    turn = Turn(
        alone=8.0, watched=9.0, plain=12.0, in_memory=5.0, training_and_sleep=6.0, measured=8.0, suite=8.2, batches=1000
    )
    assert turn.own == pytest.approx(0.025)
    assert turn.over_plain == pytest.approx(8.2 / 12 - 1)
    assert turn.watching == pytest.approx(0.125)
    assert [round(turn.us(clock)) for clock in ("training", "watching", "nights")] == [5000, 1000, 3000]


def test_the_table_has_medians_of_ratios() -> None:
    turns = [Turn(*(6 * [scale]), last) for scale, last in ((1.0, 3.0), (10.0, 20.0), (100.0, 150.0))]
    table = make_table(turns)
    assert list(table.columns[1].cells)[-1] == "20.00"
    assert list(table.columns[2].cells) == ["1.00", "1.00", "1.00", "1.00", "1.00", "1.00", "2.00"]


@pytest.mark.parametrize(
    "changes",
    [
        {"stream": {"dataset": "digits", "classes_per_experience": [2, 2, 6]}},
        {"stream": {"dataset": "digits", "n_experiences": 5, "class_order": "seeded"}},
        {"sleep": {"preset": "paper/split_mnist"}},
    ],
    ids=["uneven", "seeded order", "preset"],
)
def test_what_the_plain_program_does_not_make_is_refused(changes: dict[str, Any]) -> None:
    config = RunConfig.model_validate({**EVEN, **changes})
    with pytest.raises(ConfigError, match=r"tiny: the overhead is measured on experiences of equally many classes"):
        measure(config, places=Places())


@pytest.mark.slow
def test_all_clocks_run_and_the_suite_adds_little() -> None:
    config = RunConfig.model_validate({**EVEN, "training": {"lr": 0.1, "batch_size": 10, "epochs": 20}})
    (turn,) = measure(config, places=Places(), repeats=1)
    assert 0 < turn.training_and_sleep < turn.measured
    assert turn.alone > 0
    assert turn.watched > 0
    assert turn.in_memory > 0
    assert turn.batches > 100
    assert turn.plain > 0
    assert turn.own < 0.5  # a bound for a busy machine; `python -m benchmarks overhead` gives the number
