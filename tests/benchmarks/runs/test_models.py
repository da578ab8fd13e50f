"""Networks and losses, those of the paper's protocol by hand."""

from __future__ import annotations

import pytest
import torch
from avalanche.models.utils import avalanche_model_adaptation
from torch import nn

from benchmarks.configs.run import ModelConfig, StreamConfig, TrainingConfig
from benchmarks.data.dataset import Dataset
from benchmarks.runs.models import (
    MultiHead,
    PlainDropout,
    SquaredError,
    StraightThroughReLU,
    build_model,
    build_optimizer,
)
from benchmarks.streams.stream import build_stream


def build(**settings: object) -> nn.Module:
    return build_model(ModelConfig.model_validate({"hidden": [12, 8], **settings}), n_inputs=16, n_classes=3)


def test_straight_through_relu_rectifies_forward_and_lets_every_gradient_pass() -> None:
    z = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    a = StraightThroughReLU()(z)
    a.sum().backward()
    assert a.tolist() == [0.0, 0.0, 3.0]
    assert z.grad is not None
    assert z.grad.tolist() == [1.0, 1.0, 1.0]


def test_plain_dropout_masks_in_training_and_scales_in_use() -> None:
    dropout = PlainDropout(0.25)
    torch.manual_seed(0)
    trained = dropout(torch.full((10_000,), 2.0))
    assert set(trained.tolist()) == {0.0, 2.0}  # kept values are not scaled up
    assert (trained == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)  # sd 0.004
    assert dropout.eval()(torch.tensor([2.0])).tolist() == [1.5]  # 2 * (1 - 0.25)


def test_squared_error_by_hand() -> None:
    output = torch.tensor([[1.0, 0.5], [0.0, 0.0]])
    # (0.5 * (0^2 + 0.5^2) + 0.5 * (0^2 + 1^2)) / 2 = (0.125 + 0.5) / 2
    assert SquaredError()(output, torch.tensor([0, 1])).item() == pytest.approx(0.3125)


def test_outputs_of_negative_potential_still_learn() -> None:
    # Target unit at z = -1: a = 0, error 0 - 1 = -1, passed on although the ReLU is shut.
    z = torch.tensor([[-1.0, 0.0]], requires_grad=True)
    SquaredError()(StraightThroughReLU()(z), torch.tensor([0])).backward()
    assert z.grad is not None
    assert z.grad.tolist() == [[-1.0, 0.0]]


@pytest.mark.parametrize("shape", [(5, 16), (5, 1, 4, 4)], ids=["flat", "image"])
@pytest.mark.parametrize("kind", [{}, {"kind": "simple_mlp", "hidden": [9, 9], "bias": True, "dropout": 0.5}])
def test_networks_take_images_of_any_shape(kind: dict[str, object], shape: tuple[int, ...]) -> None:
    assert build(**kind)(torch.rand(shape)).shape == (5, 3)


def test_the_paper_network_is_made_of_recognisable_layers() -> None:
    model = build(dropout=0.25, dropout_style="paper", output="relu", init_half_range=0.01)
    kinds = [type(layer) for layer in model.children()]
    block = [nn.Linear, nn.ReLU, PlainDropout]
    assert kinds == [nn.Flatten, *block, *block, nn.Linear, StraightThroughReLU]
    assert issubclass(StraightThroughReLU, nn.ReLU)
    assert issubclass(PlainDropout, nn.Dropout)
    weights = torch.cat([parameter.flatten() for parameter in model.parameters()])
    assert len(weights) == 16 * 12 + 12 * 8 + 8 * 3  # no biases
    assert 0.009 < weights.abs().max().item() <= 0.01
    assert weights.mean().item() == pytest.approx(0.0, abs=0.001)  # sd 0.0003


@pytest.mark.parametrize("bias", [False, True])
def test_biases_are_there_when_asked_for(bias: bool) -> None:
    linears = [layer for layer in build(bias=bias).children() if isinstance(layer, nn.Linear)]
    assert [layer.bias is not None for layer in linears] == [bias] * 3


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)])
def test_optimizers_get_their_settings(name: str, kind: type) -> None:
    settings = {"optimizer": name, "lr": 0.02, "weight_decay": 0.3, "batch_size": 1, "epochs": 1}
    if name == "sgd":
        settings["momentum"] = 0.7
    optimizer = build_optimizer(TrainingConfig.model_validate(settings), build().parameters())
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.3)
    assert group.get("momentum", 0.7) == 0.7


@pytest.mark.parametrize(
    "kind",
    [{}, {"hidden": []}, {"kind": "simple_mlp", "hidden": [9, 9], "bias": True, "dropout": 0.5}],
    ids=["mlp", "linear", "simple_mlp"],
)
def test_a_head_comes_with_its_task_on_a_shared_trunk(digits: Dataset, kind: dict[str, object]) -> None:
    config = ModelConfig.model_validate({"hidden": [12, 8], **kind})
    model = build_model(config, n_inputs=64, n_classes=None)
    assert isinstance(model, MultiHead)
    stream = StreamConfig(dataset="digits", classes_per_experience=[2, 3, 5], task_labels=True)
    experiences = build_stream(stream, data=digits, seed=0).train_stream
    assert [model.has_head(task) for task in range(3)] == [False] * 3
    for experience in experiences[:2]:
        avalanche_model_adaptation(model, experience)
    assert [model.has_head(task) for task in range(3)] == [True, True, False]
    model.eval()
    x = digits.test_images[:4]
    assert model(x, 0).shape == (4, 2)
    assert model(x, 1).shape == (4, 3)
    features = model.trunk(x)
    for task in (0, 1):
        own = model.heads.classifiers[str(task)].classifier
        torch.testing.assert_close(model(x, task), own(features))
    assert set(model(x, None)) == {0, 1}  # outputs of all tasks: what LwF distils
    mixed = model(x, torch.tensor([0, 1, 1, 0]))
    torch.testing.assert_close(mixed[1:3], model(x, 1)[1:3])
    torch.testing.assert_close(mixed[[0, 3], :2], model(x, 0)[[0, 3]])
