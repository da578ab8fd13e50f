"""Bad input of every kind, in a loop and in Avalanche: a sentence that says what is wrong, and nothing changes."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from loop_samples import batches
from models import changed, copies, mlp
from network_samples import KINDS, stream
from plugin_samples import NoLogger
from src_plugin import SRC, SRCPlugin
from src_plugin.errors import HeadNotFoundError, StimulusError


class Sine(nn.Module):
    def forward(self, x):
        return x.sin()


def of_inference_mode():
    with torch.inference_mode():
        return mlp(64, 16, 10)


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(mlp(64, 16, 10))


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.first, self.second = nn.Linear(64, 16), nn.Linear(16, 10), nn.Linear(16, 10)

    def forward(self, x):
        h = self.hidden(x).relu()
        return {"first": self.first(h), "second": self.second(h)}


def squared(scores, y):
    return F.mse_loss(scores, y.float())


def plain(scores, y):
    return F.cross_entropy(scores, y)


MODELS = {
    # the model, its loss, and what is said in the first batch
    "a tail that is not monotone": (
        lambda: nn.Sequential(*mlp(64, 16, 10), Sine()), plain,
        "may not keep the order .* apply it outside of the model",
    ),
    "a tail that is another for each class": (
        lambda: nn.Sequential(*mlp(64, 16, 10), nn.LayerNorm(10)), plain, "another for each class",
    ),
    "no dimension of classes": (
        KINDS["no classes"].build, squared, "no dimension of classes",
    ),
    "a dictionary with two candidates": (
        Dictionary, lambda scores, y: plain(scores["first"], y), r"at output\['first'\], output\['second'\].*'logits'",
    ),
    "parameters on the meta device": (lambda: mlp(64, 16, 10).to("meta"), plain, "on the meta device.*Load the model"),
    "a scripted model": (scripted, plain, "shows none of its layers. Train the plain module"),
    "a model of inference mode": (of_inference_mode, plain, r"torch.inference_mode\(\).*Make the model outside of it"),
}  # fmt: skip


def through_a_loop(model, loss, change=lambda x, i: x, steps=True):
    src = SRC(model)
    device = next(model.parameters()).device
    parameters = [p for p in model.parameters() if not p.is_inference()]
    optimizer = torch.optim.SGD(parameters, lr=0.01) if parameters else None
    with src.task([0, 1] if loss is squared else None):
        for i, (x, y) in enumerate(batches((0, 1))[0]):
            value = loss(model(change(x, i).to(device).requires_grad_(not parameters)), y.to(device))
            value.backward()
            if optimizer and steps:
                optimizer.step()
    return src.reports


def through_avalanche(model, loss, change=lambda x, i: x, steps=True):
    plugin = SRCPlugin()
    criterion = loss if steps else lambda scores, y: torch.zeros((), requires_grad=True)
    parameters = [p for p in model.parameters() if not p.is_inference()]
    strategy = Naive(
        model=model, optimizer=torch.optim.SGD(parameters or [nn.Parameter(torch.ones(1))], lr=0.01),
        criterion=criterion, train_mb_size=16, plugins=[plugin, Changes(change)],
        evaluator=EvaluationPlugin(loggers=[NoLogger()]),
    )  # fmt: skip
    strategy.train(stream()[0])
    return plugin.reports


class Changes:
    """A plugin of Avalanche's that changes the inputs of a batch, by its number."""

    def __init__(self, change):
        self.change = change

    def before_training_iteration(self, strategy, **kwargs):
        strategy.mbatch[0] = self.change(strategy.mbatch[0], strategy.clock.train_exp_iterations)


WAYS = {"a loop": through_a_loop, "Avalanche": through_avalanche}
ways = pytest.mark.parametrize("learn", WAYS.values(), ids=WAYS)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
@ways
@pytest.mark.parametrize(("build", "loss", "said"), MODELS.values(), ids=MODELS)
def test_a_model_that_cannot_sleep_is_refused_in_its_first_batch(learn, build, loss, said):
    model = build()
    is_meta = next(model.parameters()).device.type == "meta"
    if is_meta and learn is through_avalanche:
        pytest.skip("Avalanche cannot move such a model itself, and says so before any batch")
    state = {} if is_meta else copies(model)
    with pytest.raises(HeadNotFoundError, match=said):
        learn(model, loss)
    assert is_meta or changed(model, state) == []


def at(number, change):
    return lambda x, i: change(x) if i == number else x


INPUTS = {
    # what happens to a batch, and why it stays awake
    "constant": (lambda x, i: torch.ones_like(x), "inputs of the head are the same, so nothing tells classes apart"),
    "growing without bound": (lambda x, i: x * 10.0**i, r"\d+ times larger at the end of the experience"),
    "NaN in one batch": (at(3, lambda x: x * float("nan")), r"mean_input is nan at input 0 .*look for NaN"),
    "infinite in one batch": (at(3, lambda x: x + float("inf")), "mean_input is inf at input 0 .*infinite values"),
}  # fmt: skip


@ways
@pytest.mark.parametrize(("change", "why"), INPUTS.values(), ids=INPUTS)
def test_inputs_that_nothing_can_be_slept_on_are_a_night_awake_with_its_reason(learn, change, why):
    model = mlp(64, 16, 10)
    state = copies(model)
    with pytest.warns(UserWarning, match=f"no sleep after this experience: .*{why}"):
        (report,) = learn(model, plain, change, steps=False)
    assert report.decision == "awake"
    assert changed(model, state) == []


FIRST = {
    "NaN from the first batch on": (lambda x, i: x * float("nan"), "mean_input is nan at input 0"),
    "nothing but 0": (lambda x, i: x * 0.0, "0 everywhere"),
}


@ways
@pytest.mark.parametrize(("change", "said"), FIRST.values(), ids=FIRST)
def test_what_the_first_batch_shows_is_refused_then(learn, change, said):
    model = mlp(64, 16, 10)
    state = copies(model)
    with pytest.raises(StimulusError, match=said):
        learn(model, plain, change)
    assert changed(model, state) == []
