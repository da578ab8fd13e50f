"""The head is found where it is, refused by name where there is none, and read and written as a whole."""

import pytest
import torch
import torch.nn.functional as F
from avalanche.models import IncrementalClassifier, MTSimpleMLP, SimpleMLP
from torch import nn
from torch.nn.utils import parametrizations, prune

from models import changed, copies, global_states, mlp, same_bits
from src_plugin.errors import HeadNotFoundError, WeightsError
from src_plugin.finding import find_head
from src_plugin.head import Probe, check_finite

X = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    """Layers fc1 (6, 5) and fc2 (5, 4) in a forward pass of the test's own."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 5), nn.Linear(5, 4)
        for name, module in modules.items():
            setattr(self, name, module)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


def tied(model, a, b):
    model[b].weight = model[a].weight
    return model


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


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
    "norm below the last layer": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4)), ("3",),
    ),
    "another activation below the last layer": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), ("2",),
    ),
    "residual sum below the last layer": (
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
    # Outputs of several tasks are put together into one tensor of zeros: what made it is no layer.
    model = MTSimpleMLP(input_size=6, hidden_size=5)
    labels = torch.zeros(len(X), dtype=torch.long)
    with pytest.raises(
        HeadNotFoundError, match=r"MTSimpleMLP has no head.*function zeros\(\).*Name the layers yourself"
    ):
        find_head(model, X, labels)
    assert find_head(model, X, labels, head="classifier").names == ("classifier.classifiers.0.classifier",)


REFUSED = {
    "convolution": (lambda: nn.Sequential(nn.Conv2d(1, 4, 6), nn.Flatten()), IMAGES, r"'0' \(Conv2d\)"),
    "norm layer": (lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), X, r"'1' \(BatchNorm1d\)"),
    "layer norm": (lambda: nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4)), X, r"'1' \(LayerNorm\)"),
    "another activation": (lambda: nn.Sequential(nn.Linear(6, 4), nn.GELU()), X, r"'1' \(GELU\)"),
    "another activation as function": (lambda: Model(lambda m, x: torch.tanh(m.fc2(m.fc1(x).relu()))), X, r"tanh\(\)"),
    "attention": (
        lambda: Model(lambda m, x: m.mix(x, x, x)[0], mix=nn.MultiheadAttention(6, 1)), X, "Attention|multi_head",
    ),
    "residual sum at the end": (
        lambda: Model(lambda m, x: m.fc2(F.relu(m.fc1(x))) + m.skip(x), skip=nn.Linear(6, 4)), X, r"\S*add\S*\(\)",
    ),
    "residual sum with the input": (
        lambda: Model(lambda m, x: m.square(x) + x, square=nn.Linear(6, 6)), X, r"\S*add\S*\(\)",
    ),
    "concatenation": (
        lambda: Model(lambda m, x: torch.cat([m.fc1(x), m.other(x)], 1), other=nn.Linear(6, 2)), X, r"function cat\(\)",
    ),
    "no Linear": (lambda: nn.Sequential(nn.Flatten(), nn.ReLU()), X, "output comes from nothing"),
    "a Linear by function": (lambda: Model(lambda m, x: F.linear(x, m.fc1.weight)), X, r"function linear\(\)"),
}  # fmt: skip


@pytest.mark.parametrize(("build", "x", "what"), REFUSED.values(), ids=REFUSED)
def test_an_output_that_no_linear_layer_made_is_refused_by_name_with_the_cure(build, x, what):
    with pytest.raises(HeadNotFoundError, match=what) as refusal:
        find_head(build(), x)
    assert "only Linear layers joined by ReLU, Dropout, Flatten or Identity can sleep" in str(refusal.value)
    assert "head=['fc1', 'fc2']" in str(refusal.value)


class Alias(nn.Module):
    """One layer, registered under two names and called once."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.net = nn.Sequential(nn.Flatten(), self.fc)

    def forward(self, x):
        return self.net(x)


UNSLEEPABLE = {
    "tied weights": (lambda: tied(mlp(6, 6, 6), 0, 2), r"weight of '0' is shared \(0.weight, 2.weight\)"),
    "weights tied to another part": (
        lambda: tied(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)), 0, 2), "'2' is shared",
    ),
    "a layer called twice": (
        lambda: Model(lambda m, x: m.fc(F.relu(m.fc(x))), fc=nn.Linear(6, 6)), "'fc' is shared .*more than once",
    ),
    "weight norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 4))), "'0' is computed from other parameters",
    ),
    "spectral norm": (
        lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 4))), "'0' is computed from other parameters",
    ),
    "pruning": (
        lambda: nn.Sequential(prune.l1_unstructured(nn.Linear(6, 4), "weight", 0.5)), "'0' is computed from other",
    ),
    "a Linear with a forward of its own": (lambda: nn.Sequential(Scaled(6, 4)), "'0' is Scaled, a Linear layer with"),
}  # fmt: skip


