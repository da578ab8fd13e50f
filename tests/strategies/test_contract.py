"""What every row of STRATEGIES promises; a new row is tested by being added."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import combinations
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin

from benchmarks.runs.checkpoint import pack, unpack
from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError
from src_plugin.plugin import SRCPlugin
from strategies import STRATEGIES, SUFFIXES, Settings, build_strategy, find_row, sleep_of
from strategies.prediction import answering_network
from strategy_samples import (
    N_CLASSES,
    Points,
    accuracy,
    answers,
    equal,
    experiences,
    learnt,
    results,
    setup,
    train,
    weights,
)

pytestmark = pytest.mark.filterwarnings("ignore:SRCPlugin. GDumb begins every experience:UserWarning")

SLEEPERS = [name for name, row in STRATEGIES.items() if row.sleeps]


@pytest.mark.parametrize("name", STRATEGIES)
def test_learns_what_it_is_shown(name: str) -> None:
    strategy = next(train(name, setup()))
    shown = set(range(N_CLASSES)) if STRATEGIES[name].at_once else {0, 1}
    assert accuracy(strategy, shown) > 0.9


@pytest.mark.parametrize("name", STRATEGIES)
def test_one_network_answers_as_the_strategy_does(name: str) -> None:
    *_, strategy = train(name, setup())
    with torch.no_grad():
        found = answering_network(strategy).eval()(Points(20, 1).tensors[0])
    torch.testing.assert_close(found.softmax(dim=1), answers(strategy)[0].softmax(dim=1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", STRATEGIES)
def test_learns_every_experience(name: str) -> None:
    for k, strategy in enumerate(train(name, setup())):
        if not STRATEGIES[name].at_once:
            assert accuracy(strategy, {2 * k, 2 * k + 1}) > 0.6


@pytest.mark.parametrize("name", [*STRATEGIES, *(name + end for name in SLEEPERS for end in SUFFIXES)])
def test_same_seed_same_result_other_seed_another(name: str) -> None:
    first = learnt(name, setup(seed=1))
    assert equal(learnt(name, setup(seed=1)), first)
    assert equal(learnt(name, setup(seed=2)), first) == find_row(name)[0].is_deterministic


@pytest.mark.parametrize("name", [name for name, row in STRATEGIES.items() if name != "naive" and not row.at_once])
def test_each_does_something_that_plain_fine_tuning_does_not(name: str) -> None:
    *_, own = train(name, given := setup())
    *_, naive = train("naive", setup())
    if equal(list(given.model.parameters()), list(setup().model.parameters())):  # it trains no network
        assert not torch.equal(*(answers(strategy)[0].argmax(1) for strategy in (own, naive)))
    else:
        assert not equal(list(own.model.parameters()), list(naive.model.parameters()))


@pytest.mark.parametrize(
    "name", [name for name in [*STRATEGIES, *(f"{n}+src" for n in SLEEPERS)] if name[:5] != "joint"]
)
def test_goes_on_from_a_checkpoint_to_the_same_result(name: str) -> None:
    first, second = experiences(at_once=False)
    strategy = build_strategy(name, setup())
    strategy.train(first)
    packed = pack(strategy, shared={})
    strategy.train(second)
    again = unpack(packed, shared={})  # the generators go back with it
    again.train(second)
    assert equal(results(again), results(strategy))
    assert [p.kept_bytes for p in again.plugins if hasattr(p, "kept_bytes")] == [
        p.kept_bytes for p in strategy.plugins if hasattr(p, "kept_bytes")
    ]


@pytest.mark.parametrize("name", [*STRATEGIES, *(name + end for name in SLEEPERS for end in SUFFIXES)])
def test_the_callers_plugins_are_used_and_their_list_is_left_alone(name: str) -> None:
    class Counter(SupervisedPlugin):  # type: ignore[misc]
        seen = 0

        def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            self.seen += 1

    counter = Counter()
    plugins = [counter]
    assert len(list(train(name, setup(plugins=plugins)))) == counter.seen
    assert plugins == [counter]


@pytest.mark.parametrize("name", SLEEPERS)
def test_sleep_is_added_by_its_suffix(name: str) -> None:
    strategy = build_strategy(f"{name}+src", setup())
    assert [type(plugin).__name__ for plugin in strategy.plugins].count("SRCPlugin") == 1
    assert "SRCPlugin" not in [type(plugin).__name__ for plugin in build_strategy(name, setup()).plugins]


@pytest.mark.parametrize("name", SLEEPERS)
def test_no_sleep_steps_means_the_very_same_weights_and_answers(name: str) -> None:
    assert equal(learnt(f"{name}+src", setup(sleep=SleepConfig.preset("simulated", steps=0))), learnt(name, setup()))


@pytest.mark.parametrize("name", SLEEPERS)
def test_a_plugin_with_every_stage_off_means_the_very_same_weights_and_answers(name: str) -> None:
    off = SleepConfig.preset("auto", replay=False, settle=False, level=False)
    assert equal(learnt(name, setup(plugins=[SRCPlugin(off, seed=0)])), learnt(name, setup()))
    with pytest.raises(ConfigError, match="nothing is left of it"):  # by its suffix it would be the same run again
        build_strategy(f"{name}+src", setup(sleep=off))


def test_every_way_of_sleeping_changes_weights_in_its_own_way() -> None:
    trained = {end: weights(f"naive{end}", setup()) for end in ("", *SUFFIXES)}
    for a, b in combinations(trained, 2):
        assert not equal(trained[a], trained[b]), (a, b)


def test_suffixes_leave_out_what_they_say_and_nothing_else() -> None:
    given = {"depression": (0.2, 0.1, 0.0), "depth": 0.4}
    assert sleep_of("naive+settle", SleepConfig.preset("auto", **given)) == SleepConfig.preset(
        "auto", **given, replay=False
    )
    assert sleep_of("naive+level", SleepConfig.preset("auto", **given)) == SleepConfig.preset(
        "auto", **given, replay=False, settle=False
    )
    assert sleep_of("naive+src", SleepConfig.preset("auto", **given)) == SleepConfig.preset("auto", **given)
    assert sleep_of("naive+simulated", SleepConfig.preset("auto", **given)) == SleepConfig.preset(
        "auto", **given, engine="simulated"
    )
    before = {"engine": "simulated", "input_share": 1.0, "noise": "binary", "prior": "equal"}
    assert sleep_of("naive+before", SleepConfig.preset("auto", **given)) == SleepConfig.preset(
        "auto", **given, **before
    )
    with pytest.raises(ConfigError, match="nothing is left of it; use a preset that does, such as auto"):
        build_strategy("naive+settle", setup(sleep="paper/patches"))


def test_averages_of_weights_are_those_of_all_experiences_so_far() -> None:
    # W1, then (W1 + W2) / 2, then (2 / 3) of that + W3 / 3: what training starts from is what averaging left.
    starts: list[list[torch.Tensor]] = []
    ends: list[list[torch.Tensor]] = []

    class Recorder(SupervisedPlugin):  # type: ignore[misc]
        def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            starts.append([p.detach().clone() for p in strategy.model.parameters()])

        def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:  # before the averaging: it comes last
            ends.append([p.detach().clone() for p in strategy.model.parameters()])

    last = weights("average", setup(plugins=[Recorder()]))
    for k, (start, end, after) in enumerate(zip(starts, ends, [*starts[1:], last], strict=True), start=1):
        torch.testing.assert_close(after, [a + (b - a) / k for a, b in zip(start, end, strict=True)])


def test_settings_of_the_sleep_arrive() -> None:
    def reference(strategy: Any) -> torch.Tensor:
        return Points(40, 0).tensors[0]

    config = SleepConfig(prior="equal")
    strategy = build_strategy("naive+src", setup(sleep=config, every=2, reference=reference))
    (plugin,) = (p for p in strategy.plugins if type(p).__name__ == "SRCPlugin")
    assert (plugin.config, plugin.every, plugin.reference) == (config, 2, reference)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("naiv", "did you mean 'naive'"),
        ("naive+scr", r"did you mean 'naive\+src'"),
        ("repaly+src", r"did you mean 'replay\+src'"),
        ("q+src", r"known before \+src: agem"),
        ("+src", "unknown strategy"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_strategy(name, setup())


def test_what_cannot_sleep_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "headless", replace(STRATEGIES["naive"], sleeps=False))
    find_row("headless")
    with pytest.raises(ConfigError, match="'headless' cannot be combined"):
        find_row("headless+src")


def test_rows_that_keep_images_of_earlier_experiences_are_those_that_rehearse() -> None:
    assert {name for name, row in STRATEGIES.items() if row.rehearses} == {
        name
        for name, row in STRATEGIES.items()
        if row.keeps.startswith(("exemplars", "all images")) and not row.at_once
    }


@pytest.mark.parametrize("row", STRATEGIES.values(), ids=STRATEGIES)
def test_every_row_says_where_it_is_from_and_what_it_keeps(row: Any) -> None:
    assert len(row.paper) > 10
    assert row.keeps
    assert set(row.settings) <= {field.name for field in fields(Settings)}
