"""A trace tells what made what in a forward pass, and leaves nothing behind: no hook, no mode, no random draw."""

import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import _len_torch_function_stack

from models import changed, copies, global_states, hooks, mlp
from src_plugin.head.trace import Trace, trace


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x):
        return self.fc2(F.dropout(torch.relu(self.fc1(x.flatten(1))), training=self.training))


class Noisy(nn.Module):
    """All that a forward pass may change: statistics of a BatchNorm, random draws, modes set by hand."""

    def __init__(self):
        super().__init__()
        self.below = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8))
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 4))
        self.below.eval()

    def forward(self, x):
        return self.head(self.below(x) + torch.rand(1))


class Broken(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


def chain(record):
    """Kinds of the steps that led to the output, the last one first."""
    kinds, node = [], record.output
    while node is not None:
        kinds.append(node.kind.name.lower())
        node = node.parent
    return kinds


def test_modules_are_followed_from_the_output_back():
    record = trace(nn.Sequential(nn.Flatten(), *mlp(6, 5, 4)), torch.rand(2, 2, 3))
    assert chain(record) == ["linear", "activation", "linear", "unchanged", "input"]
    assert record.output.name == "3"


def test_functions_are_followed_as_well_as_modules():
    assert chain(trace(Functional(), torch.rand(2, 6))) == [
        "linear",
        "unchanged",
        "activation",
        "linear",
        "unchanged",
        "input",
    ]


IN_PLACE = {
    "module": nn.ReLU(inplace=True),
    "function": lambda x: F.relu(x, inplace=True),
    "method": lambda x: x.relu_(),
}


@pytest.mark.parametrize("relu", IN_PLACE.values(), ids=IN_PLACE)
def test_relu_in_place_is_a_relu(relu):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.relu = nn.Linear(6, 4), relu

        def forward(self, x):
            return self.relu(self.fc(x))

    assert chain(trace(Model(), torch.rand(2, 6))) == ["activation", "linear", "input"]


def test_inputs_and_calls_of_linear_layers_are_kept():
    model, x = mlp(6, 5, 4), torch.rand(3, 6)
    record = trace(model, x)
    assert torch.equal(record.inputs[model[0]], x)
    assert torch.equal(record.inputs[model[2]], model[:2](x))
    assert record.calls == {model[0]: 1, model[2]: 1}


def test_an_input_given_by_keyword_is_kept_too():
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, x):
            return self.fc(input=x)

    model, x = Keyword(), torch.rand(2, 6)
    assert torch.equal(trace(model, x).inputs[model.fc], x)


def test_what_a_node_is_can_be_told_to_the_user():
    record = trace(nn.Sequential(nn.Linear(6, 4), nn.Tanh()), torch.rand(2, 6))
    assert record.output.describe() == "'1' (Tanh)"

    class Scaled(Functional):
        def forward(self, x):
            return torch.tanh(super().forward(x))

    assert trace(Scaled(), torch.rand(2, 6)).output.describe() == "function tanh()"


def test_an_output_that_is_no_tensor_of_the_pass_has_no_node():
    class Text(nn.Module):
        def forward(self, x):
            return "text"

    assert trace(Text(), torch.rand(2, 6)).output is None


def test_a_trace_leaves_model_and_random_states_as_they_were():
    model = Noisy()
    modes = {name: module.training for name, module in model.named_modules()}
    state, random = copies(model), global_states()
    trace(model, torch.rand(4, 6, generator=torch.Generator().manual_seed(0)))
    assert changed(model, state) == []
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert global_states() == random
    assert hooks(model) == 0
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=["exception", "interrupt"])
def test_a_forward_that_raises_leaves_no_hook_and_no_mode(error):
    model = nn.Sequential(nn.Linear(6, 5), Broken(error), nn.Linear(5, 4))
    model[0].eval()
    before = _len_torch_function_stack()
    with pytest.raises(type(error)):
        trace(model, torch.rand(2, 6))
    assert _len_torch_function_stack() == before
    assert hooks(model) == 0
    assert [m.training for m in model.modules()] == [True, False, True, True]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_pass_that_breaks_off_leaves_no_hook_and_no_mode(error):
    model, before = mlp(6, 4), _len_torch_function_stack()

    def broken(x):
        model[0](x)
        raise error

    with pytest.raises(error):
        Trace(model).run(broken, torch.zeros(1, 6))
    assert _len_torch_function_stack() == before
    assert hooks(model) == 0


def test_a_trace_keeps_no_activation_alive():
    seen = []
    model = Functional()
    model.fc1.register_forward_hook(lambda module, args, output: seen.append(weakref.ref(output)))
    record = trace(model, torch.rand(2, 6))
    assert seen[0]() is None
    assert record.output is not None
