"""What is collected while training: the mean of the head's input, classes, recall; and what is forgotten again."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.overrides import _len_torch_function_stack

from models import hooks, mlp
from src_plugin.errors import ConfigError, HeadNotFoundError, StimulusError
from src_plugin.settling import align
from src_plugin.waking import RECENT, Waking


def backbone(dim=12):
    return nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.ReLU(), mlp(dim, 8, 4))


def show(waking, model, x, y, *, step=None):
    """One training forward pass, watched."""
    waking.begin_forward(model)
    out = model(x)
    waking.end_forward(model, out, y)
    if step is not None:
        with torch.no_grad():
            for p in model.parameters():
                p.add_(step)
    return out


def batches(n=3, size=5, seed=0, classes=(0, 1)):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.tensor(classes)
    return [
        (torch.rand(size, 12, generator=rng), labels[torch.randint(len(classes), (size,), generator=rng)])
        for _ in range(n)
    ]


HEADS = {"found": None, "named": ["3.0", "3.2"]}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_the_mean_is_that_of_all_inputs_of_the_head_shown(head):
    model, waking = backbone(), Waking(head)
    seen = []
    for x, y in batches(4) + batches(1, size=2, seed=9):  # a shorter last batch counts by its samples
        seen.append(model[:3](x).detach())
        show(waking, model, x, y, step=1e-3)
    assert_allclose(waking.mean_input(), torch.cat(seen).double().mean(0), rtol=1e-6)
    assert waking.head.names == ("3.0", "3.2")


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_the_mean_goes_on_over_experiences(head):
    model, waking = backbone(), Waking(head)
    seen = []
    for seed in range(3):
        for x, y in batches(2, size=3 + seed, seed=seed):
            seen.append(model[:3](x).detach())
            show(waking, model, x, y)
        waking.forget(slept=True)
    assert_allclose(waking.mean_input(), torch.cat(seen).double().mean(0), rtol=1e-6)


def test_the_mean_of_half_precision_inputs_does_not_lose_samples():
    # In float16 a sum of 4096 ones stays at 2048.
    model, waking = mlp(3, 2).half(), Waking()
    for _ in range(8):
        show(waking, model, torch.ones(1024, 3).half(), torch.zeros(1024, dtype=torch.long))
    assert_allclose(waking.mean_input(), 1.0)


def test_inputs_with_more_axes_count_each_row():
    model = nn.Sequential(nn.Linear(3, 2), nn.Flatten())  # a head over tokens
    waking = Waking()
    x = torch.rand(4, 5, 3)
    show(waking, model, x, torch.zeros(4, dtype=torch.long))
    assert_allclose(waking.mean_input(), x.reshape(-1, 3).double().mean(0))


def test_what_is_not_announced_is_not_counted():
    model, waking = backbone(), Waking()
    (x, y), (other, _) = batches(2)
    show(waking, model, x, y)
    mean = waking.mean_input()
    model(other)
    assert_allclose(waking.mean_input(), mean)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_model_is_watched_during_a_forward_pass_only(head):
    model, waking = backbone(), Waking(head)
    stack = _len_torch_function_stack()
    for x, y in batches(2):
        waking.begin_forward(model)
        assert "forward" in vars(model)
        out = model(x)
        waking.end_forward(model, out, y)
        assert hooks(model) == 0
        assert "forward" not in vars(model)
        assert _len_torch_function_stack() == stack


def test_a_pass_that_never_ended_is_released_by_the_next():
    model, waking = backbone(), Waking()
    stack = _len_torch_function_stack()
    waking.begin_forward(model)  # and the forward pass raised
    ((x, y),) = batches(1)
    show(waking, model, x, y)
    assert hooks(model) == 0
    assert _len_torch_function_stack() == stack
    assert_allclose(waking.mean_input(), model[:3](x).detach().double().mean(0), rtol=1e-6)


def test_a_forward_pass_that_raises_leaves_nothing_behind():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("out of memory")

    model, waking = nn.Sequential(mlp(12, 4), Broken()), Waking()
    stack = _len_torch_function_stack()
    waking.begin_forward(model)
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            model(torch.rand(2, 12))
        assert hooks(model) == 0
        assert _len_torch_function_stack() == stack
    finally:
        waking.release()


def test_only_the_pass_that_made_the_outputs_counts():
    # ER_ACE passes the buffer before after_forward; iCaRL probes sizes with the batch in before_forward.
    model, waking = backbone(), Waking()
    (x, y), (buffer, _) = batches(2)
    waking.begin_forward(model)
    with torch.no_grad():
        model[:3](x)
    out = model(x)
    model(buffer)
    waking.end_forward(model, out, y)
    assert_allclose(waking.mean_input(), model[:3](x).detach().double().mean(0), rtol=1e-6)


def test_only_the_pass_that_made_the_outputs_counts_with_a_named_head():
    model, waking = backbone(), Waking(["3.0", "3.2"])
    (x, y), (buffer, _) = batches(2)
    waking.begin_forward(model)
    out = model(x)
    model(buffer)
    waking.end_forward(model, out, y)
    assert_allclose(waking.mean_input(), model[:3](x).detach().double().mean(0), rtol=1e-6)


def test_a_layer_that_is_replaced_in_the_middle_of_an_experience_is_still_seen():
    # As an IncrementalClassifier does when an evaluation shows it new classes.
    model, waking = nn.Sequential(mlp(12, 4)), Waking()
    (x, y), (other, _) = batches(2)
    show(waking, model, x, y)
    model[0] = mlp(12, 6)
    show(waking, model, other, y)
    assert_allclose(waking.mean_input(), torch.cat([x, other]).double().mean(0), rtol=1e-6)


def test_a_head_that_gets_its_input_by_keyword_is_seen():
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(12, 4)

        def forward(self, x):
            return self.fc(input=x)

    model, waking = Keyword(), Waking()
    pairs = batches(2)
    for x, y in pairs:
        show(waking, model, x, y)
    assert_allclose(waking.mean_input(), torch.cat([x for x, _ in pairs]).double().mean(0), rtol=1e-6)


# -- the weights before ------------------------------------------------------------------------------------------------


def test_the_weights_before_are_those_of_the_first_iteration():
    model, waking = backbone(), Waking()
    first = [p.detach().clone() for p in model[3].parameters()]
    for x, y in batches(3):
        show(waking, model, x, y, step=0.1)
    weights, biases = first[::2], first[1::2]
    assert all(torch.equal(a, b) for a, b in zip(waking.before.tensors(), [*weights, *biases], strict=True))


def test_the_weights_before_are_dropped_after_a_sleep_and_wait_for_a_deferred_one():
    model, waking = backbone(), Waking()
    ((x, y),) = batches(1)
    show(waking, model, x, y, step=0.1)
    before = waking.before
    waking.forget(slept=False)
    assert waking.before is before
    show(waking, model, x, y, step=0.1)
    assert waking.before is before
    waking.forget(slept=True)
    assert waking.before is None


def test_of_a_head_that_gets_another_layer_the_rest_has_weights_before():
    # A LeakyReLU ends the head above the first layer; a ReLU in its place lets it in, in the middle of an experience.
    model, waking = nn.Sequential(nn.Linear(12, 12), nn.LeakyReLU(), nn.Linear(12, 4, bias=False)), Waking()
    ((x, y),) = batches(1)
    with torch.no_grad():
        model[0].weight.abs_()
    show(waking, model, x, y)
    last = model[2].weight.detach().clone()
    waking.forget(slept=False)  # the sleep is deferred, so the weights before stay those of now
    model[1] = nn.ReLU()
    show(waking, model, x, y, step=0.1)
    assert waking.head.names == ("0", "2")
    before = waking.knowledge()["before"]
    assert [tuple(w.shape) for w in before.weights] == [(0, 0), (4, 12)]
    assert torch.equal(before.weights[1], last)
    assert [b is None for b in before.biases] == [False, True]
    aligned, lost = align(before, waking.head.read())
    assert lost == 12 * 12
    assert torch.equal(aligned.weights[0], model[0].weight)
    assert torch.equal(aligned.biases[0], model[0].bias)


# -- the layers below and above ----------------------------------------------------------------------------------------


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
            return torch.tanh(self.last(torch.relu(self.body(x))))

    model, waking = Above(), Waking("body", needs_classes=False)
    for x, y in batches(2):
        show(waking, model, x, y, step=0.1)
    assert waking.trained_below(model, waking.head) == []


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


# -- classes and recall ------------------------------------------------------------------------------------------------


def test_classes_are_new_until_a_sleep():
    model, waking = backbone(), Waking()
    for classes, slept, new, seen in (
        ((0, 1), False, {0, 1}, set()),
        ((2,), True, {0, 1, 2}, set()),
        ((1, 3), True, {3}, {0, 1, 2}),
    ):
        for x, y in batches(3, classes=classes):
            show(waking, model, x, y)
        assert (waking.new, waking.seen) == (new, seen)
        waking.forget(slept=slept)
    assert (waking.new, waking.seen) == (set(), {0, 1, 2, 3})


COMING_BACK = {
    # classes seen earlier, classes of the experience -> classes that stand against each other
    "only new ones": ((0, 1), (2, 3), (2, 3), (0, 1)),
    "all earlier ones are rehearsed": ((0, 1), (0, 1, 2, 3), (2, 3), (0, 1)),
    "most earlier ones are rehearsed": ((0, 1, 2), (0, 1, 3), (3,), (0, 1, 2)),
    "half of them came back with a new one": ((0, 1), (0, 2), (0, 2), (1,)),
    "some came back alone": ((0, 1, 2), (0, 1), (0, 1), (2,)),
    "all came back alone": ((0, 1), (0, 1), (), (0, 1)),
}


@pytest.mark.parametrize(("earlier", "now", "new", "old"), COMING_BACK.values(), ids=COMING_BACK)
def test_classes_of_the_experience_stand_against_those_that_training_may_have_overwritten(earlier, now, new, old):
    model, waking = mlp(8, 6, 4), Waking()
    for classes in (earlier, now):
        if waking.has_seen_input:
            waking.forget(slept=True)
        x = torch.rand(12, 8)
        show(waking, model, x, torch.tensor([classes[i % len(classes)] for i in range(12)]))
    knows = waking.knowledge()
    assert (knows["new_classes"], knows["old_classes"]) == (new, old)
    rehearsed = new != now
    assert (knows["recall"] is not None) == rehearsed
    assert knows["returned_classes"] == (() if rehearsed else tuple(c for c in new if c in earlier))
    waking.forget(slept=True)
    assert waking.shown == set()


def recall_of(answers, *, epochs=1):
    """Recall after batches of one sample of the old class 0 each, answered rightly (True) or as class 1."""
    waking = Waking()
    waking.seen = {0}
    model = mlp(12, 4)
    for _ in range(epochs):
        waking.begin_epoch()
        for right in answers:
            waking.begin_forward(model)
            model(torch.ones(2, 12))
            # The second sample is of the new class 1; output 3 is the largest, but was never seen.
            out = torch.tensor([[1.0, 0.0, 0.0, 9.0] if right else [0.0, 1.0, 0.0, 9.0], [0.0, 1.0, 0.0, 9.0]])
            waking.end_forward(model, out, torch.tensor([0, 1]))
    return waking.recall


def test_recall_is_that_of_the_second_half_of_the_last_epoch():
    assert recall_of([False, False, True, True]) == 1.0
    assert recall_of([True, True, True, False]) == 0.5
    assert recall_of([True, False, False], epochs=2) == 0.0


def test_without_samples_of_earlier_classes_there_is_no_recall():
    model, waking = backbone(), Waking()
    for x, y in batches(3):
        show(waking, model, x, y)
    assert waking.recall is None


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_recent_inputs_are_bounded_and_the_latest():
    model, waking = mlp(12, 4), Waking()
    for i in range(30):
        show(waking, model, torch.full((100, 12), i + 1.0), torch.zeros(100, dtype=torch.long))
    assert RECENT <= len(waking.recent) < RECENT + 100
    assert waking.recent[-1, 0] == 30.0


def test_only_mean_and_classes_are_kept_between_experiences():
    model, waking = backbone(), Waking()
    for x, y in batches(3):
        show(waking, model, x, y)
    waking.forget(slept=True)
    tensors = [name for name, value in vars(waking).items() if isinstance(value, torch.Tensor) or value is model]
    assert tensors == []
    assert waking.recent is None
    assert waking.head is None
    assert not waking.has_seen_input
    assert waking.kept_bytes == 12 * 8 + 8 * (1 + 2)  # a mean of doubles, a count and two classes


def test_what_is_kept_can_be_carried_over():
    model, first, second = backbone(), Waking(), Waking()
    for x, y in batches(3):
        show(first, model, x, y)
    first.forget(slept=True)
    second.load_state_dict(first.state_dict())
    assert_allclose(second.mean_input(), first.mean_input(), rtol=0)
    for waking in (first, second):
        for x, y in batches(2, seed=5, classes=(2, 3)):
            show(waking, model, x, y)
    assert_allclose(second.mean_input(), first.mean_input(), rtol=0)
    assert (second.seen, second.new) == (first.seen, first.new)


def test_a_state_without_any_experience_can_be_carried_over():
    waking = Waking()
    waking.load_state_dict(Waking().state_dict())
    with pytest.raises(StimulusError, match="nothing was seen in training"):
        waking.mean_input()


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_negative_inputs_of_the_head_are_refused_in_the_first_pass():
    model, waking = mlp(12, 4), Waking()
    with pytest.raises(StimulusError, match=r"negative at 12 of 12 inputs.*Scale the features"):
        show(waking, model, -torch.ones(3, 12), torch.zeros(3, dtype=torch.long))
    assert hooks(model) == 0


def test_a_model_without_a_head_is_refused_in_the_first_pass_and_left_clean():
    model, waking = nn.Sequential(mlp(12, 4), nn.Tanh()), Waking()
    stack = _len_torch_function_stack()
    with pytest.raises(HeadNotFoundError, match="Tanh"):
        show(waking, model, torch.ones(3, 12), torch.zeros(3, dtype=torch.long))
    assert hooks(model) == 0
    assert _len_torch_function_stack() == stack


TARGETS = {
    "numbers": torch.rand(3),
    "one-hot": torch.eye(4)[:3],
    "columns": torch.zeros(3, 1, dtype=torch.long),
    "a list": [{"boxes": torch.zeros(1, 4)}] * 3,
}


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
def test_targets_that_are_no_class_numbers_are_refused_with_the_cure(targets):
    with pytest.raises(ConfigError, match=r"not class numbers.*SleepConfig.preset\('src_only'\)"):
        show(Waking(), mlp(12, 4), torch.ones(3, 12), targets)


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
def test_a_pure_sleep_does_not_ask_what_targets_are(targets):
    waking = Waking(needs_classes=False)
    show(waking, mlp(12, 4), torch.ones(3, 12), targets)
    assert not waking.has_classes
    assert waking.new == set()


MISSING = {"too many": (torch.tensor([0, 5, 4]), r"\[4, 5\]"), "negative": (torch.tensor([0, -1, 1]), r"\[-1\]")}


@pytest.mark.parametrize(("targets", "which"), MISSING.values(), ids=MISSING)
def test_classes_without_an_output_are_refused_by_number(targets, which):
    with pytest.raises(ConfigError, match=rf"targets {which} have no output: the head \['0'\] has 4.*every class"):
        show(Waking(), mlp(12, 4), torch.ones(3, 12), targets)


@pytest.mark.parametrize(("targets", "which"), MISSING.values(), ids=MISSING)
def test_a_pure_sleep_takes_them_for_something_else_than_classes(targets, which):
    model, waking = mlp(12, 4), Waking(needs_classes=False)
    show(waking, model, torch.ones(3, 12), torch.tensor([0, 1, 1]))
    show(waking, model, torch.ones(3, 12), targets)
    assert waking.knowledge()["new_classes"] is None
    waking.forget(slept=True)
    assert waking.seen == set()


def test_a_pure_sleep_knows_class_numbers_where_they_are():
    waking = Waking(needs_classes=False)
    show(waking, mlp(12, 4), torch.ones(3, 12), torch.tensor([0, 2, 2]))
    assert waking.has_classes
    assert waking.new == {0, 2}


def test_a_pure_sleep_takes_whole_numbers_as_targets_of_a_regression():
    model, waking = mlp(12, 1), Waking(needs_classes=False)
    for _ in range(2):
        waking.begin_forward(model)
        waking.end_forward(model, model(torch.ones(3, 12)).squeeze(1), torch.tensor([10, 20, 30]))
        waking.forget(slept=True)


def test_a_head_with_other_inputs_than_before_has_no_common_mean():
    waking = Waking()
    y = torch.zeros(3, dtype=torch.long)
    show(waking, mlp(12, 4), torch.ones(3, 12), y)
    waking.forget(slept=True)
    show(waking, mlp(6, 4), torch.ones(3, 6), y)
    with pytest.raises(StimulusError, match=r"6 inputs now and had 12.*head='classifier'"):
        waking.mean_input()


def test_a_head_that_has_other_inputs_in_the_middle_of_an_experience_is_refused():
    model, waking = nn.Sequential(mlp(12, 4)), Waking()
    y = torch.zeros(3, dtype=torch.long)
    show(waking, model, torch.ones(3, 12), y)
    model[0] = mlp(6, 4)
    with pytest.raises(StimulusError, match=r"6 inputs now and had 12.*head='classifier'"):
        show(waking, model, torch.ones(3, 6), y)
    assert "forward" not in vars(model)


def test_a_pass_that_does_not_reach_the_head_counts_nothing():
    model, waking = backbone(), Waking(["3.0", "3.2"])
    waking.begin_forward(model)
    out = model[:3](torch.ones(2, 12))
    waking.end_forward(model, out, torch.zeros(2, dtype=torch.long))
    assert not waking.has_seen_input
    assert np.isscalar(waking.kept_bytes)
