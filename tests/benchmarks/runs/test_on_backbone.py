"""One model with its backbone inside, and the same on features that were computed before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.data.selection import Selection
from benchmarks.errors import ImpossibleError
from benchmarks.runs.runner import run
from lab_samples import TINY

BACKBONE = {"name": "some"}


class Frozen(nn.Module):
    """Convolution, batch norm, ReLU and pooling, in eval mode for good."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Unflatten(1, (1, 8, 8)),
                nn.Conv2d(1, 6, 3),
                nn.BatchNorm2d(6),
                nn.ReLU(),
                nn.AvgPool2d(2),
                nn.Flatten(),
            )
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return 10.0 * self.layers(x)


@pytest.fixture(scope="module")
def backbone() -> Frozen:
    return Frozen()


def features(data: Dataset, backbone: nn.Module) -> Dataset:
    train, test = backbone(data.train_images), backbone(data.test_images)
    everything = torch.arange(len(train))
    return replace(data, train_images=Selection(train, everything), test_images=test, n_features=train.shape[1])


def through(data: Dataset, backbone: nn.Module) -> Dataset:
    return replace(data, backbone=backbone, n_features=54)


def config(*, cached: bool, scale: object = "first") -> RunConfig:
    raw = {
        **TINY,
        "stream": {**TINY["stream"], "scale": scale},
        "backbone": {**BACKBONE, "cached": cached},
        "training": {"optimizer": "adam", "lr": 0.005, "batch_size": 10, "epochs": 6},
        "settings": {"memory_fraction": 0.1},
    }
    return RunConfig.model_validate(raw)


@pytest.mark.parametrize("strategy", ["naive+src", "replay+src", "joint"])
@pytest.mark.parametrize("scale", ["first", 2.0, None])
def test_both_give_the_same_accuracies(digits: Dataset, backbone: Frozen, strategy: str, scale: object) -> None:
    apart = run(config(cached=True, scale=scale), strategy=strategy, seed=1, data=features(digits, backbone))
    inside = run(config(cached=False, scale=scale), strategy=strategy, seed=1, data=through(digits, backbone))
    for ours, theirs in zip(apart.accuracy or [], inside.accuracy or [], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
    assert apart.accuracy is not None
    assert apart.accuracy[0][0] > 0.7  # something was learnt
    slept = [report["decision"] for report in inside.sleep_reports]
    assert slept == [report["decision"] for report in apart.sleep_reports]
    assert ("slept" in slept) == (strategy != "joint")


@pytest.mark.parametrize("strategy", ["naive+src", "ewc", "replay"])
def test_the_backbone_stays_bit_identical(digits: Dataset, strategy: str) -> None:
    backbone = Frozen()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    run(config(cached=False), strategy=strategy, seed=0, data=through(digits, backbone))
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert not backbone.layers[2].training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_a_running_scale_changes_what_the_network_meets(digits: Dataset, backbone: Frozen) -> None:
    data = features(digits, backbone)
    brighter = data.train_images[:] * (1.0 + data.train_labels[:, None])
    data = replace(data, train_images=brighter)
    first, running = (
        run(config(cached=True, scale=scale), strategy="naive+src", seed=0, data=data) for scale in ("first", "running")
    )
    assert first.accuracy is not None
    assert running.accuracy is not None
    assert first.accuracy[0] == running.accuracy[0]
    assert first.accuracy[2] != running.accuracy[2]


@pytest.mark.parametrize("strategy", ["replay", "rehearsal+src", "gem", "icarl_mlp", "cumulative"])
def test_a_running_scale_is_not_for_methods_that_keep_images(digits: Dataset, backbone: Frozen, strategy: str) -> None:
    with pytest.raises(
        ImpossibleError,
        match=r"at the scale of their own experience, .*use first or a number for methods that keep images$",
    ):
        run(config(cached=True, scale="running"), strategy=strategy, seed=0, data=features(digits, backbone))


class Stop(Exception):
    """A power cut."""


@pytest.mark.parametrize("cached", [True, False], ids=["features", "in the model"])
def test_a_run_goes_on_to_the_same_numbers_and_keeps_no_images(
    digits: Dataset, backbone: Frozen, tmp_path: Path, cached: bool
) -> None:
    data = features(digits, backbone) if cached else through(digits, backbone)
    settings = config(cached=cached, scale="running" if cached else "first")

    def cut(done: int, n: int) -> None:
        if done == 2:
            raise Stop

    whole = run(settings, strategy="naive+src", seed=0, data=data)
    kept = tmp_path / "run.checkpoint"
    with pytest.raises(Stop):
        run(settings, strategy="naive+src", seed=0, data=data, watch=cut, checkpoint=kept)
    assert kept.stat().st_size < 400_000  # the training features alone are 290,000 bytes, and the head 25,000
    resumed = run(settings, strategy="naive+src", seed=0, data=data, checkpoint=kept)
    assert resumed.accuracy == whole.accuracy
    assert resumed.sleep_reports[-1]["weight_change"] == whole.sleep_reports[-1]["weight_change"]
