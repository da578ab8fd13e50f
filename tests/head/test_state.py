"""A head is read and written as a whole, and computes what the model does awake."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from head_samples import Model, X
from models import changed, copies, global_states, mlp
from src_plugin.errors import HeadNotFoundError, WeightsError
from src_plugin.head.find import find_head
from src_plugin.head.state import check_finite


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
    model = nn.Sequential(nn.Linear(6, 5), nn.Softmax(1), nn.Linear(5, 4))
    assert find_head(model, X).describe() == "the head is 2; it ends there because '1' (Softmax) below it cannot sleep"
    assert find_head(mlp(6, 5, 4), X).describe() == "the head is 0, 2"
