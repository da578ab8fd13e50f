"""The head is found where it is, and refused by name where there is none."""

import re

import pytest
import torch
import torch.nn.functional as F
from avalanche.models import IncrementalClassifier, MTSimpleMLP, SimpleMLP
from torch import nn
from torch.nn.utils import parametrizations, prune

from head_samples import IMAGES, Cosine, Model, Scaled, X, tied
from models import mlp
from src_plugin.errors import HeadNotFoundError
from src_plugin.head.find import find_head

BACKBONE = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())

FOUND = {
    "one layer": (lambda: mlp(6, 4), ("0",)),
    "a Linear itself": (lambda: nn.Linear(6, 4), ("",)),
    "three layers": (lambda: mlp(6, 5, 5, 4), ("0", "2", "4")),
    "functions": (lambda: Model(lambda m, x: m.fc2(F.relu(m.fc1(x)))), ("fc1", "fc2")),
    "functions in place": (lambda: Model(lambda m, x: m.fc2(m.fc1(x).relu_())), ("fc1", "fc2")),
    "clamp by torch.relu": (lambda: Model(lambda m, x: m.fc2(torch.relu(m.fc1(x)))), ("fc1", "fc2")),
    "registered in another order than called": (
        lambda: Model(lambda m, x: m.fc2(F.relu(m.fc1(F.relu(m.last(x))))), last=nn.Linear(6, 6)),
        ("last", "fc1", "fc2"),
    ),
    "all that may stand between": (
        lambda: nn.Sequential(
            nn.Linear(6, 5), nn.Dropout(), nn.ReLU(), nn.Identity(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(5, 4),
            nn.Dropout(), nn.ReLU(),
        ),
        ("0", "6"),
    ),
    "functions that may stand between": (
        lambda: Model(lambda m, x: m.fc2(F.dropout(m.fc1(x).relu(), training=m.training).view(-1, 5).flatten(1))),
        ("fc1", "fc2"),
    ),
    "softmax at the end": (lambda: nn.Sequential(*mlp(6, 5, 4), nn.Softmax(dim=1)), ("0", "2")),
    "log_softmax at the end": (lambda: Model(lambda m, x: F.log_softmax(m.fc2(F.relu(m.fc1(x))), 1)), ("fc1", "fc2")),
    "no ReLU between the last two": (lambda: nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)), ("1",)),
    "norm before the activation": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4)), ("0", "3"),
    ),
    "another activation": (lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), ("0", "2")),
    "norm at the end": (lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), ("0",)),
    "a rising activation at the end": (lambda: Model(lambda m, x: torch.tanh(m.fc2(m.fc1(x).relu()))), ("fc1", "fc2")),
    "heads put together": (
        lambda: Model(lambda m, x: torch.cat([m.fc1(x), m.other(x)], 1), other=nn.Linear(6, 2)), ("fc1",),
    ),
    "weight norm": (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 4))), ("0",)),
    "residual sum with another layer below the last layer": (
        lambda: Model(lambda m, x: m.fc2(F.relu(m.fc1(x) + m.skip(x))), skip=nn.Linear(6, 5)), ("fc2",),
    ),
    "softmax in the middle": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Softmax(dim=1), nn.Linear(5, 4)), ("3",),
    ),
    "attention below the last layer": (
        lambda: Model(lambda m, x: m.fc2(F.relu(m.fc1(m.mix(x, x, x)[0]))), mix=nn.MultiheadAttention(6, 1)),
        ("fc1", "fc2"),
    ),
    "SimpleMLP": (
        lambda: SimpleMLP(num_classes=4, input_size=6, hidden_size=5, hidden_layers=2),
        ("features.0", "features.3.0", "classifier"),
    ),
    "IncrementalClassifier, masked": (
        lambda: Model(lambda m, x: m.last(F.relu(m.fc1(x))), last=IncrementalClassifier(5, 3)),
        ("fc1", "last.classifier"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("build", "names"), FOUND.values(), ids=FOUND)
def test_the_longest_tail_of_linear_layers_is_found(build, names):
    model = build()
    head = find_head(model, X)
    assert head.names == names
    modules = dict(model.named_modules())
    assert all(layer is modules[name] for name, layer in zip(names, head.layers, strict=True))


@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_backbone_stays_outside_the_head(n_layers):
    sizes = {1: (8, 4), 2: (8, 5, 4)}[n_layers]
    found = find_head(nn.Sequential(BACKBONE, mlp(*sizes)), IMAGES)
    assert found.names == ("1.0", "1.2")[:n_layers]
    assert found.sizes == sizes


def test_a_multi_task_model_is_found_on_one_task():
    model = MTSimpleMLP(input_size=6, hidden_size=5)
    assert find_head(model, X, 0).names == ("features.0", "classifier.classifiers.0.classifier")


def test_a_multi_task_model_on_labels_needs_a_name_and_says_so():
    # Outputs of several tasks are written into one tensor of zeros: what made it is no layer.
    model = MTSimpleMLP(input_size=6, hidden_size=5)
    labels = torch.zeros(len(X), dtype=torch.long)
    with pytest.raises(
        HeadNotFoundError, match=r"MTSimpleMLP has no head.*function setitem\(\).*Name the layers yourself"
    ):
        find_head(model, X, labels)
    assert find_head(model, X, labels, head="classifier").names == ("classifier.classifiers.0.classifier",)


REFUSED = {
    "convolution": (lambda: nn.Sequential(nn.Conv2d(1, 4, 6), nn.Flatten()), IMAGES, r"'0' \(Conv2d\)"),
    "attention": (
        lambda: Model(lambda m, x: m.mix(x, x, x)[0], mix=nn.MultiheadAttention(6, 1)), X, "Attention|multi_head",
    ),
    "residual sum at the end": (
        lambda: Model(lambda m, x: m.fc2(F.relu(m.fc1(x))) + m.skip(x), skip=nn.Linear(6, 4)), X, r"\S*add\S*\(\)",
    ),
    "residual sum with the input": (
        lambda: Model(lambda m, x: m.square(x) + x, square=nn.Linear(6, 6)), X, r"\S*add\S*\(\)",
    ),
    "concatenation of layers that take other inputs": (
        lambda: Model(lambda m, x: torch.cat([m.fc1(x), m.other(x + 1)], 1), other=nn.Linear(6, 2)), X,
        r"function cat\(\)",
    ),
    "a cosine head": (
        lambda: Model(lambda m, x: m.fc(x), fc=Cosine(6, 4)), X,
        r"function linear\(\) in 'fc' \(Cosine\) \(a cosine head",
    ),
    "a recurrent layer": (
        lambda: Model(lambda m, x: m.rnn(x)[0], rnn=nn.LSTM(6, 4)), X, r"'rnn' \(LSTM\) \(a recurrent layer",
    ),
    "a bilinear head": (
        lambda: Model(lambda m, x: m.fc(x, x), fc=nn.Bilinear(6, 6, 4)), X, r"'fc' \(Bilinear\) \(a bilinear head",
    ),
    "no Linear": (lambda: nn.Sequential(nn.Flatten(), nn.ReLU()), X, "output comes from nothing"),
    "a Linear by function": (lambda: Model(lambda m, x: F.linear(x, m.fc1.weight)), X, r"function linear\(\)"),
}  # fmt: skip


@pytest.mark.parametrize(("build", "x", "what"), REFUSED.values(), ids=REFUSED)
def test_an_output_that_no_linear_layer_made_is_refused_by_name_with_the_cure(build, x, what):
    with pytest.raises(HeadNotFoundError, match=what) as refusal:
        find_head(build(), x)
    assert (
        "only linear layers with activations, Dropout, Flatten, LayerNorm or batch norm between them can sleep"
        in str(refusal.value)
    )
    assert re.search(r"head=\['fc1', 'fc2'\]|SRCPlugin\('src_only', head=\['\w+'\]\)|Leave SRC out", str(refusal.value))


class Alias(nn.Module):
    """One layer, registered under two names and called once."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.net = nn.Sequential(nn.Flatten(), self.fc)

    def forward(self, x):
        return self.net(x)


UNSLEEPABLE = {
    "tied weights": (lambda: tied(mlp(6, 6, 6), 0, 2), r"weight of '2' is shared \(0.weight, 2.weight\)"),
    "weights tied to another part": (
        lambda: tied(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)), 0, 2), "'2' is shared",
    ),
    "a layer called twice": (
        lambda: Model(lambda m, x: m.fc(F.relu(m.fc(x))), fc=nn.Linear(6, 6)), "'fc' is shared .*more than once",
    ),
    "spectral norm": (
        lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 4))),
        r"'0' is computed from other parameters by a parametrisation \(SpectralNorm\) that cannot hold every weight",
    ),
    "spectral norm, the old one": (
        lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(6, 4))), "'0' is no parameter of its own",
    ),
    "pruning": (lambda: nn.Sequential(prune.l1_unstructured(nn.Linear(6, 4), "weight", 0.5)), "'0' is pruned"),
    "a Linear with a forward of its own": (
        lambda: nn.Sequential(Scaled(6, 4)),
        r"'0' .*Scaled.*, a Linear layer with a forward of its own that is not x W' \+ b",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("build", "what"), UNSLEEPABLE.values(), ids=UNSLEEPABLE)
def test_a_layer_that_cannot_be_changed_alone_is_refused_by_name(build, what):
    with pytest.raises(HeadNotFoundError, match=what):
        find_head(build(), X)


@pytest.mark.parametrize("name", ["tied weights", "spectral norm", "pruning", "a Linear with a forward of its own"])
def test_naming_such_a_layer_does_not_help(name):
    model = UNSLEEPABLE[name][0]()
    with pytest.raises(HeadNotFoundError, match=r"'[02]"):
        find_head(model, head=[n for n, m in model.named_modules() if isinstance(m, nn.Linear)])


def test_one_layer_under_two_names_is_not_shared():
    assert len(find_head(Alias(), X).layers) == 1


def test_a_shared_bias_is_refused():
    model = mlp(6, 4, 4)
    model[2].bias = model[0].bias
    with pytest.raises(HeadNotFoundError, match="shared"):
        find_head(model, X)


def test_without_an_example_or_a_name_it_says_what_is_needed():
    with pytest.raises(HeadNotFoundError, match=r"needs one example input\. Name the layers yourself"):
        find_head(mlp(6, 4))
