"""SRCPlugin among other plugins and in other strategies."""

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import SimpleMLP
from avalanche.training import (
    AGEM,
    DER,
    ER_ACE,
    ICaRL,
    Naive,
    SynapticIntelligence,
)
from avalanche.training.plugins import (
    CWRStarPlugin,
    EvaluationPlugin,
    EWCPlugin,
    GDumbPlugin,
    ReplayPlugin,
    SynapticIntelligencePlugin,
)
from torch import nn

from models import N_CLASSES, N_INPUTS
from plugin_samples import PURE, QUICK, NoLogger, Watcher, benchmark, build, decisions, network, own, train
from src_plugin.plugin import SRCPlugin


def order(strategy):
    return [type(plugin).__name__ for plugin in strategy.plugins]


def icarl(*plugins):
    model = SimpleMLP(num_classes=N_CLASSES, input_size=N_INPUTS, hidden_size=16, drop_rate=0.0)
    return ICaRL(
        feature_extractor=nn.Sequential(nn.Flatten(), model.features),
        classifier=model.classifier,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
        memory_size=20,
        buffer_transform=None,
        fixed_memory=True,
        train_mb_size=10,
        eval_mb_size=10,
        train_epochs=1,
        plugins=list(plugins),
        evaluator=EvaluationPlugin(loggers=[NoLogger()]),
    )


TAIL = ["EvaluationPlugin", "PeriodicEval", "Clock"]


@pytest.mark.parametrize("mine_first", [True, False])
def test_it_stands_before_ewc_whose_anchor_is_the_slept_network(mine_first):
    ewc, mine = EWCPlugin(ewc_lambda=1.0), SRCPlugin(QUICK)
    strategy = build(*([mine, ewc] if mine_first else [ewc, mine]))
    strategy.train(benchmark().train_stream[0])
    assert order(strategy) == ["SRCPlugin", "EWCPlugin", *TAIL]
    for name, p in strategy.model.named_parameters():
        assert torch.equal(ewc.saved_params[0][name].data, p)


@pytest.mark.parametrize("mine_first", [True, False])
def test_it_stands_behind_si_whose_account_must_not_contain_the_sleep(mine_first):
    si, mine = SynapticIntelligencePlugin(si_lambda=1.0), SRCPlugin(QUICK)
    strategy = build(*([mine, si] if mine_first else [si, mine]))
    train(strategy)
    assert order(strategy) == ["SynapticIntelligencePlugin", "SRCPlugin", *TAIL]


def test_the_wrapper_of_si_is_put_in_order_too():
    strategy = train(build(SRCPlugin(QUICK), method=SynapticIntelligence, si_lambda=1.0))
    assert order(strategy) == ["SynapticIntelligencePlugin", "SRCPlugin", *TAIL]


def test_it_stands_before_icarl():
    strategy = icarl(SRCPlugin(PURE))
    own(strategy).before_training(strategy)
    assert order(strategy) == ["SRCPlugin", "_ICaRLPlugin", "ICaRLLossPlugin", *TAIL]


def test_icarl_sleeps():
    strategy = train(icarl(SRCPlugin(PURE)))
    assert decisions(own(strategy)) == ["slept", "slept"]


def test_er_ace_sleeps(nights):
    train(build(SRCPlugin(PURE), method=ER_ACE, mem_size=20, batch_size_mem=5))
    assert len(nights) == 2


@pytest.mark.parametrize(
    ("method", "settings"),
    [(DER, {"mem_size": 20, "batch_size_mem": 5}), (AGEM, {"patterns_per_exp": 10, "sample_size": 10})],
)
def test_other_methods_with_forward_passes_of_their_own_sleep(method, settings):
    strategy = train(build(SRCPlugin(PURE), method=method, **settings))
    assert decisions(own(strategy)) == ["slept", "slept"]


def test_the_callers_list_is_not_touched():
    plugins = [EWCPlugin(ewc_lambda=1.0), SRCPlugin(QUICK)]
    given = list(plugins)
    torch.manual_seed(0)
    model = network()
    strategy = Naive(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), criterion=nn.CrossEntropyLoss(),
        train_mb_size=10, plugins=plugins, evaluator=EvaluationPlugin(loggers=[NoLogger()]),
    )  # fmt: skip
    strategy.train(benchmark().train_stream[0])
    assert plugins == given


def test_every_plugin_is_called_once_although_the_list_is_put_in_order():
    calls = []
    watchers = [Watcher(before_training=lambda s, k=k: calls.append(k)) for k in range(3)]
    build(*watchers[:2], SRCPlugin(QUICK), watchers[2], train_epochs=1).train(benchmark().train_stream[0])
    assert calls == [0, 1, 2]


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (lambda: GDumbPlugin(mem_size=20), "GDumb begins every experience with its first weights again"),
        (lambda: CWRStarPlugin(network(), cwr_layer_name=None, freeze_remaining_model=False), "CWR.* saved itself"),
    ],
    ids=["gdumb", "cwr*"],
)
def test_methods_that_undo_a_sleep_are_told_so_once(plugin, message):
    strategy = build(SRCPlugin(QUICK), plugin(), train_epochs=1)
    mine = own(strategy)
    with pytest.warns(UserWarning, match=f"{message}.*nothing of it stays"):
        mine.before_training(strategy)
    mine.before_training(strategy)  # a second warning would be an error


def test_methods_that_keep_a_sleep_are_not(recwarn):
    strategy = build(SRCPlugin(QUICK), EWCPlugin(ewc_lambda=1.0), ReplayPlugin(mem_size=20), train_epochs=1)
    own(strategy).before_training(strategy)
    assert not recwarn.list


class Projecting(SupervisedPlugin):
    protects_old_inputs = True


@pytest.mark.parametrize(
    ("config", "plugin", "has_slept"),
    [(QUICK, Projecting(), False), (QUICK, SupervisedPlugin(), True), (PURE, Projecting(), True)],
    ids=["protected", "not protected", "pure"],
)
def test_where_a_plugin_protects_old_inputs_the_sleep_itself_is_left_out(config, plugin, has_slept):
    mine = SRCPlugin(config)
    train(build(mine, plugin, train_epochs=5))
    assert all((report.engine is not None) == has_slept for report in mine.reports)
    assert ("Projecting protects" in mine.reports[-1].reason) == (not has_slept)
