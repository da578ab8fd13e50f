"""In Avalanche an average of the weights, held by a plugin of the user's, sleeps with the model."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from models import N_CLASSES, N_INPUTS, changed, copies, mlp
from places import ROOT
from plugin_samples import QUICK, Watcher, benchmark, build, train
from src_plugin.plugin import SRCPlugin
from ways_script import avalanche


def ema_of_the_page():
    """Return the class that the page shows."""
    page = (ROOT / "docs" / "using.md").read_text("utf-8").split("### An average of the weights")[1]
    names = {}
    exec(compile(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], "docs/using.md", "exec"), names)
    return names["EMA"]()


@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
def test_the_average_of_the_page_sleeps_on_its_own_weights_wherever_its_plugin_stands(first):
    ema, trained, slept = ema_of_the_page(), [], []
    looks = Watcher(
        before_sleep=lambda s: trained.append(copies(ema.average.module)),
        after_sleep=lambda s: slept.append(copies(ema.average.module)),
    )
    plugin = SRCPlugin(QUICK)
    strategy = build(*((ema, plugin) if first else (plugin, ema)), train_epochs=10)
    strategy.plugins.append(looks)
    train(strategy)
    assert all(not torch.equal(a["0.weight"], b["0.weight"]) for a, b in zip(trained, slept, strict=True))
    assert changed(ema.average.module, copies(strategy.model)) != []  # not the model's
    assert changed(ema.average.module, slept[-1]) == []
    twin = build(SRCPlugin(QUICK), train_epochs=10)
    assert changed(strategy.model, copies(train(twin).model)) == []  # the model itself sleeps as ever


def test_an_average_that_equals_the_model_gets_its_slept_weights():
    holder = Watcher(after_training_epoch=lambda s: setattr(holder, "average", AveragedModel(s.model)))
    strategy = train(build(SRCPlugin(QUICK), holder, train_epochs=5))
    assert changed(strategy.model, copies(holder.average.module)) == []


def test_an_average_of_another_network_is_named_and_left_alone():
    holder = Watcher()
    holder.average = AveragedModel(mlp(N_INPUTS, 8, N_CLASSES))
    state = copies(holder.average)
    with pytest.warns(UserWarning, match=r"the average of weights in Watcher\.average did not sleep: its .* has shape"):
        train(build(SRCPlugin(QUICK), holder))
    assert changed(holder.average, state) == []


def test_with_batch_norm_in_the_head_the_average_sleeps_as_well():
    model = nn.Sequential(nn.Linear(N_INPUTS, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, N_CLASSES))
    holder = Watcher(after_update=lambda s: holder.average.update_parameters(s.model))
    holder.average = AveragedModel(copy.deepcopy(model), use_buffers=True)
    before = []
    strategy = build(SRCPlugin(QUICK), holder, model=model, train_epochs=5)
    strategy.plugins.append(Watcher(before_sleep=lambda s: before.append(copies(holder.average.module))))
    strategy.train(benchmark().train_stream[0])
    assert "0.weight" in changed(holder.average.module, before[-1])
    assert all(value.isfinite().all() for value in holder.average.module.state_dict().values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No loggers specified:UserWarning")
def test_on_the_digits_the_average_is_within_a_point_of_the_model():
    cells = avalanche(3, 3)
    assert abs(cells["after EMA"] - cells["in memory"]) <= 1
    assert cells["in memory"] > 45
