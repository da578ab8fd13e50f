"""DER++ and ER-ACE: their losses, what is stored for them and when, and that they are what Avalanche's are."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import MTSimpleMLP
from avalanche.training.supervised import DER, ER_ACE
from torch import Tensor, nn

from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError
from src_plugin.plugin import SRCPlugin
from strategies import Settings, build_strategy
from strategies.setup import TrainingSetup, common
from strategy_samples import equal, experiences, plugin, setup, train, weights

DARK = ["der", "er_ace"]


def upstream(kind: Any, given: TrainingSetup, **numbers: float) -> list[Tensor]:
    """Train Avalanche's own on both experiences; its replay is alive, since a batch is smaller than the memory."""
    strategy = kind(**common(given, []), mem_size=16, batch_size_mem=10, **numbers)
    for experience in experiences(at_once=False):
        strategy.train(experience)
    return [p.detach() for p in strategy.model.parameters()]


def test_each_trains_weights_of_its_own() -> None:
    naive, der, er_ace = (weights(name, setup()) for name in ("naive", *DARK))
    assert not equal(der, naive)
    assert not equal(er_ace, naive)
    assert not equal(der, er_ace)


def test_der_is_avalanches_to_the_bit() -> None:
    assert equal(weights("der", setup()), upstream(DER, setup(), alpha=0.1, beta=0.5))


def test_er_ace_is_avalanches_but_for_rounding() -> None:
    with pytest.warns(DeprecationWarning, match="switch to pre_adapt"):  # and filters are put back
        theirs = upstream(ER_ACE, setup())
    torch.testing.assert_close(weights("er_ace", setup()), theirs)  # one forward pass there are two of


@pytest.mark.parametrize("name", DARK)
@pytest.mark.parametrize(("batch_size", "replayed"), [(10, 10), (40, 16)])
def test_replay_is_alive_from_the_second_experience_on(name: str, batch_size: int, replayed: int) -> None:
    class Sizes(SupervisedPlugin):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[int, int]] = []
            self.old: Counter[int] = Counter()

        def after_forward(self, strategy: Any, **kwargs: Any) -> None:
            n = strategy.n_old
            self.seen.append((n, len(strategy.mb_output) - n))
            self.old.update(strategy.mb_y[:n].tolist())
            assert set(strategy.mb_y[n:].tolist()) <= set(strategy.experience.classes_in_this_experience)

    sizes = Sizes()
    strategy = build_strategy(name, setup(batch_size=batch_size))
    strategy.plugins.append(sizes)
    for experience in experiences(at_once=False):
        strategy.train(experience)
    n = 5 * 80 // batch_size
    assert sizes.seen == [(0, batch_size)] * n + [(replayed, batch_size)] * n
    assert set(sizes.old) == ({0, 1} if name == "der" else {0, 1, 2, 3})


@pytest.mark.parametrize("name", DARK)
def test_exemplars_are_balanced_over_classes_within_the_budget(name: str) -> None:
    stored = 4 * 4 if name == "der" else 0  # four outputs
    for strategy, wanted in zip(train(name, setup()), ({0: 8, 1: 8}, {0: 4, 1: 4, 2: 4, 3: 4}), strict=True):
        assert Counter(strategy.exemplars.targets) == wanted
        assert strategy.kept_bytes == 16 * (12 * 4 + 8 + stored)
    assert build_strategy(name, setup()).kept_bytes == 0


# --- what DER stores --------------------------------------------------------------------------------------------------


class Halving(SupervisedPlugin):  # type: ignore[misc]
    """Changes the network at the end of every experience, as a sleep does."""

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        with torch.no_grad():
            for p in strategy.model.parameters():
                p *= 0.5


@pytest.mark.parametrize(("name", "halves"), [("der", False), ("der", True), ("der+src", False)])
def test_stored_outputs_are_those_that_plugins_left_and_stay_what_they_were(name: str, halves: bool) -> None:
    kept: dict[tuple[float, ...], Tensor] = {}
    for k, strategy in enumerate(train(name, setup(plugins=[Halving()] if halves else []))):
        strategy.model.eval()
        now = {tuple(x.tolist()): (x, y, noted) for x, y, _, noted in strategy.exemplars}
        for key, (x, y, noted) in now.items():
            wanted = strategy.model(x[None])[0].detach() if y // 2 == k else kept[key]
            torch.testing.assert_close(noted, wanted)
        kept = {key: noted for key, (_, _, noted) in now.items()}
        if k == 0 and (halves or name == "der+src"):
            assert not equal([*strategy.model.parameters()], [*next(train("der", setup())).model.parameters()])


def test_the_loss_of_der_has_three_terms() -> None:
    # New: p = 1/4, ln 4 = 2 ln 2. Distance: ((0 - 1)^2 + (0 - 3)^2) / 2 = 5, times 0.1. Stored label: ln 2, times 0.5.
    strategy = build_strategy("der", setup())
    strategy.mb_output = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    strategy.mbatch = [torch.zeros(2, 12), torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)]
    strategy.is_training, strategy.n_old, strategy.noted = True, 1, [torch.tensor([[1.0, 3.0]])]
    assert strategy.criterion().item() == pytest.approx(2.5 * math.log(2) + 0.5)


def test_new_images_compete_among_their_own_classes_in_er_ace() -> None:
    # The new images are of classes 0 and 1, so the output of class 2 does not count: ln 2. The exemplar: ln 3.
    strategy = build_strategy("er_ace", setup())
    strategy.mb_output = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 9.0], [0.0, 0.0, 9.0]])
    strategy.mbatch = [torch.zeros(3, 12), torch.tensor([2, 0, 1]), torch.zeros(3, dtype=torch.int64)]
    strategy.is_training, strategy.n_old = True, 1
    assert strategy.criterion().item() == pytest.approx((math.log(2) + math.log(3)) / 2)


class NoLoss(nn.Module):
    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return 0.0 * outputs.sum()


@pytest.mark.parametrize(("criterion", "moves"), [(NoLoss(), False), (nn.CrossEntropyLoss(), True)])
def test_der_takes_the_loss_it_is_given(criterion: nn.Module, moves: bool) -> None:
    # Avalanche puts cross-entropy in its place from the second experience on: then weights would always move.
    given = setup(criterion=criterion, settings=Settings(memory_fraction=0.1, der_alpha=0.0))
    before = [p.detach().clone() for p in given.model.parameters()]
    assert equal(weights("der", given), before) != moves


@pytest.mark.parametrize("name", DARK)
def test_a_sleep_sees_that_the_network_rehearses(name: str) -> None:
    *_, strategy = train(f"{name}+src", setup(sleep=SleepConfig.preset("auto", balance_gate=False)))
    report = plugin(strategy, SRCPlugin).reports[1]
    assert report.samples[0] > 0  # of old classes, which judged the night
    assert report.verdicts


# --- what does not go together ----------------------------------------------------------------------------------------


def test_der_refuses_one_head_per_task() -> None:
    model = MTSimpleMLP(input_size=12, hidden_size=16)
    with pytest.raises(ConfigError, match="der: stores outputs of one width, and MTSimpleMLP has one head per task"):
        build_strategy("der", setup(model=model))


def test_er_ace_refuses_another_loss_than_cross_entropy() -> None:
    with pytest.raises(ConfigError, match="er_ace: is made of cross-entropies, and the loss is NoLoss; use"):
        build_strategy("er_ace", setup(criterion=NoLoss()))
