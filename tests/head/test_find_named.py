"""A head is taken by name, and names that make no head are refused."""

import pytest
import torch
import torch.nn.functional as F
from avalanche.models import IncrementalClassifier, SimpleMLP
from torch import nn

from head_samples import Model, X
from models import mlp
from src_plugin.errors import HeadNotFoundError
from src_plugin.head.find import find_head

NAMED = {
    "a layer": ("2", ("2",)),
    "layers": (["0", "2"], ("0", "2")),
    "a tuple of layers": (("0", "2"), ("0", "2")),
    "the whole model": ("", ("0", "2")),
}


@pytest.mark.parametrize(("head", "names"), NAMED.values(), ids=NAMED)
def test_a_head_is_taken_by_name(head, names):
    model = mlp(6, 5, 4)
    assert find_head(model, head=head).names == names


def test_a_container_is_named_as_one():
    model = SimpleMLP(num_classes=4, input_size=6, hidden_size=5)
    assert find_head(model, head=["features", "classifier"]).names == ("features.0", "classifier")
    incremental = Model(lambda m, x: m.head(m.fc1(x)), head=IncrementalClassifier(5, 3))
    assert find_head(incremental, head="head").names == ("head.classifier",)


def test_between_layers_named_one_by_one_stands_a_relu():
    model = Model(lambda m, x: m.fc2(F.relu(m.fc1(x))))
    named, traced = find_head(model, head=["fc1", "fc2"]), find_head(model, X)
    for head in (named, traced):
        torch.testing.assert_close(head.logits(head.read(), X), model(X))


WRONG_NAMES = {
    "unknown": ("fc9", r"Sequential has no module 'fc9'; its Linear layers: \['0', '2', '4'\]"),
    "one of several unknown": (["0", "fc9"], "no module 'fc9'"),
    "a gap": (["0", "4"], "'0' has 5 outputs but '4' has 3 inputs.*without gaps"),
    "output side first": (["4", "2"], "'4' has 4 outputs but '2' has 5 inputs.*input side first"),
    "no Linear": ("1", "head='1' holds no linear layer"),
    "twice the same": (["2", "2"], "shared|do not follow"),
    "nothing": ([], r"head=\[\] holds no linear layer"),
}


@pytest.mark.parametrize(("head", "what"), WRONG_NAMES.values(), ids=WRONG_NAMES)
def test_names_that_make_no_head_are_refused(head, what):
    with pytest.raises(HeadNotFoundError, match=what):
        find_head(mlp(6, 5, 3, 4), head=head)


@pytest.mark.parametrize(
    "between", [nn.Bilinear(5, 5, 5), nn.InstanceNorm1d(5), nn.LSTM(5, 5)], ids=lambda m: type(m).__name__
)
def test_a_container_with_something_else_between_is_refused(between):
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 5), between, nn.Linear(5, 4)))
    with pytest.raises(
        HeadNotFoundError, match=rf"'0.1' is {type(between).__name__}, and only linear layers with activations"
    ):
        find_head(model, head="0")


@pytest.mark.parametrize(
    "between", [nn.Tanh(), nn.GELU(), nn.LayerNorm(5), nn.BatchNorm1d(5)], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize("example", [(), (X,)], ids=["by name alone", "followed"])
def test_activations_and_norms_may_stand_between_named_layers(between, example):
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 5), between, nn.ReLU(), nn.Linear(5, 4)))
    for p in between.parameters():
        nn.init.uniform_(p, -1.0, 1.0)
    head = find_head(model, *example, head="0")
    torch.testing.assert_close(head.logits(head.read(), X), model.eval()(X))


@pytest.mark.parametrize(
    ("between", "what"),
    [(nn.BatchNorm1d(5), "no activation before the next layer"), (nn.Softmax(1), "stands '1' .Softmax., which cannot")],
    ids=["BatchNorm1d", "Softmax"],
)
def test_layers_with_something_else_between_are_refused(between, what):
    model = nn.Sequential(nn.Linear(6, 5), between, nn.Linear(5, 4))
    with pytest.raises(HeadNotFoundError, match=what):
        find_head(model, X, head=["0", "2"])
