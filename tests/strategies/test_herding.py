"""What both forms of iCaRL share: which exemplars are kept, who teaches, and how class means answer."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any

import pytest
import torch
from avalanche.benchmarks import dataset_benchmark, nc_benchmark
from avalanche.core import SupervisedPlugin
from torch import nn
from torch.nn import functional

from benchmarks.runs.checkpoint import pack, unpack
from benchmarks.streams.batches import LabelledImages, as_avalanche
from src_plugin.errors import ConfigError
from strategies import Settings, build_strategy
from strategies.herding import HerdingPlugin, Teacher, herd
from strategies.nearest import NearestMean
from strategies.prediction import classifiers
from strategy_samples import N_WEIGHTS, Points, answers, equal, experiences, plugin, setup, train, weights, witnessed

BOTH = ["icarl", "icarl_mlp"]


def features(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Hidden units of the network of `setup`, with length 1."""
    first = next(model.parameters())
    return functional.normalize(functional.relu(images @ first.detach().T))


def kept(strategy: Any, label: int) -> torch.Tensor:
    return torch.stack([image for image, *_ in plugin(strategy, HerdingPlugin).exemplars[label]])


def test_herding_takes_the_nearest_to_the_mean_first_and_then_what_completes_it() -> None:
    # The mean of 0, 1 and 5 is 2. Nearest is 1; then (1 + 5) / 2 = 3 is nearer to 2 than (1 + 0) / 2 = 0.5.
    samples = torch.tensor([[0.0], [1.0], [5.0]])
    assert herd(samples, 1) == [1]
    assert herd(samples, 2) == [1, 2]
    assert herd(samples, 9) == [1, 2, 0]  # all there are, each once


def test_herding_is_the_formula() -> None:
    samples = torch.rand(30, 5, generator=torch.Generator().manual_seed(3))
    taken: list[int] = []
    for k in range(1, 13):
        total = samples[taken].sum(0)
        gaps = {i: float((samples.mean(0) - (x + total) / k).norm()) for i, x in enumerate(samples) if i not in taken}
        taken.append(min(gaps, key=gaps.__getitem__))
    assert herd(samples, 12) == taken


def test_the_nearest_mean_answers_and_never_a_class_without_one() -> None:
    nearest = NearestMean(4, 2)
    nearest.learn(1, torch.tensor([[1.0, 0.0], [0.6, 0.8]]))  # mean (0.8, 0.4), with length 1 (2, 1) / sqrt(5)
    nearest.learn(3, torch.tensor([[0.0, 1.0]]))
    scores = nearest(torch.tensor([[10.0, 0.0], [-0.1, -5.0], [1.0, 3.0]]))
    torch.testing.assert_close(scores[0, [1, 3]], torch.tensor([2.0 / 5.0**0.5, 0.0]))
    assert scores[:, [0, 2]].eq(-2.0).all()  # a mean of 0 would be nearer to (-0.1, -5) than any
    assert scores.argmax(1)[[0, 2]].tolist() == [1, 3]
    assert nearest(torch.zeros(1, 2)).tolist() == [[-2.0, 0.0, -2.0, 0.0]]


@pytest.mark.parametrize("name", BOTH)
def test_each_trains_other_weights_than_plain_fine_tuning(name: str) -> None:
    assert not equal(weights(name, setup()), weights("naive", setup()))


@pytest.mark.parametrize("name", BOTH)
def test_exemplars_are_as_many_of_every_class_within_the_budget(name: str) -> None:
    shares, first = [], {}
    for strategy in train(name, setup(settings=Settings(memory_size=19))):
        exemplars = plugin(strategy, HerdingPlugin).exemplars
        shares.append({label: len(part) for label, part in exemplars.items()})
        first = first or {label: kept(strategy, label) for label in exemplars}
        assert all(set(part.targets) == {label} for label, part in exemplars.items())
    assert shares == [{0: 9, 1: 9}, {0: 4, 1: 4, 2: 4, 3: 4}]  # 19 / 2 and 19 / 4, rounded down
    for label in (0, 1):
        assert torch.equal(kept(strategy, label), first[label][:4])  # of the old ones, those taken first stay


@pytest.mark.parametrize("name", BOTH)
def test_exemplars_are_shuffled_among_new_images_and_each_is_shown_once_an_epoch(name: str) -> None:
    class Witness(SupervisedPlugin):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.batches: list[list[int]] = []

        def before_forward(self, strategy: Any, **kwargs: Any) -> None:
            self.batches.append(strategy.mb_y.tolist())

    witness = Witness()
    witnessed(name, witness)
    assert [len(batch) for batch in witness.batches[40:50]] == [10] * 9 + [6]  # 80 new images and 16 exemplars
    for epoch in range(5):
        batches = witness.batches[40 + 10 * epoch :][:10]
        assert Counter(label for batch in batches for label in batch) == {0: 8, 1: 8, 2: 40, 3: 40}
        assert sum(0 in batch or 1 in batch for batch in batches) > 2


