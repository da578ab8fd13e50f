"""What lies below the head, beside it and above it: what moved there is told by name, and the rest is not."""

import pytest
import torch
from torch import nn

from models import Opaque, hooks, mlp
from src_plugin.errors import HeadNotFoundError
from src_plugin.waking.observer import Waking
from waking_samples import backbone, batches, show


def test_what_moved_below_the_head_since_the_first_iteration_is_told_by_name():
    model, waking = backbone(), Waking()
    model[0].bias.requires_grad_(False)
    for x, y in batches(2):
        show(waking, model, x, y)
    assert waking.trained_below(model, waking.head) == []
    with torch.no_grad():
        model[0].weight[3, 3] += 1e-6
        model[0].bias += 1.0  # frozen: whoever changes it by hand knows
        model[3][0].weight += 1.0  # in the head
    assert waking.trained_below(model, waking.head) == ["0.weight"]
    waking.forget(slept=False)
    for x, y in batches(1):
        show(waking, model, x, y)
    assert waking.trained_below(model, waking.head) == ["0.weight"]  # the sleep is still to come
    waking.forget(slept=True)
    for x, y in batches(1):
        show(waking, model, x, y)
    assert waking.trained_below(model, waking.head) == []


def test_what_takes_the_outputs_of_a_named_head_is_not_below_it():
    class Above(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.last = mlp(12, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.last(torch.relu(self.body(x))).roll(0, 1)

    model, waking = Above(), Waking("body", needs_classes=False)
    for x, y in batches(2):
        show(waking, model, x, y, step=0.1)
    assert waking.trained_below(model, waking.head) == []


class Beside(nn.Module):
    """Parameters below the head in every way to hold them, and others behind it and beside it."""

    def __init__(self):
        super().__init__()
        self.scale, self.temperature = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.hidden = nn.Linear(12, 12)
        self.head, self.behind, self.copy = mlp(12, 4), nn.PReLU(), nn.Linear(12, 12)

    def forward(self, x):
        x = self.attention(self.scale * x[:, None], x[:, None], x[:, None], need_weights=False)[0][:, 0]
        x = torch.utils.checkpoint.checkpoint(self.hidden, x, use_reentrant=True).square().square()
        return self.behind(self.head(x.cumsum(1))) / self.temperature.exp()


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
def test_what_lies_behind_a_head_or_beside_it_is_not_told_as_below():
    model, waking = Beside(), Waking()
    for x, y in batches(1):
        show(waking, model, x, y)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5
    told = waking.trained_below(model, waking.head)
    own = [f"attention.{name}" for name, _ in model.attention.named_parameters()]
    assert told == ["scale", *own, "hidden.weight", "hidden.bias"]


class Heads(nn.Module):
    """One output layer per task."""

    def __init__(self):
        super().__init__()
        self.heads, self.task = nn.ModuleList(nn.Linear(12, 4) for _ in range(2)), 0

    def forward(self, x):
        return self.heads[self.task](x)


@pytest.mark.parametrize("slept", [True, False], ids=["slept", "deferred"])
@pytest.mark.parametrize("needs_classes", [True, False], ids=["auto", "pure"])
def test_another_output_layer_than_earlier_is_told_and_carried_over(slept, needs_classes):
    model, waking, found = Heads(), Waking(needs_classes=needs_classes), []
    ((x, y),) = batches(1)
    for model.task in (0, 0, 1, 0):
        show(waking, model, x, y)
        found.append(waking.has_other_end)
        waking.forget(slept=slept)
        state = waking.state_dict()
        waking.load_state_dict(state)
    assert found == [False, False, needs_classes, needs_classes]
    other = Waking()
    other.load_state_dict(state)
    show(other, model, x, y)
    assert other.has_other_end


def test_an_output_layer_that_is_replaced_under_its_name_is_the_same():
    model, waking = nn.Sequential(mlp(12, 4)), Waking()
    for size in (4, 6):
        model[0] = mlp(12, size)
        for x, y in batches(1):
            show(waking, model, x, y)
        assert not waking.has_other_end
        waking.forget(slept=True)


# -- buffers -----------------------------------------------------------------------------------------------------------


class Normed(nn.Module):
    """Batch norm below the head, and beside it parts that a training pass does not go through."""

    def __init__(self):
        super().__init__()
        self.below = Opaque(mlp(12, 12), nn.BatchNorm1d(12), nn.ReLU())
        self.head = mlp(12, 4)
        self.beside = nn.BatchNorm1d(12)
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("edges", torch.eye(3).to_sparse())

    def forward(self, x):
        self.count += 1
        return self.head(self.scale * self.below(x))


def frozen(model):
    """The model, frozen but for its head."""
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    return model


def begun(model, **settings):
    """A Waking that has seen one batch."""
    waking = Waking(**settings)
    show(waking, model, *batches(1)[0])
    return waking


def test_running_statistics_that_the_first_pass_moved_are_told():
    assert begun(model := Normed()).changed_below(model) == ["below.1.running_mean", "below.1.running_var"]


CHANGES = {
    # what is done to the model, what is told
    "nothing": (lambda m: None, []),
    "a buffer of the model itself": (lambda m: m.scale.add_(1.0), ["scale"]),
    "one value in its last bit": (lambda m: m.below[1].running_mean[3].mul_(1 + 2**-23), ["below.1.running_mean"]),
    "a part that passes do not go through": (lambda m: m.beside.running_mean.add_(1.0), []),
    "a count": (lambda m: m.below[1].num_batches_tracked.add_(1), []),
    "a buffer that is new": (lambda m: m.below.register_buffer("cache", torch.ones(3)), []),
    "the head": (lambda m: m.head[0].weight.data.add_(1.0), []),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
def test_floating_point_buffers_below_the_head_that_changed_are_told_by_name(change, told):
    model = frozen(Normed())  # so that its batch norm is held
    model.below[1].running_mean.fill_(-0.5)
    waking = begun(model)
    change(model)
    assert waking.changed_below(model) == told


def test_what_was_told_in_one_sleep_is_not_told_again_in_the_next():
    model = frozen(Normed())
    waking = begun(model)
    model.scale += 1.0
    assert waking.changed_below(model) == ["scale"]
    waking.forget(slept=False)
    show(waking, model, *batches(1)[0])
    assert waking.changed_below(model) == ["scale"]  # the sleep is still to come
    waking.forget(slept=True)
    show(waking, model, *batches(1)[0])
    assert waking.changed_below(model) == []


def test_checksums_of_buffers_are_told_in_the_bytes_kept():
    (plain, normed) = (
        begun(m) for m in (nn.Sequential(nn.Linear(12, 12), nn.Tanh(), Opaque(nn.ReLU()), mlp(12, 4)), Normed())
    )
    # Of Normed: mean and variance of two norms, and a scale.
    for waking in (plain, normed):
        waking.forget(slept=True)
    assert normed.kept_bytes - plain.kept_bytes == 5 * 8


# -- holding -----------------------------------------------------------------------------------------------------------


def test_without_holding_no_mode_is_touched():
    model = frozen(Normed())
    begun(model, holds=False)
    assert model.below[1].training


def test_a_head_that_cannot_be_found_is_refused_by_the_pass_that_counts_and_modes_stay():
    model = nn.Sequential(Normed().requires_grad_(False), nn.Linear(4, 4), nn.GELU())
    with pytest.raises(HeadNotFoundError, match="GELU"):
        begun(model)
    assert all(module.training for module in model.modules())


def test_to_look_ahead_leaves_the_batch_as_it_is_and_the_model_without_hooks():
    class InPlace(Normed):
        def forward(self, x):
            return super().forward(x.mul_(2.0))

    model, (x, y) = frozen(InPlace()), batches(1)[0]
    once = 2 * x
    show(Waking(), model, x, y)
    assert torch.equal(x, once)
    assert hooks(model) == 0
    assert not model.below[1].training


def test_a_batch_norm_that_the_user_keeps_in_eval_mode_stays_there_when_the_rest_is_no_longer_frozen():
    model, waking = Normed(), Waking()
    kept = nn.BatchNorm1d(12).eval()
    model.below.append(kept).append(nn.ReLU())
    frozen(model)
    show(waking, model, *batches(1)[0])
    assert [m.training for m in (model.below[1], kept)] == [False, False]
    model.below.requires_grad_(True)
    waking.begin_epoch(model)
    assert [m.training for m in (model.below[1], kept)] == [True, False]