@pytest.mark.parametrize(("build", "what"), UNSLEEPABLE.values(), ids=UNSLEEPABLE)
def test_a_layer_that_cannot_be_changed_alone_is_refused_by_name(build, what):
    with pytest.raises(HeadNotFoundError, match=what):
        find_head(build(), X)


@pytest.mark.parametrize("name", ["tied weights", "weight norm", "pruning", "a Linear with a forward of its own"])
def test_naming_such_a_layer_does_not_help(name):
    model = UNSLEEPABLE[name][0]()
    with pytest.raises(HeadNotFoundError, match="'0"):
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


# -- named heads -------------------------------------------------------------------------------------------------------

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
    "no Linear": ("1", "head='1' holds no Linear layer"),
    "twice the same": (["2", "2"], "shared|do not follow"),
    "nothing": ([], r"head=\[\] holds no Linear layer"),
}


@pytest.mark.parametrize(("head", "what"), WRONG_NAMES.values(), ids=WRONG_NAMES)
def test_names_that_make_no_head_are_refused(head, what):
    with pytest.raises(HeadNotFoundError, match=what):
        find_head(mlp(6, 5, 3, 4), head=head)


@pytest.mark.parametrize(
    "between", [nn.Tanh(), nn.GELU(), nn.BatchNorm1d(5), nn.LayerNorm(5)], ids=lambda m: type(m).__name__
)
def test_a_container_with_something_else_between_is_refused(between):
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 5), between, nn.Linear(5, 4)))
    with pytest.raises(
        HeadNotFoundError, match=rf"'0.1' is {type(between).__name__}, and only Linear layers joined by"
    ):
        find_head(model, head="0")


@pytest.mark.parametrize("between", [nn.Tanh(), nn.GELU(), nn.BatchNorm1d(5)], ids=lambda m: type(m).__name__)
def test_layers_with_something_else_between_are_refused(between):
    model = nn.Sequential(nn.Linear(6, 5), between, nn.Linear(5, 4))
    with pytest.raises(HeadNotFoundError, match=f"{type(between).__name__}"):
        find_head(model, X, head=["0", "2"])


# -- reading, writing, computing ---------------------------------------------------------------------------------------


def test_sizes_name_the_inputs_first():
    assert find_head(mlp(6, 5, 4), X).sizes == (6, 5, 4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_is_read_is_written_back_bit_by_bit(dtype):
    model = mlp(6, 5, 4, dtype=dtype)
    head, before = find_head(model, head=["0", "2"]), copies(model)
    state = head.read()
    assert {t.dtype for t in state.tensors()} == {torch.promote_types(dtype, torch.float32)}
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    head.write(state)
    assert changed(model, before) == []


def test_what_is_read_is_a_copy():
    model = mlp(6, 5, 4)
    head, before = find_head(model, X), copies(model)
    for tensor in head.read().tensors():
        tensor.zero_()
    assert changed(model, before) == []


def test_writing_keeps_the_parameters_themselves_and_their_gradients():
    model = mlp(6, 5, 4)
    head = find_head(model, X)
    model(X).sum().backward()
    before = {name: (p, p.grad, p.requires_grad) for name, p in model.named_parameters()}
    head.write(head.read().towards(head.read(), 0.5))
    assert {name: (p, p.grad, p.requires_grad) for name, p in model.named_parameters()} == before


@pytest.mark.parametrize("error", [RuntimeError("full"), KeyboardInterrupt()], ids=["exception", "interrupt"])
@pytest.mark.parametrize("nth", [0, 1, 3])
def test_a_write_that_fails_leaves_everything_as_it_was(monkeypatch, error, nth):
    model = mlp(6, 5, 4)
    head, before = find_head(model, X), copies(model)
    state = head.read()
    for tensor in state.tensors():
        tensor.add_(1.0)
    calls, copy = [], torch.Tensor.copy_

    def failing(self, *args, **kwargs):
        calls.append(self)
        if len(calls) == nth + 1:
            raise error
        return copy(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "copy_", failing)
        with pytest.raises(type(error)):
            head.write(state)
    assert changed(model, before) == []


def test_a_state_of_another_shape_is_refused_and_leaves_everything_as_it_was():
    model = mlp(6, 5, 4)
    head, before = find_head(model, X), copies(model)
    state = head.read()
    with pytest.raises(RuntimeError):
        head.write(state.with_weights([state.weights[0] + 1, torch.zeros(4, 7)]))
    assert changed(model, before) == []


COMPUTED = {
    "modules": lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Dropout(0.9), nn.Linear(5, 4)),
    "functions": lambda: Model(lambda m, x: m.fc2(F.dropout(F.relu(m.fc1(x)), 0.9, m.training))),
    "one layer": lambda: nn.Linear(6, 4),
    "softmax behind": lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Softmax(dim=1)),
}


