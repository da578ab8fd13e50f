"""With a mean of each class the output layer is fitted on labelled noise, at the end of a night."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from models import mlp, same_bits
from src_plugin import SRC
from src_plugin.config import Constants, Gates, SleepConfig
from src_plugin.head.find import find_head
from src_plugin.head.probe import Probe
from src_plugin.night import stages
from src_plugin.night.labelled import draw_labelled
from src_plugin.night.refit import refit
from src_plugin.report import ClosedFormReport
from src_plugin.waking.class_means import ClassMeans
from src_plugin.waking.observer import Waking

KEPT = SleepConfig(keep="class_means")
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))


def rng():
    return np.random.default_rng(0)


# -- the means ---------------------------------------------------------------------------------------------------------


def test_a_class_that_comes_back_goes_on_with_its_mean():
    means = ClassMeans()
    means.note(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]), n_classes=2)
    means.note(torch.tensor([[8.0], [5.0]]), torch.tensor([0, 2]), n_classes=3)  # the head has grown
    assert {c: mean.tolist() for c, mean in means.mapping().items()} == {0: [4.0], 2: [5.0]}
    assert means.nbytes == 2 * (4 + 4)
    again = ClassMeans()
    again.load_state_dict(means.state_dict())
    assert again.mapping() == means.mapping()


def test_of_an_experience_in_doubt_no_mean_stays_and_a_state_is_no_view():
    model, waking = mlp(4, 5, 3), Waking(class_means=True)
    means, states = [], []
    for x, y in ((torch.rand(8, 4), 0), (torch.full((8, 4), torch.nan), 1), (torch.rand(8, 4), 2)):
        for batch in (torch.rand(8, 4), x) if y else (x,):
            waking.begin_forward(model)
            waking.end_forward(model, model(batch), torch.full((8,), y))
        waking.forget(slept=True)
        means.append(waking._class_means.mapping())
        states.append(waking.state_dict()["class_means"])
    assert [sorted(known) for known in means] == [[0], [0], [0, 2]]
    assert all(torch.isfinite(mean).all() for mean in means[2].values())
    again = ClassMeans()
    again.load_state_dict(states[0])
    assert sorted(again.mapping()) == [0]


# -- labelled noise ----------------------------------------------------------------------------------------------------


def test_labelled_noise_has_the_mean_of_its_class_and_the_spread_of_current_inputs():
    g = torch.Generator().manual_seed(0)
    current = torch.randn(300, 3, generator=g) * torch.tensor([0.1, 0.2, 0.0]) + 5.0
    labels = torch.arange(300) % 2
    current[labels == 1] += 1.0  # apart by ten deviations: of no account within classes
    means = {0: torch.tensor([5.0, 5.0, 5.0]), 7: torch.tensor([3.0, 0.0, 4.0])}
    constants = Constants(class_vectors=4000, class_spread=2.0)
    drawn, classes = draw_labelled(means, (current, labels), generator=rng(), lowest=np.zeros(3), constants=constants)
    assert classes.tolist() == [0] * 4000 + [7] * 4000
    for c, mean in means.items():
        torch.testing.assert_close(drawn[classes == c].mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(drawn[:4000].std(0), torch.tensor([0.2, 0.4, 0.0]), atol=0.02, rtol=0)
    assert float(drawn.min()) >= 0.0


def test_a_class_of_one_example_tells_of_no_spread():
    means = {0: torch.tensor([0.5, 0.5]), 1: torch.tensor([0.2, 0.9])}
    drawn, _ = draw_labelled(
        means, (torch.tensor([[0.2, 0.9]]), torch.tensor([1])), generator=rng(), lowest=np.zeros(2)
    )
    assert torch.isfinite(drawn).all()
    torch.testing.assert_close(drawn[:32], means[0].expand(32, 2), atol=1e-5, rtol=0)


# -- the refit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_refitting_separates_labelled_noise_and_touches_rows_of_seen_classes_only(bias):
    head = find_head(mlp(4, 4, bias=bias), head="")
    state = head.read()
    vectors, labels = torch.eye(4).repeat(5, 1)[:, [0, 2, 1, 3]], torch.arange(4).repeat(5)
    rows = labels < 3
    noise, labels = Probe(head, vectors[rows]), labels[rows]
    fitted = refit(noise, labels, state, seen=(0, 1, 2), prior=[1 / 3] * 3)
    assert (noise.logits(fitted)[:, :3].argmax(1) == labels).all()
    assert same_bits(fitted.weights[0][3:], state.weights[0][3:])
    held = refit(noise, labels, state, seen=(0, 1, 2), prior=[1 / 3] * 3, constants=Constants(refit_strength=1e6))
    torch.testing.assert_close(held.weights[0], state.weights[0], atol=1e-3, rtol=0)


def test_of_the_night_with_and_without_its_sleep_the_one_is_kept_that_tells_labelled_noise_apart(monkeypatch):
    _, src = learn(KEPT, hidden=(64, 64), pairs=PAIRS[:2])
    assert src.report.sleep is not None
    assert "replay" not in src.report.skipped

    def destroy(evening, generator):
        silent = [torch.zeros_like(w) for w in evening.trained.weights[:-1]]
        state = evening.trained.with_weights([*silent, evening.trained.weights[-1]])
        return state, ClosedFormReport("closed_form", 0.25, [1.0], [1.0]), {}

    monkeypatch.setattr(stages, "_sleep", destroy)
    _, src = learn(KEPT, hidden=(64, 64), pairs=PAIRS[:2])
    assert src.report.sleep is None
    assert src.report.skipped["replay"] == stages.BETTER_WITHOUT


# -- the workflow ------------------------------------------------------------------------------------------------------


def learn(config, *, hidden=(64,), pairs=PAIRS, classes=None):
    """Digits, two at a time, in a plain loop; test accuracy, and the object that slept."""
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    train = torch.arange(len(x)) % 4 > 0
    torch.manual_seed(0)
    sizes = [64, *hidden]
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))
    optimizer, src = torch.optim.SGD(model.parameters(), lr=0.1), SRC(model, config)
    for pair in pairs:
        own = (train & torch.isin(y, torch.tensor(pair))).nonzero()[:, 0]
        with src.task(None if classes is None else pair):
            for _ in range(6):
                for rows in own[torch.randperm(len(own))].split(16):
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
                    optimizer.step()
    with torch.no_grad():
        return float((model(x[~train]).argmax(1) == y[~train]).float().mean()), src


@pytest.mark.parametrize("hidden", [(64, 64), ()], ids=["hidden layers", "one layer"])
def test_class_means_do_more_than_the_mean_alone(hidden):
    alone, _ = learn(SleepConfig(), hidden=hidden)
    kept, src = learn(KEPT, hidden=hidden)
    assert kept > alone + 0.03
    assert src.report.refit_after > src.report.refit_before
    assert "refit   on 320 noise vectors around class means" in str(src.report)
    assert src.report.skipped.get("refit") is None


def test_the_refit_is_also_there_without_any_other_stage():
    config = SleepConfig(sleep=None, settle=False, level=False, keep="class_means")
    alone, _ = learn(SleepConfig(sleep=None, settle=False, level=False), pairs=PAIRS[:2])
    kept, src = learn(config, pairs=PAIRS[:2])
    assert kept > alone + 0.05
    assert (src.report.sleep, src.report.settle, src.report.level) == (None, None, None)


def test_a_first_night_has_nothing_to_refit_and_without_targets_the_report_says_so():
    _, src = learn(KEPT, pairs=PAIRS[:1])
    assert src.report.refit is None
    _, src = learn(replace_gates(KEPT), pairs=PAIRS[:2], classes=True)
    assert src.report.refit is None
    assert src.report.skipped["refit"].startswith("there is no mean of every class")


def replace_gates(config):
    return SleepConfig(keep=config.keep, gates=Gates(balance=False))


def test_means_are_counted_in_the_bytes_and_saved_in_the_state():
    x, y = torch.rand(8, 4), torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])
    model = mlp(4, 5, 3)
    found = []
    for class_means in (False, True):
        waking = Waking(class_means=class_means)
        waking.begin_forward(model)
        waking.end_forward(model, model(x), y)
        waking.forget(slept=True)
        found.append(waking)
    plain, kept = found
    assert kept.kept_bytes - plain.kept_bytes == 3 * (4 * 4 + 4)
    again = Waking(class_means=True)
    again.load_state_dict(copy.deepcopy(kept.state_dict()))
    assert again.kept_bytes == kept.kept_bytes
