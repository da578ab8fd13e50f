"""Every kind of layer reads as one matrix and bias, and what is written is what it reads as afterwards."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from head_samples import Model, X
from models import changed, copies, global_states, mlp
from network_samples import Lora, OwnLinear, SimpleLinear, Transposed, old_weight_norm
from src_plugin.errors import HeadNotFoundError
from src_plugin.head.find import find_head, renewed
from src_plugin.head.norms import Moments, WithNorm
from src_plugin.head.state import HeadState


def trained(model):
    """The model in eval mode, with parameters and statistics that training would leave."""
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.data += 0.2 * torch.randn(p.shape, generator=generator)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-1.0, 1.0, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model.eval()


LAYERS = {
    "Linear": lambda: mlp(6, 5, 4),
    "without bias": lambda: mlp(6, 5, 4, bias=False),
    "subclass": lambda: nn.Sequential(OwnLinear(6, 5), nn.ReLU(), OwnLinear(5, 4)),
    "transposed": lambda: nn.Sequential(Transposed(6, 5), nn.ReLU(), Transposed(5, 4)),
    "a layer of one's own": lambda: Model(lambda m, x: m.last(m.fc1(x).relu())["logits"], last=SimpleLinear(5, 4)),
    "weight norm": lambda: nn.Sequential(
        parametrizations.weight_norm(nn.Linear(6, 5)),
        nn.ReLU(),
        parametrizations.weight_norm(nn.Linear(5, 4), dim=None),
    ),
    "1 x 1 convolutions": lambda: nn.Sequential(
        nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 5, 1), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.Flatten()
    ),
    "LoRA": lambda: Model(lambda m, x: m.lora(m.fc1(x).relu()), lora=Lora(nn.Linear(5, 4), rank=2)),
    "batch norm behind": lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4)),
    "batch norm behind, no bias": lambda: nn.Sequential(
        nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4)
    ),
    "batch norm without gains": lambda: nn.Sequential(
        nn.Linear(6, 5), nn.BatchNorm1d(5, affine=False), nn.ReLU(), nn.Linear(5, 4)
    ),
    "batch norm before": lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 4)),
    "batch norm on both sides": lambda: nn.Sequential(
        nn.BatchNorm1d(6), nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4), nn.BatchNorm1d(4)
    ),
    "put together": lambda: Model(
        lambda m, x: torch.cat([m.a(h := m.fc1(x).relu()), m.b(h)], 1), a=nn.Linear(5, 3), b=nn.Linear(5, 1)
    ),
}


@pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
def test_what_is_read_computes_what_the_model_does(build):
    model = trained(build())
    head = find_head(model, X)
    assert len(head.parts) == 2
    torch.testing.assert_close(head.logits(head.read(), X), model(X))


@pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
def test_what_is_written_is_what_the_model_computes_then(build):
    model = trained(build())
    head = find_head(model, X)
    identities = {name: id(p) for name, p in model.named_parameters()}
    state = head.read()
    for tensor in state.tensors():
        tensor += 0.3 * torch.rand(tensor.shape, generator=torch.Generator().manual_seed(1))
    head.write(state)
    torch.testing.assert_close(head.read().tensors(), state.tensors())
    torch.testing.assert_close(model(X), head.logits(state, X))
    assert {name: id(p) for name, p in model.named_parameters()} == identities


def test_the_old_weight_norm_is_written_too():
    model = old_weight_norm()
    x = torch.rand(3, 64)
    head = find_head(model, x)
    state = head.read()
    state.weights[1].mul_(2.0).add_(0.1)
    head.write(state)
    torch.testing.assert_close(model(x), head.logits(state, x))


def test_weight_norm_keeps_the_length_of_its_directions():
    # The size of later steps depends on it.
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 4)))
    head = find_head(model, X)
    directions = model[0].parametrizations.weight.original1
    with torch.no_grad():
        directions.mul_(3.0)
    length = directions.norm(dim=1)
    state = head.read()
    state.weights[0].add_(0.2)
    head.write(state)
    torch.testing.assert_close(directions.norm(dim=1), length)


def test_a_unit_whose_gain_is_zero_stays_as_it_is():
    model = trained(LAYERS["batch norm behind"]())
    with torch.no_grad():
        model[1].weight[2] = 0.0
    head, row = find_head(model, X), model[0].weight[2].clone()
    state = head.read()
    state.weights[0].add_(0.5)
    head.write(state)
    assert torch.equal(model[0].weight[2], row)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_batch_norm_by_hand():
    # x -> 2 x + 1, then (y - 3) * 4 / sqrt(0.25) - 5 = 8 y - 29: 16 x - 21 in all, but for eps.
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1, eps=0.0))
    model[0].weight.data.fill_(2.0), model[0].bias.data.fill_(1.0)
    model[1].weight.data.fill_(4.0), model[1].bias.data.fill_(-5.0)
    model[1].running_mean.fill_(3.0), model[1].running_var.fill_(0.25)
    head = find_head(model.eval(), torch.ones(2, 1))
    state = head.read()
    assert [t.item() for t in state.tensors()] == [16.0, -21.0]
    head.write(type(state)((torch.tensor([[8.0]]),), (torch.tensor([-1.0]),)))
    # 8 w = 8 and 8 (1 - 3) + b = -1
    assert [p.item() for p in model.parameters()] == [1.0, 1.0, 4.0, 15.0]


def test_a_slept_bias_before_batch_norm_lasts_when_training_goes_on():
    model = trained(LAYERS["batch norm behind"]())
    head, answers = find_head(model.eval(), X), []
    for shift in (0.0, 1.0):
        state = head.read()
        head.write(HeadState(state.weights, (state.biases[0] + shift, *state.biases[1:])))
        answers.append(model.train()[:2](X))
        model.eval()
    torch.testing.assert_close(answers[1], answers[0] + 1.0)


def test_statistics_over_all_experiences_are_means_over_presentations():
    norm, moments = nn.BatchNorm1d(1), Moments()
    norm.running_mean.fill_(1.0), norm.running_var.fill_(2.0)
    moments.now = 30
    moments.close(norm)  # mean 1, mean square 3
    norm.running_mean.fill_(5.0), norm.running_var.fill_(0.0)
    moments.now = 10  # mean 5, mean square 25: over all (3 * 1 + 5) / 4 = 2 and (3 * 3 + 25) / 4 - 4 = 4.5
    mean, variance = moments.over_all(norm)
    assert (mean.item(), variance.item()) == (2.0, 4.5)
    layer = WithNorm(find_head(nn.Linear(1, 1), torch.ones(1, 1)).parts[0], behind=norm)
    layer.moments = {norm: moments}
    weight, bias = layer.read()
    for target, value in zip(layer.targets(), layer.solve(weight, bias), strict=True):
        target.data.copy_(value)
    layer.refresh()
    assert (norm.running_mean.item(), norm.running_var.item()) == (2.0, 4.5)
    torch.testing.assert_close(layer.read(), (weight, bias))


FROZEN = {
    "the first of two": (["0"], ("2",)),
    "the weight alone": (["0.weight"], ("2",)),
    "none": ([], ("0", "2")),
}


@pytest.mark.parametrize(("frozen", "names"), FROZEN.values(), ids=FROZEN)
@pytest.mark.parametrize("by_name", [False, True], ids=["found", "named"])
def test_the_head_ends_above_what_is_frozen_and_says_so(frozen, names, by_name):
    model = mlp(6, 5, 4)
    for name in frozen:
        (model.get_parameter(name) if "." in name else model[int(name)]).requires_grad_(False)
    head = find_head(model, X, head="" if by_name else None)
    assert head.names == names
    assert ("is frozen (requires_grad=False)" in head.describe()) == bool(frozen)


def test_a_frozen_bias_stays_while_its_weights_sleep():
    model = mlp(6, 5, 4)
    model[0].bias.requires_grad_(False)
    head, before = find_head(model, X), copies(model)
    torch.testing.assert_close(head.logits(head.read(), X), model(X))
    state = head.read()
    for tensor in state.tensors():
        tensor += 1.0
    head.write(state)
    assert changed(model, before) == ["0.weight", "2.weight", "2.bias"]
    torch.testing.assert_close(model(X), head.logits(state, X))


NOTHING_LEFT = {
    "all": (
        "",
        "'2.weight'.* is frozen .* changes no frozen parameter. Unfreeze the model before: model.requires_grad_",
    ),
    "the last": ("2", "'2.weight'.* is frozen"),
    "the last bias": ("2.bias", "the bias of '2' is frozen while its weights are not"),
}


@pytest.mark.parametrize(("frozen", "what"), NOTHING_LEFT.values(), ids=NOTHING_LEFT)
def test_where_the_last_layer_is_frozen_nothing_can_sleep(frozen, what):
    model = mlp(6, 5, 4)
    (model.get_parameter(frozen) if "." in frozen else model.get_submodule(frozen)).requires_grad_(False)
    with pytest.raises(HeadNotFoundError, match=what):
        find_head(model, X)


def test_parts_of_a_block_may_have_no_bias():
    model = Model(lambda m, x: torch.cat([m.a(x), m.b(x)], 1), a=nn.Linear(6, 3), b=nn.Linear(6, 1, bias=False))
    head = find_head(model, X)
    assert head.read().biases[0][3] == 0
    torch.testing.assert_close(head.logits(head.read(), X), model(X))


UNUSABLE = {
    "meta": (lambda: nn.Linear(6, 4, device="meta"), "on the meta device and has no values. Load the model first"),
    "inference": (lambda: _inferred(), "inference_mode"),
}


def _inferred():
    with torch.inference_mode():
        return nn.Linear(6, 4)


@pytest.mark.parametrize(("build", "what"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_model_that_cannot_be_changed_is_refused_at_once(build, what):
    with pytest.raises(HeadNotFoundError, match=what):
        find_head(build(), X)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_a_scripted_model_is_refused_and_a_scripted_backbone_is_not():
    with pytest.raises(HeadNotFoundError, match="scripted module, which shows none of its layers"):
        find_head(torch.jit.script(mlp(6, 4)), X)
    model = nn.Sequential(torch.jit.script(mlp(6, 5, 5)), nn.ReLU(), nn.Linear(5, 4))
    assert find_head(model, X).names == ("2",)
    with pytest.raises(HeadNotFoundError, match="as far as they can be followed: a scripted module"):
        find_head(nn.Sequential(torch.jit.script(mlp(6, 4))), X)


def test_a_head_is_renewed_where_modules_were_replaced():
    model = LAYERS["batch norm behind"]()
    head = find_head(model, X)
    other = trained(LAYERS["batch norm behind"]())
    torch.testing.assert_close(renewed(head, other).read().tensors(), find_head(other, X).read().tensors())
    with pytest.raises(HeadNotFoundError, match="no longer has the layer '3'"):
        renewed(head, nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)))


def test_to_look_at_a_model_draws_nothing():
    random = global_states()
    find_head(LAYERS["subclass"](), X, head="")
    find_head(LAYERS["weight norm"](), X)
    state = global_states()
    assert state[:2] == random[:2]