@pytest.mark.parametrize("build", COMPUTED.values(), ids=COMPUTED)
def test_logits_are_those_of_the_model_awake(build):
    model = build()
    head = find_head(model, X)
    model.train()
    random = global_states()
    ours = head.logits(head.read(), X)
    assert global_states() == random
    assert all(module.training for module in model.modules())
    with torch.no_grad():
        theirs = model.eval()(X)
    if isinstance(model, nn.Sequential) and isinstance(model[-1], nn.Softmax):
        ours = ours.softmax(1)
    torch.testing.assert_close(ours, theirs)


HEADS = {
    "three layers": lambda: mlp(6, 5, 4, 3),
    "ReLU in place": lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 4)),
    "one layer": lambda: nn.Linear(6, 4),
}


@pytest.mark.parametrize("build", HEADS.values(), ids=HEADS)
def test_a_probe_answers_what_the_head_does_however_often_it_is_asked(build):
    head = find_head(build(), X)
    state = head.read()
    other = state.towards(type(state)(*([0 * t for t in part] for part in (state.weights, state.biases))), 0.5)
    probe = Probe(head, X)
    for asked in (state, other, state):
        assert same_bits(probe.logits(asked), head.logits(asked, X))
        assert same_bits(probe.hidden(asked), head.hidden(asked, X))
        assert same_bits(probe.first(asked), F.linear(X, asked.weights[0], asked.biases[0]))


def test_a_probe_keeps_what_a_first_layer_answered():
    head = find_head(mlp(6, 5, 4), X)
    state = head.read()
    probe = Probe(head, X)
    answer = probe.first(state)
    assert probe.first(state.with_weights([state.weights[0], 2 * state.weights[1]])) is answer
    for other in (
        state.with_weights([2 * state.weights[0], state.weights[1]]),
        type(state)(state.weights, (None,) * 2),
    ):
        assert not torch.equal(probe.first(other), answer)


SOFTMAX = {
    "module": lambda: nn.Sequential(nn.Linear(6, 4), nn.Softmax(dim=1)),
    "function": lambda: Model(lambda m, x: torch.softmax(m.fc(x), 1), fc=nn.Linear(6, 4)),
}


@pytest.mark.parametrize(
    "build",
    SOFTMAX.values(),
    ids=SOFTMAX,
)
def test_activations_of_the_last_layer_are_after_the_softmax(build):
    # As in the authors' normalisation, where the output non-linearity counts and a softmax caps it at 1.
    head = find_head(build(), X)
    last = head.activations(head.read(), 100 * X)[-1]
    torch.testing.assert_close(last.sum(1), torch.ones(len(X)))


def test_the_straight_line_between_two_states():
    head = find_head(mlp(2, 2), torch.ones(1, 2))
    start = head.read()
    end = type(start)(tuple(w + 4 for w in start.weights), tuple(b + 8 for b in start.biases))
    middle = start.towards(end, 0.25)
    torch.testing.assert_close(middle.weights[0], start.weights[0] + 1)
    torch.testing.assert_close(middle.biases[0], start.biases[0] + 2)
    assert all(torch.equal(a, b) for a, b in zip(start.towards(end, 0.0).tensors(), start.tensors(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(start.towards(end, 1.0).tensors(), end.tensors(), strict=True))


def test_layers_without_bias_stay_without():
    state = find_head(mlp(6, 5, 4, bias=False), X).read()
    assert state.biases == (None, None)
    assert state.towards(state, 0.5).biases == (None, None)
    assert state.nbytes == 4 * (30 + 20)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("name", "parameter"), [("2.weight", 2), ("0.bias", 1)])
def test_parameters_that_are_not_finite_are_refused_by_name(name, parameter, value):
    model = mlp(6, 5, 4)
    with torch.no_grad():
        list(model.parameters())[parameter].view(-1)[3] = value
    with pytest.raises(WeightsError, match=f"'{name}' has 1 of .* NaN or infinite.*nothing was changed"):
        check_finite(find_head(model, X))


def test_parameters_whose_sum_overflows_are_finite():
    model = mlp(6, 5, 4)
    with torch.no_grad():
        model[0].weight[0, :2] = torch.finfo(torch.float32).max
    assert not torch.isfinite(model[0].weight.sum())
    check_finite(find_head(model, X))


def test_a_named_head_that_another_layer_follows_is_refused():
    with pytest.raises(HeadNotFoundError, match=r"ends in '0', but '2' \(Linear\) comes after it"):
        find_head(mlp(6, 5, 4), X, head="0")


def test_a_head_says_what_ended_it():
    model = nn.Sequential(nn.Linear(6, 5), nn.LeakyReLU(), nn.Linear(5, 4))
    assert find_head(model, X).describe() == (
        "the head is 2; it ends there because '1' (LeakyReLU) below it cannot sleep"
    )
    assert find_head(mlp(6, 5, 4), X).describe() == "the head is 0, 2"
