"""What looks at a run: it counts rightly, and changes nothing."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import torch
from torch import nn

from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.runs.measuring import LossWatch, SleepListener, measure
from benchmarks.streams.stream import build_stream


def answering(model: nn.Module) -> SimpleNamespace:
    return SimpleNamespace(model=model, plugins=[])


def test_measuring_changes_nothing(tiny: RunConfig, digits: Dataset) -> None:
    stream = build_stream(tiny.stream, data=digits, seed=0)
    model = nn.Sequential(nn.Linear(64, 8), nn.Dropout(0.5), nn.Linear(8, 10))
    model.train()
    model[1].eval()
    weights = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    first = measure(answering(model), stream.tests)
    assert measure(answering(model), stream.tests, batch_size=7) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_accuracy_is_counted_by_experience(tiny: RunConfig, digits: Dataset) -> None:
    class AlwaysThree(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(10)[3].expand(len(x), 10)

    stream = build_stream(tiny.stream, data=digits, seed=0)  # experiences 0-1, 2-3, 4-9
    threes = int((digits.test_labels == 3).sum())
    assert measure(answering(AlwaysThree()), stream.tests) == {"outputs": [0.0, threes / stream.n_test[1], 0.0]}


def test_equal_outputs_count_as_the_first_class(tiny: RunConfig, digits: Dataset) -> None:
    class Dead(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), 10)

    stream = build_stream(tiny.stream, data=digits, seed=0)
    zeros = int((digits.test_labels == 0).sum())
    assert measure(answering(Dead()), stream.tests) == {"outputs": [zeros / stream.n_test[0], 0.0, 0.0]}


def test_the_listener_gives_rows_once() -> None:
    listener = SleepListener(lambda strategy: {"outputs": [strategy]})
    assert listener.take_rows() is None
    listener.before_sleep(0.5)
    listener.after_sleep(0.5)
    assert listener.take_rows() == {"outputs": [0.5]}
    assert listener.take_rows() is None


def test_the_first_loss_that_is_not_finite_is_remembered() -> None:
    watch = LossWatch()
    watch.before_training_exp(None)
    for loss in (2.5, 0.5, float("inf"), float("nan")):
        watch.after_backward(SimpleNamespace(loss=torch.tensor(loss)))
    assert watch.facts == [
        "loss inf in iteration 3 of experience 0",
        "last finite loss 0.5 in iteration 2 of experience 0",
    ]


def test_the_last_finite_loss_is_remembered_where_no_other_was_seen() -> None:
    watch = LossWatch()
    assert watch.facts == ["no loss was finite"]
    for losses in ((2.5, 0.5), (1.5, 1.25, 0.125)):
        watch.before_training_exp(None)
        for loss in losses:
            watch.after_backward(SimpleNamespace(loss=torch.tensor(loss)))
    assert watch.facts == ["last finite loss 0.125 in iteration 3 of experience 1"]