class Both(SupervisedPlugin):  # type: ignore[misc]
    """Copies the network just before and just after each sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[nn.Module] = []
        self.after: list[nn.Module] = []

    def before_sleep(self, strategy: Any, **kwargs: Any) -> None:
        self.before.append(deepcopy(strategy.model))

    def after_sleep(self, strategy: Any, **kwargs: Any) -> None:
        self.after.append(deepcopy(strategy.model))


@pytest.mark.parametrize("name", BOTH)
def test_exemplars_are_chosen_before_the_sleep_and_means_and_teacher_come_after_it(name: str) -> None:
    looking = Both()
    strategy = witnessed(f"{name}+only", looking)
    images, labels = Points(40, 0).tensors
    differs = False
    for label in range(4):
        of_class = images[labels == label]
        before, after = (features(looked[label // 2], of_class) for looked in (looking.before, looking.after))
        assert torch.equal(kept(strategy, label), of_class[herd(before, 4)])
        differs |= herd(before, 4) != herd(after, 4)
    assert differs  # so it matters which network chooses
    slept = looking.after[-1]
    means = plugin(strategy, HerdingPlugin).nearest.means
    for label in range(4):
        exemplars = kept(strategy, label)
        torch.testing.assert_close(means[label], functional.normalize(features(slept, exemplars).mean(0), dim=0))
        before = features(looking.before[-1], exemplars)
        assert not torch.allclose(means[label], functional.normalize(before.mean(0), dim=0))
    teacher = plugin(strategy, Teacher).network
    assert teacher is not strategy.model
    assert equal([*teacher.parameters()], [*slept.parameters()])
    assert equal([*teacher.parameters()], [*strategy.model.parameters()])


@pytest.mark.parametrize("name", BOTH)
def test_what_measures_before_a_sleep_meets_both_answers_of_the_network_as_it_is_then(name: str) -> None:
    class Listener(SupervisedPlugin):  # type: ignore[misc]
        rows: list[Any] = []  # noqa: RUF012

        def before_sleep(self, strategy: Any, **kwargs: Any) -> None:
            images = Points(20, 1).tensors[0]
            with torch.no_grad():
                ways = {way: scores(images).argmax(1) for way, scores in classifiers(strategy).items()}
            self.rows.append(ways)

    listener = Listener()
    witnessed(f"{name}+only", listener)
    labels = Points(20, 1).tensors[1]
    for k, ways in enumerate(listener.rows):
        assert list(ways) == ["nearest_mean", "outputs"]
        rows = labels < 2 * (k + 1)
        assert (ways["nearest_mean"][rows] == labels[rows]).float().mean() > 0.9
        assert int(ways["nearest_mean"].max()) < 2 * (k + 1)


@pytest.mark.parametrize("name", BOTH)
def test_whatever_measures_an_experience_comes_after_the_class_means(name: str) -> None:
    strategy = build_strategy(name, setup())
    (herding,) = (i for i, part in enumerate(strategy.plugins) if isinstance(part, HerdingPlugin))
    assert herding < strategy.plugins.index(strategy.evaluator)
    assert herding < strategy.plugins.index(strategy.clock)


@pytest.mark.parametrize("name", BOTH)
def test_answers_are_the_outputs_and_as_soon_as_there_are_means_those_first(name: str) -> None:
    given = setup()
    images, labels = Points(20, 1).tensors
    assert list(classifiers(build_strategy(name, given))) == ["outputs"]
    for k, strategy in enumerate(train(name, given)):
        assert list(classifiers(strategy)) == ["nearest_mean", "outputs"]
        by_mean, outputs = answers(strategy)
        assert torch.equal(outputs, given.model(images))
        seen = labels < 2 * (k + 1)
        assert (by_mean.argmax(1)[seen] == labels[seen]).float().mean() > 0.9
        assert by_mean[:, : 2 * (k + 1)].abs().max() <= 1.0 + 1e-6
        assert by_mean[:, 2 * (k + 1) :].eq(-2.0).all()


@pytest.mark.parametrize("name", BOTH)
def test_avalanches_evaluation_asks_no_teacher_and_changes_nothing(name: str) -> None:
    *_, strategy = train(name, setup())
    before = [*answers(strategy), *(p.detach().clone() for p in strategy.model.parameters())]
    strategy.eval(experiences(at_once=False))
    assert plugin(strategy, Teacher).answers is None
    assert torch.isfinite(strategy.loss)
    assert equal([*answers(strategy), *strategy.model.parameters()], before)


@pytest.mark.parametrize("name", BOTH)
def test_kept_are_exemplars_means_and_the_teacher(name: str) -> None:
    for k, strategy in enumerate(train(name, setup())):
        n = 2 * (k + 1)
        assert plugin(strategy, HerdingPlugin).kept_bytes == 16 * (12 * 4 + 8) + n * 16 * 4
        assert plugin(strategy, Teacher).kept_bytes == 4 * N_WEIGHTS + 8 * n
    assert sum(part.kept_bytes for part in build_strategy(name, setup()).plugins if hasattr(part, "kept_bytes")) == 0


@pytest.mark.parametrize("name", [*BOTH, "icarl+only", "icarl_mlp+only"])
def test_a_run_goes_on_from_a_copy_to_the_same_bits(name: str) -> None:
    wanted = [*train(name, setup())][-1]
    half = next(train(name, setup()))
    again = unpack(pack(half, shared={}), shared={})
    again.train(experiences(at_once=False)[1])
    assert equal([*again.model.parameters()], [*wanted.model.parameters()])
    assert equal(answers(again), answers(wanted))
    for label in range(4):
        assert torch.equal(kept(again, label), kept(wanted, label))


@pytest.mark.parametrize("name", BOTH)
def test_a_teacher_with_dropout_gives_the_same_answer_twice(name: str) -> None:
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))
    strategy = next(train(name, setup(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.2))))
    teacher, x = plugin(strategy, Teacher), Points(5, 2).tensors[0]
    labels = torch.zeros(len(x), dtype=torch.int64)
    assert torch.equal(teacher.ask(x, labels), teacher.ask(x, labels))
    assert strategy.model.training
    assert torch.equal(*(classifiers(strategy)["nearest_mean"](x) for _ in range(2)))


@pytest.mark.parametrize("name", BOTH)
def test_images_with_rows_and_columns_are_not_mirrored(name: str) -> None:
    images, labels = Points(40, 0).tensors
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 16, bias=False), nn.ReLU(), nn.Linear(16, 4, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    strategy = build_strategy(name, setup(model=model, optimizer=optimizer))
    whole = as_avalanche(LabelledImages(images.reshape(-1, 1, 3, 4), labels))
    strategy.train(nc_benchmark(whole, whole, 2, task_labels=False, shuffle=False).train_stream[0])
    for label in (0, 1):
        exemplars = kept(strategy, label)
        assert exemplars.shape == (8, 1, 3, 4)
        mean = functional.normalize(features(model, exemplars.flatten(1)).mean(0), dim=0)
        torch.testing.assert_close(plugin(strategy, HerdingPlugin).nearest.means[label], mean)


@pytest.mark.parametrize("name", BOTH)
def test_classes_may_come_in_any_order(name: str) -> None:
    points = Points(40, 0)
    stream = nc_benchmark(points, points, 2, task_labels=False, shuffle=False, fixed_class_order=[3, 1, 0, 2])
    strategy = build_strategy(name, setup())
    for experience, seen in zip(stream.train_stream, ([1, 3], [0, 1, 2, 3]), strict=True):
        strategy.train(experience)
        assert sorted(plugin(strategy, HerdingPlugin).exemplars) == seen
        labels = Points(20, 1).tensors[1]
        rows = torch.isin(labels, torch.tensor(seen))
        for scores in answers(strategy):
            assert (scores.argmax(1)[rows] == labels[rows]).float().mean() > 0.9


def stream_of(*groups: list[int]) -> Any:
    points = Points(40, 0)
    whole = as_avalanche(LabelledImages(*points.tensors))
    parts = [whole.subset([i for i, y in enumerate(points.targets) if y in group]) for group in groups]
    return dataset_benchmark(parts, parts).train_stream


@pytest.mark.parametrize("name", BOTH)
def test_a_class_that_comes_back_is_refused_before_anything_is_trained(name: str) -> None:
    given = setup()
    before = [parameter.detach().clone() for parameter in given.model.parameters()]
    with pytest.raises(ConfigError, match=r"classes \[1\] come in several. Use a stream of disjoint classes"):
        build_strategy(name, given).train(stream_of([0, 1], [1, 2])[0])
    assert equal(before, [*given.model.parameters()])
    strategy = next(train(name, setup()))
    with pytest.raises(ConfigError, match=r"classes \[0, 1\] come in several"):  # another stream, the same classes
        strategy.train(experiences(at_once=False)[0])


@pytest.mark.parametrize("name", BOTH)
def test_streams_that_do_not_list_their_classes_in_order_will_do(name: str) -> None:
    strategy = build_strategy(name, setup())
    for experience in stream_of([0, 3], [2, 1]):
        assert not hasattr(experience.benchmark, "n_classes_per_exp")  # which Avalanche's own iCaRL asks for
        strategy.train(experience)
    assert (answers(strategy)[0].argmax(1) == Points(20, 1).tensors[1]).float().mean() > 0.9


@pytest.mark.parametrize("name", BOTH)
def test_a_memory_that_cannot_hold_every_class_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: a memory of 3 images is less.* raise settings.memory_size"):
        build_strategy(name, setup(settings=Settings(memory_size=3)))
