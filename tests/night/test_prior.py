"""The share of noise that each class is to win: that of its images, if their numbers are known."""

import numpy as np
import pytest
import torch

from models import copies, same_bits
from sleep_samples import NEW, OLD, QUICK, night, trained
from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError
from src_plugin.night.arguments import prior_of


def test_each_class_has_the_share_of_its_images():
    # 60 + 30 + 10 = 100; what was counted of classes that are not among them does not matter.
    assert prior_of({0: 60, 5: 10, 2: 30, 7: 900}, (0, 2, 5)) == pytest.approx((0.6, 0.3, 0.1))
    assert prior_of({3: 7}, (3,)) == (1.0,)


def test_without_counts_all_classes_have_the_same():
    assert prior_of(None, (1, 4, 5, 9)) == (0.25, 0.25, 0.25, 0.25)


COUNTS = {
    "a list, by position": [1, 1, 2],
    "numbers of numpy": {0: np.int64(1), 1: np.float32(1), 2: np.int8(2)},
    "tensors": {c: torch.tensor(n) for c, n in enumerate((1, 1, 2))},
    "shares": {0: 0.25, 1: 0.25, 2: 0.5},
}


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_counts_may_be_any_numbers_by_class(counts):
    assert prior_of(counts, (0, 1, 2)) == pytest.approx((0.25, 0.25, 0.5))


REFUSED = {
    "a class is missing": {0: 5, 1: 5},
    "a class without images": {0: 5, 1: 5, 2: 0},
    "a negative number": {0: 5, 1: 5, 2: -1},
    "not a number": {0: 5, 1: 5, 2: "many"},
    "none": {0: 5, 1: 5, 2: None},
    "NaN": {0: 5, 1: 5, 2: float("nan")},
    "infinite": {0: 5, 1: 5, 2: float("inf")},
    "nothing": {},
    "too short a list": [5, 5],
    "a number": 15,
}


@pytest.mark.parametrize("counts", REFUSED.values(), ids=REFUSED)
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(ConfigError, match=r"class_counts=.*: give the number of images, above 0, .*\[0, 1, 2\]"):
        prior_of(counts, (0, 1, 2))


# -- in a sleep --------------------------------------------------------------------------------------------------------


def test_a_night_gives_each_class_the_share_of_its_images():
    # 10 + 20 of old classes and 6 + 4 of new ones: a quarter.
    counts = {0: 10, 1: 20, 2: 6, 3: 4}
    report = night(*trained(), class_counts=counts)
    assert report.expected_share == pytest.approx(0.25)
    assert report.share_settled == pytest.approx(0.25, abs=0.02)
    assert report.share_levelled == pytest.approx(0.25, abs=0.1)  # shares of a softmax, told by 128 vectors
    assert "(their share: 25%)" in str(report)


@pytest.mark.parametrize(
    ("config", "counts"),
    [(QUICK, None), (SleepConfig(prior="equal"), {0: 10, 1: 20, 2: 6, 3: 4})],
    ids=["no counts", "equal"],
)
def test_without_counts_or_by_choice_new_classes_have_the_share_of_their_number(config, counts):
    assert night(*trained(), config, class_counts=counts).expected_share == 0.5


def test_equal_counts_are_as_none():
    models = []
    for counts in (None, dict.fromkeys(OLD + NEW, 17)):
        model, before = trained()
        night(model, before, class_counts=counts)
        models.append(copies(model))
    assert all(same_bits(models[0][name], models[1][name]) for name in models[0])


def test_counts_that_do_not_fit_leave_every_bit():
    model, before = trained()
    state = copies(model)
    with pytest.raises(ConfigError, match="class_counts"):
        night(model, before, class_counts={0: 10, 1: 20})
    assert all(same_bits(state[name], now) for name, now in model.state_dict().items())


def test_a_pure_sleep_does_not_ask_for_counts():
    pure = SleepConfig(settle=False, level=False)
    assert night(*trained(), pure, class_counts={0: 10}).decision == "slept"
