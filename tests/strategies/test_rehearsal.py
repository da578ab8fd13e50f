"""Methods that keep exemplars: which, how many, and what they train on."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from itertools import islice
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch import nn

from benchmarks.runs.checkpoint import pack, unpack
from src_plugin.errors import ConfigError
from strategies import Settings, build_strategy
from strategies.rehearsal import Rehearsal, Replay, endless
from strategy_samples import Points, equal, experiences, plugin, setup, train, weights, witnessed

WITH_EXEMPLARS = ["replay", "rehearsal", "gem", "agem", "der", "er_ace", "gdumb"]


class Batches(SupervisedPlugin):  # type: ignore[misc]
    """Notes the labels of every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Counter[int]] = []

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.seen.append(Counter(strategy.mb_y.tolist()))


@pytest.mark.parametrize("name", ["replay", "rehearsal", "cumulative"])
def test_each_trains_other_weights_than_plain_fine_tuning(name: str) -> None:
    assert not equal(weights(name, setup()), weights("naive", setup()))


@pytest.mark.parametrize(("name", "kept"), [("replay", (6, 10)), ("rehearsal", (8,))])
def test_exemplars_of_old_classes_come_with_every_batch_of_new_ones(name: str, kept: tuple[int, ...]) -> None:
    witness = Batches()
    witnessed(name, witness)
    first, second = witness.seen[:40], witness.seen[40:]  # 80 images in batches of 10, five times
    assert len(second) == 40
    assert all(set(batch) <= {0, 1} for batch in first)
    for batch in second:
        assert batch[2] + batch[3] == 10
        assert batch[0] + batch[1] in kept  # replay: 16 exemplars in batches of 10; rehearsal has only 8 by then


def test_exemplars_are_balanced_over_classes_within_the_budget() -> None:
    for strategy, wanted in zip(train("replay", setup()), ({0: 8, 1: 8}, {0: 4, 1: 4, 2: 4, 3: 4}), strict=True):
        memory = plugin(strategy, Replay)
        assert Counter(memory.storage_policy.buffer.targets) == wanted  # a tenth of 160 images
        assert memory.kept_bytes == 16 * (12 * 4 + 8)
    shown = {tuple(x.tolist()) for x in Points(40, 0).tensors[0]}
    assert all(tuple(x.tolist()) in shown for x, *_ in memory.storage_policy.buffer)


# --- the paper's rehearsal --------------------------------------------------------------------------------------------


def test_the_same_share_of_every_experience_is_kept_for_good() -> None:
    kept: list[list[float]] = []
    for strategy, n in zip(train("rehearsal", setup(settings=Settings(memory_size=13))), (6, 13), strict=True):
        assert len(strategy.exemplars) == n  # 80 and 160 of 160 images: 13 / 2 and 13
        assert strategy.kept_bytes == n * (12 * 4 + 8)
        images = [x.tolist() for x, *_ in strategy.exemplars]
        assert images[: len(kept)] == kept
        kept = images
    assert [label // 2 for label in strategy.exemplars.targets] == [0] * 6 + [1] * 7
    assert len({tuple(image) for image in kept}) == 13


def test_images_that_come_once_more_do_not_make_the_memory_larger() -> None:
    strategy = build_strategy("rehearsal", setup())
    first, second = experiences(at_once=False)
    for experience in (first, second, first):
        strategy.train(experience)
    assert len(strategy.exemplars) == 16


def test_the_loss_weighs_old_and_new_by_the_number_of_experiences() -> None:
    # Experience 3. One exemplar with loss ln 2, two new images with p = 1/4, loss ln 4 = 2 ln 2:
    # 2 ln 2 / 3 + (1 - 1/3) ln 2 = 4/3 ln 2. The plain mean of all three would be 5/3 ln 2.
    strategy = build_strategy("rehearsal", setup())
    strategy.mb_output = torch.tensor([[0.0, 0.0], [0.0, math.log(3)], [0.0, math.log(3)]])
    strategy.mbatch = [torch.zeros(3, 12), torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)]
    strategy.n_old, strategy.clock.train_exp_counter = 1, 2
    assert strategy.criterion().item() == pytest.approx(5 / 3 * math.log(2))  # not training: a plain batch
    strategy.is_training = True
    assert strategy.criterion().item() == pytest.approx(4 / 3 * math.log(2))


