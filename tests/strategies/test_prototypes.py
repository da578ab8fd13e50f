"""Methods without a network: what they keep, one pass over the images, and how they answer."""

from __future__ import annotations

from typing import Any

import dill
import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.core import SupervisedPlugin
from avalanche.models import MTSimpleMLP
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import StreamingLDA
from torch import Tensor, nn

from src_plugin.errors import ConfigError
from strategies import STRATEGIES, build_strategy
from strategies.prediction import classifiers
from strategies.setup import NoLogger
from strategy_samples import Points, answers, equal, experiences, setup, train

UNTRAINED = ["ncm", "slda"]


def learner(name: str, **changes: Any) -> Any:
    return build_strategy(name, setup(**changes))


def batch(*pairs: tuple[list[float], int]) -> tuple[Tensor, Tensor]:
    return torch.tensor([x for x, _ in pairs]), torch.tensor([y for _, y in pairs])


def test_means_move_by_counts_when_a_class_comes_back() -> None:
    ncm = learner("ncm")
    ncm.learn(*batch(([0.0, 0.0], 1), ([2.0, 0.0], 1), ([0.0, 9.0], 3)))
    ncm.learn(*batch(([4.0, 6.0], 1)))
    assert ncm.counts == {1: 3, 3: 1}
    torch.testing.assert_close(ncm.means[1], torch.tensor([2.0, 2.0]))  # (0 + 2 + 4) / 3, (0 + 0 + 6) / 3
    assert ncm.kept_bytes == 2 * (2 * 4 + 8)
    # (2, 6) is 4 from (2, 2), and sqrt(4 + 9) from (0, 9); classes 0 and 2 were never seen.
    torch.testing.assert_close(
        ncm.scores(torch.tensor([[2.0, 6.0]])), torch.tensor([[-torch.inf, -4.0, -torch.inf, -(13.0**0.5)]])
    )


def test_means_are_those_of_all_images_of_each_class() -> None:
    images, labels = Points(40, 0).tensors
    *_, ncm = train("ncm", setup())
    for c in range(4):
        torch.testing.assert_close(ncm.means[c], images[labels == c].mean(0))


def test_a_batch_is_learnt_as_avalanche_learns_its_images_one_by_one() -> None:
    images, labels = Points(12, 3).tensors
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    theirs = StreamingLDA(
        slda_model=nn.Flatten(),
        criterion=nn.CrossEntropyLoss(),
        input_size=12,
        num_classes=4,
        evaluator=EvaluationPlugin(loggers=[NoLogger()]),
    )
    ours = learner("slda")
    for rows in order.split(7):
        ours.learn(images[rows], labels[rows])
        for x, y in zip(images[rows], labels[rows], strict=True):
            theirs.fit(x[None], y[None])
    torch.testing.assert_close(ours.muK, theirs.muK)
    torch.testing.assert_close(ours.cK, theirs.cK)
    torch.testing.assert_close(ours.Sigma, theirs.Sigma)
    torch.testing.assert_close(ours.scores(images), theirs.predict(images), rtol=1e-3, atol=1e-3)  # of an inverse


@pytest.mark.parametrize("name", UNTRAINED)
def test_every_image_is_seen_once_whatever_the_epochs(name: str) -> None:
    class Counter(SupervisedPlugin):  # type: ignore[misc]
        seen = 0

        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            self.seen += len(strategy.mb_y)

    counter = Counter()
    for _ in train(name, setup(epochs=7, plugins=[counter])):
        pass
    assert counter.seen == 160


@pytest.mark.parametrize("name", UNTRAINED)
def test_no_answer_is_a_class_that_was_never_seen(name: str) -> None:
    assert answers(next(train(name, setup())))[0].shape == (80, 2)  # no room for later classes yet
    strategy = learner(name)
    strategy.train(experiences(at_once=False)[1])
    scores = answers(strategy)[0]
    assert scores.shape == (80, 4)
    assert (scores[:, :2] == -torch.inf).all()
    assert scores[:, 2:].isfinite().all()


@pytest.mark.parametrize("name", UNTRAINED)
def test_the_network_is_neither_trained_nor_kept(name: str) -> None:
    given = setup()
    before = [p.detach().clone() for p in given.model.parameters()]
    *_, strategy = train(name, given)
    assert equal(list(given.model.parameters()), before)
    assert list(strategy.model.parameters()) == []
    assert not STRATEGIES[name].sleeps


def test_discriminant_keeps_means_counts_and_one_covariance() -> None:
    for k, strategy in enumerate(train("slda", setup()), start=1):
        assert strategy.kept_bytes == 4 * (2 * k * 12 + 2 * k + 12 * 12)


@pytest.mark.parametrize("name", UNTRAINED)
def test_images_of_any_shape_are_flattened(name: str) -> None:
    class Pictures(Points):
        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            x, y = super().__getitem__(index)
            return x.reshape(1, 3, 4), y

    streams = nc_benchmark(Pictures(40, 0), Pictures(20, 1), n_experiences=1, task_labels=False, seed=0)
    strategy = learner(name)
    strategy.train(streams.train_stream[0])
    x, y = Points(20, 1).tensors
    (scores,) = classifiers(strategy).values()
    assert (scores(x.reshape(-1, 1, 3, 4)).argmax(1) == y).float().mean() > 0.9
    strategy.eval(streams.test_stream)


@pytest.mark.parametrize("name", UNTRAINED)
def test_a_run_goes_on_from_a_pickle_to_the_same_answers(name: str) -> None:
    strategy = learner(name)
    first, second = experiences(at_once=False)
    strategy.train(first)
    again = dill.loads(dill.dumps(strategy))
    for one in (strategy, again):
        torch.manual_seed(5)
        one.train(second)
    assert equal(answers(again), answers(strategy))


@pytest.mark.parametrize("name", UNTRAINED)
def test_a_network_with_a_head_per_task_is_refused(name: str) -> None:
    model = MTSimpleMLP(input_size=12)
    with pytest.raises(ConfigError, match=f"{name} knows no tasks.*drop stream.task_labels"):
        learner(name, model=model)
