"""What a refusal advises is done, on the network that was refused, and then it sleeps."""

import re

import pytest
import torch
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from network_samples import HIDDEN, KINDS, Net, frozen, stream
from plugin_samples import NoLogger
from src_plugin.errors import HeadNotFoundError
from src_plugin.plugin import SRCPlugin

pytestmark = pytest.mark.filterwarnings("ignore:SRCPlugin. [12] parameters below the head were trained")


def two():
    return nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))


def sleeps(model, config=None, *, scores=lambda output: output, **settings):
    """Train on two experiences with the plugin, and return its reports."""
    plugin = SRCPlugin(config, **settings)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.Adam([p for p in model.parameters() if p.requires_grad]),
        criterion=lambda output, y: nn.functional.cross_entropy(scores(output), y),
        train_mb_size=32,
        plugins=[plugin],
        evaluator=EvaluationPlugin(loggers=[NoLogger()]),
    )
    for experience in stream()[:2]:
        strategy.train(experience)
    return plugin.reports


def refusal(model, config=None, **settings):
    with pytest.raises(HeadNotFoundError) as caught:
        sleeps(model, config, **settings)
    return str(caught.value)


def parametrized(wrap):
    model = two()
    wrap(model[2])
    return model


def remove_weight(model):
    layer = model[2]
    torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")


def doubled(layer):
    parametrize.register_parametrization(layer, "bias", nn.Identity(), unsafe=True)


def untie(model):
    model[4].weight = nn.Parameter(model[4].weight.detach().clone())


CURES = {
    # the refused network, what the refusal says, and what it advises
    "orthogonal weights": (
        lambda: parametrized(parametrizations.orthogonal), r"remove_parametrizations\(layer, 'weight'\)", remove_weight,
    ),
    "spectral norm": (
        lambda: parametrized(parametrizations.spectral_norm), r"remove_parametrizations\(layer, 'weight'\)",
        remove_weight,
    ),
    "a computed bias": (
        lambda: parametrized(doubled), r"remove_parametrizations\(layer, 'bias'\)",
        lambda model: parametrize.remove_parametrizations(model[2], "bias"),
    ),
    "pruned": (
        lambda: parametrized(lambda layer: prune.random_unstructured(layer, "weight", 0.2)),
        r"prune\.remove\(layer, 'weight'\)", lambda model: prune.remove(model[2], "weight"),
    ),
    "the old spectral norm": (
        lambda: parametrized(torch.nn.utils.spectral_norm), "Remove that before training",
        lambda model: torch.nn.utils.remove_spectral_norm(model[2]),
    ),
    "tied weights": (KINDS["tied weights"].build, "Untie them", untie),
    "a frozen bias": (
        lambda: parametrized(lambda layer: layer.bias.requires_grad_(False)), "Freeze both, or none",
        lambda model: model[2].bias.requires_grad_(True),
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*spectral_norm.* is deprecated")
@pytest.mark.parametrize(("build", "match", "cure"), CURES.values(), ids=CURES)
def test_what_is_advised_for_a_layer_lets_it_sleep(build, match, cure):
    model = build()
    assert re.search(match, refusal(model))
    cure(model)
    assert sleeps(model)[0].decision == "slept"


@pytest.mark.parametrize("names", [("2",), ("0", "2")], ids=["the last layer", "the whole model"])
def test_the_line_of_code_that_unfreezes_is_run_as_it_stands(names):
    model = frozen(two(), *names)
    whole = nn.Sequential(model, Temperature())
    line = re.search(r"is frozen .* before: (model\..*\(True\))", refusal(whole)).group(1)
    exec(line, {"model": whole})
    assert sleeps(whole)[0].layers[-1] == "0.2"


class Temperature(nn.Module):
    """Divides by a number that is learnt, so that something is trained where the layers are frozen."""

    def __init__(self):
        super().__init__()
        self.t = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x / self.t.exp()


NO_LAYER = ["a cosine head", "a bilinear head"]


@pytest.mark.parametrize("name", NO_LAYER)
def test_where_no_layer_makes_the_scores_only_a_pure_sleep_is_advised_and_works(name):
    build = KINDS[name].build
    advice = "Only pure SRC applies, with layers that are named: SRCPlugin('src_only', head=['fc1'])"
    assert advice in refusal(build())
    assert [report.decision for report in sleeps(build(), "src_only", head=["fc1"])] == ["slept", "slept"]


@pytest.mark.parametrize("name", NO_LAYER)
def test_a_hidden_layer_is_not_levelled_as_if_its_units_were_classes(name):
    said = refusal(KINDS[name].build(), head="fc1")
    assert re.search(r"the head ends in 'fc1', but .* makes the scores of the classes.*Only pure SRC applies", said)


def test_a_network_without_any_linear_layer_is_to_be_left_alone():
    assert "Leave SRC out" in refusal(KINDS["a recurrent network"].build())


def test_a_named_head_chooses_between_two_answers_and_so_does_the_name_logits():
    kind = KINDS["two answers"]
    said = refusal(kind.build(), scores=kind.scores)
    assert all(word in said for word in ("Name the right one 'logits'", "return it alone", "head='classifier'"))
    assert sleeps(kind.build(), scores=kind.scores, head=["fc1", "fc2"])[0].layers == ["fc1", "fc2"]

    def named(m, x):
        h = m.fc1(x).relu()
        return {"logits": m.fc2(h), "other": m.aux(h)}

    model = Net(named, aux=nn.Linear(HIDDEN, 10))
    assert sleeps(model, scores=lambda output: output["logits"])[0].layers == ["fc1", "fc2"]
    assert sleeps(Net(lambda m, x: m.fc2(m.fc1(x).relu())))[0].layers == ["fc1", "fc2"]


def test_what_does_not_keep_the_order_is_applied_outside_of_the_model():
    assert "Apply it outside of the model" in refusal(nn.Sequential(two(), nn.GELU()))
    assert sleeps(two(), scores=nn.GELU())[0].decision == "slept"


def test_what_is_not_known_to_keep_the_order_is_applied_outside_or_left_to_a_pure_sleep():
    class Sine(nn.Module):
        def forward(self, x):
            return x.sin()

    said = refusal(nn.Sequential(two(), Sine()))
    assert "apply it outside of the model" in said
    assert sleeps(two(), scores=torch.sin)[0].decision == "slept"
    line = re.search(r"(SRCPlugin\('src_only', head=.*\]\))", said).group(1)
    named = eval(line, {"SRCPlugin": lambda config, head: head})
    assert sleeps(nn.Sequential(two(), Sine()), "src_only", head=named)[0].decision == "slept"


def test_a_model_without_values_is_loaded_first():
    model, trained = two().to("meta"), two()
    with pytest.raises(HeadNotFoundError, match=r"model\.to_empty\(device='cpu'\), then load_state_dict"):
        SRCPlugin()._waking._find(model, None)
    model.to_empty(device="cpu")
    model.load_state_dict(trained.state_dict())
    assert sleeps(model)[0].decision == "slept"


def test_a_model_of_inference_mode_is_made_outside_of_it():
    with torch.inference_mode():
        model = two()
    with pytest.raises(HeadNotFoundError, match="Make the model outside of it"):
        SRCPlugin()._waking._find(model, None)
    assert sleeps(two())[0].decision == "slept"


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
def test_a_scripted_model_is_trained_plain_and_scripted_afterwards():
    assert "Train the plain module, and script it afterwards" in refusal(torch.jit.script(two()))
    model = two()
    assert sleeps(model)[0].decision == "slept"
    assert torch.jit.script(model)(torch.zeros(1, 64)).shape == (1, 10)