def test_what_is_minimised_is_that_loss() -> None:
    class Losses(SupervisedPlugin):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[float] = []
            self.wanted: list[float] = []

        def before_backward(self, strategy: Any, **kwargs: Any) -> None:
            old = strategy.mb_y < 2  # no class comes back
            loss = nn.CrossEntropyLoss()
            if strategy.clock.train_exp_counter:
                self.seen.append(strategy.loss.item())
                halves = [loss(strategy.mb_output[rows], strategy.mb_y[rows]).item() for rows in (old, ~old)]
                self.wanted.append(sum(halves) / 2)

    losses = Losses()
    assert isinstance(witnessed("rehearsal", losses), Rehearsal)
    assert len(losses.seen) == 40
    assert losses.seen == pytest.approx(losses.wanted)


def test_exemplars_that_are_of_a_new_class_count_as_old() -> None:
    # The same experience twice: its classes come back, and still 8 rows of each batch are exemplars.
    witness = Batches()
    strategy = build_strategy("rehearsal", setup())
    strategy.plugins.append(witness)
    first, _ = experiences(at_once=False)
    strategy.train(first)
    strategy.train(first)
    assert {batch.total() for batch in witness.seen[:40]} == {10}
    assert {batch.total() for batch in witness.seen[40:]} == {18}


@pytest.mark.parametrize(("size", "batch"), [(5, 5), (16, 16), (40, 16)])
def test_exemplars_are_drawn_for_ever_in_batches_of_one_size(size: int, batch: int) -> None:
    points = list(zip(*Points(4, 0).tensors, strict=True))  # 16 of them
    batches = list(islice(endless(points, size), 50))
    assert {len(labels) for _, labels in batches} == {batch}
    assert set(torch.cat([labels for _, labels in batches]).tolist()) == {0, 1, 2, 3}
    assert not torch.equal(batches[0][0], batches[-1][0])


# --- all images -------------------------------------------------------------------------------------------------------


def test_cumulative_trains_on_all_images_so_far() -> None:
    witness = Batches()
    witnessed("cumulative", witness)
    first, second = witness.seen[:40], witness.seen[40:]
    assert sum(first, Counter()) == dict.fromkeys(range(2), 5 * 40)
    assert sum(second, Counter()) == dict.fromkeys(range(4), 5 * 40)


# --- what holds for all of them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*WITH_EXEMPLARS, "cumulative"])
def test_a_run_that_was_packed_between_experiences_goes_on_to_the_same_weights(name: str) -> None:
    strategy = build_strategy(name, setup())
    first, second = experiences(at_once=False)
    strategy.train(first)
    strategy.train(second)  # by now exemplars have been drawn
    packed = pack(strategy, shared={})
    then = [p.detach().clone() for p in strategy.model.parameters()]
    strategy.train(first)
    again = unpack(packed, shared={})  # and the generators as they were
    assert equal([*again.model.parameters()], then)
    again.train(first)
    assert equal([*again.model.parameters()], [*strategy.model.parameters()])
    assert not equal([*again.model.parameters()], then)


@pytest.mark.parametrize("name", [*WITH_EXEMPLARS, "cumulative"])
def test_none_changes_what_is_warned_of(name: str) -> None:
    before = list(warnings.filters)
    list(train(name, setup()))
    assert warnings.filters == before


@pytest.mark.parametrize("name", WITH_EXEMPLARS)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Settings(memory_fraction=0.01), r"memory_fraction 0\.01 of 160 training images, 2, is less than one"),
        (Settings(memory_size=3), r"a memory of 3 images is less.* of 4 classes; raise settings.memory_size"),
    ],
)
def test_a_memory_that_cannot_hold_every_class_is_refused(name: str, given: Settings, message: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: {message}"):
        build_strategy(name, setup(settings=given))


def test_rehearsal_must_know_how_many_images_there_are() -> None:
    with pytest.raises(ConfigError, match=r"keeps 16 of 0 training images.*give TrainingSetup the n_images"):
        build_strategy("rehearsal", setup(settings=Settings(memory_size=16), n_images=0))
