"""What cannot be slept on is refused in the first forward pass."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import _len_torch_function_stack

from models import hooks, mlp
from src_plugin.errors import ConfigError, HeadNotFoundError, StimulusError
from src_plugin.waking.observer import Waking
from waking_samples import backbone, show


def test_negative_inputs_of_the_head_are_refused_in_the_first_pass_where_they_give_rates():
    model, waking = mlp(12, 4), Waking(needs_rates=True)
    with pytest.raises(StimulusError, match=r"negative at 12 of 12 inputs"):
        show(waking, model, -torch.ones(3, 12), torch.zeros(3, dtype=torch.long))
    assert hooks(model) == 0


def test_a_model_without_a_head_is_refused_in_the_first_pass_and_left_clean():
    model, waking = nn.Sequential(mlp(12, 4), nn.GELU()), Waking()
    stack = _len_torch_function_stack()
    with pytest.raises(HeadNotFoundError, match="GELU"):
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
def test_targets_that_are_no_class_numbers_any_more_keep_it_awake(targets):
    model, waking, pure = mlp(12, 4), Waking(), Waking(needs_classes=False)
    for one in (waking, pure):
        show(one, model, torch.rand(3, 12), torch.tensor([0, 1, 1]))
        show(one, model, torch.rand(3, 12), targets)
    assert "not class numbers" in waking.doubts()
    assert pure.doubts() == ""
    assert pure.ledger.classes().new is None


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
def test_a_pure_sleep_does_not_ask_what_targets_are(targets):
    waking = Waking(needs_classes=False)
    show(waking, mlp(12, 4), torch.ones(3, 12), targets)
    assert not waking.ledger.has_classes
    assert waking.ledger.new == set()


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
    assert waking.ledger.classes().new is None
    waking.forget(slept=True)
    assert waking.ledger.seen == set()


def test_a_pure_sleep_knows_class_numbers_where_they_are():
    waking = Waking(needs_classes=False)
    show(waking, mlp(12, 4), torch.ones(3, 12), torch.tensor([0, 2, 2]))
    assert waking.ledger.has_classes
    assert waking.ledger.new == {0, 2}


def test_a_pure_sleep_takes_whole_numbers_as_targets_of_a_regression():
    model, waking = mlp(12, 1), Waking(needs_classes=False)
    for _ in range(2):
        waking.begin_forward(model)
        waking.end_forward(model, model(torch.ones(3, 12)).squeeze(1), torch.tensor([10, 20, 30]))
        waking.forget(slept=True)


def test_a_head_with_other_inputs_than_before_has_no_common_mean():
    waking = Waking()
    y = torch.zeros(3, dtype=torch.long)
    show(waking, mlp(12, 4), torch.rand(3, 12), y)
    waking.forget(slept=True)
    mean = waking.mean_input()
    for _ in range(2):
        show(waking, mlp(6, 4), torch.rand(3, 6), y)
    assert re.match(r"the head has 6 inputs now and had 12.*head='classifier'", waking.doubts())
    waking.forget(slept=True)
    assert np.array_equal(waking.mean_input(), mean)


def test_a_head_that_has_other_inputs_in_the_middle_of_an_experience_is_in_doubt():
    model, waking = nn.Sequential(mlp(12, 4)), Waking()
    y = torch.zeros(3, dtype=torch.long)
    show(waking, model, torch.rand(3, 12), y)
    assert waking.doubts() == ""
    model[0] = mlp(6, 4)
    show(waking, model, torch.rand(3, 6), y)
    assert re.match(r"the head has 6 inputs now and had 12.*head='classifier'", waking.doubts())
    assert "forward" not in vars(model)


def test_a_pass_that_does_not_reach_the_head_counts_nothing():
    model, waking = backbone(), Waking(["3.0", "3.2"])
    waking.begin_forward(model)
    out = model[:3](torch.ones(2, 12))
    waking.end_forward(model, out, torch.zeros(2, dtype=torch.long))
    assert not waking.has_seen_input
    assert np.isscalar(waking.kept_bytes)
