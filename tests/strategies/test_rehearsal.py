"""Methods that keep exemplars: which, how many, and what they train on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from avalanche.core import SupervisedPlugin

from src_plugin.errors import ConfigError
from strategies import Settings, build_strategy
from strategies.rehearsal import Replay
from strategy_samples import Points, equal, plugin, setup, train, weights, witnessed


@pytest.mark.parametrize("name", ["replay"])
def test_each_trains_other_weights_than_plain_fine_tuning(name: str) -> None:
    assert not equal(weights(name, setup()), weights("naive", setup()))


def test_exemplars_of_old_classes_come_with_every_batch_of_new_ones() -> None:
    class Witness(SupervisedPlugin):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.batches: list[Counter[int]] = []

        def before_forward(self, strategy: Any, **kwargs: Any) -> None:
            self.batches.append(Counter(strategy.mb_y.tolist()))

    witness = Witness()
    witnessed("replay", witness)
    first, second = witness.batches[:40], witness.batches[40:]  # 80 images in batches of 10, five times
    assert len(second) == 40
    assert all(set(batch) <= {0, 1} for batch in first)
    for batch in second:
        assert batch[2] + batch[3] == 10
        assert batch[0] + batch[1] in (6, 10)  # 16 exemplars in batches of 10


def test_exemplars_are_balanced_over_classes_within_the_budget() -> None:
    for strategy, wanted in zip(train("replay", setup()), ({0: 8, 1: 8}, {0: 4, 1: 4, 2: 4, 3: 4}), strict=True):
        memory = plugin(strategy, Replay)
        assert Counter(memory.storage_policy.buffer.targets) == wanted  # a tenth of 160 images
        assert memory.kept_bytes == 16 * (12 * 4 + 8)
    shown = {tuple(x.tolist()) for x in Points(40, 0).tensors[0]}
    assert all(tuple(x.tolist()) in shown for x, *_ in memory.storage_policy.buffer)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Settings(memory_fraction=0.01), r"replay: memory_fraction 0\.01 of 160 training images, 2, is less than one"),
        (
            Settings(memory_size=3),
            r"replay: a memory of 3 images is less.* of 4 classes; raise settings.memory_size",
        ),
    ],
)
def test_a_memory_that_cannot_hold_every_class_is_refused(given: Settings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_strategy("replay", setup(settings=given))
