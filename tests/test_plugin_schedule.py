"""SRCPlugin: after which experiences it sleeps."""

import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.training import (
    Cumulative,
    JointTraining,
)
from numpy.testing import assert_allclose

from models import copies
from plugin_samples import PURE, QUICK, benchmark, build, decisions, network, train
from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError
from src_plugin.plugin import SRCPlugin

SCHEDULES = {
    # settings, experiences (from 1) after which it sleeps, of four
    "every": ({}, [1, 2, 3, 4]),
    "every second": ({"every": 2}, [2, 4]),
    "every second from the first": ({"every": 2, "first": 1}, [1, 3]),
    "from the third": ({"first": 3}, [3, 4]),
    "every third": ({"every": 3}, [3]),
    "the last only": ({"last_only": True}, [4]),
    "a schedule": ({"schedule": lambda s: s.experience.current_experience in (0, 3)}, [1, 4]),
    "a schedule decides alone": ({"schedule": lambda s: True, "every": 3, "last_only": True}, [1, 2, 3, 4]),
    "never": ({"schedule": lambda s: False}, []),
}


@pytest.mark.parametrize(("settings", "expected"), SCHEDULES.values(), ids=SCHEDULES)
def test_when_it_sleeps(settings, expected):
    plugin, slept = SRCPlugin(PURE, **settings), []
    strategy = build(plugin, train_epochs=1)
    for number, experience in enumerate(benchmark(4).train_stream, start=1):
        strategy.train(experience)
        slept += [number] * (len(plugin.reports) - len(slept))
    assert slept == expected


def test_a_whole_stream_in_one_call_is_the_same():
    plugin = SRCPlugin(PURE, every=2)
    build(plugin, train_epochs=1).train(benchmark(4).train_stream)
    assert decisions(plugin) == ["slept", "slept"]


def test_a_deferred_sleep_goes_back_to_where_the_last_one_left_off(nights):
    model, plugin = network(), SRCPlugin(QUICK, every=2)
    start = copies(model)
    train(build(plugin, model=model), benchmark(4).train_stream)
    first, second = nights
    assert (first.new_classes, first.old_classes) == ((0, 1), ())
    assert (second.new_classes, second.old_classes) == ((2, 3), (0, 1))
    assert torch.equal(first.before.weights[0], start["0.weight"])
    experiences = [torch.stack([x for x, *_ in e.dataset]).double() for e in benchmark(4).train_stream]
    assert_allclose(first.mean, torch.cat(experiences[:2]).mean(0), rtol=1e-6)


def test_a_deferred_sleep_is_told_in_the_bytes_kept():
    plugin = SRCPlugin(QUICK, every=2)
    strategy, stream = build(plugin), benchmark(4).train_stream
    strategy.train(stream[0])
    deferred = plugin.kept_bytes
    strategy.train(stream[1])
    parameters = sum(p.numel() * p.element_size() for p in strategy.model.parameters())
    # The copy of the head is gone; a class number and its count more are kept.
    assert deferred - plugin.kept_bytes == parameters - 16


@pytest.mark.parametrize("name", ["every", "first"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_a_schedule_that_cannot_be_meant_is_refused(name, value):
    with pytest.raises(ConfigError, match=rf"SRCPlugin\({name}={value!r}\): {name} must be a whole number, 1 or more"):
        SRCPlugin(**{name: value})


def test_the_kth_sleep_has_its_own_length():
    config = SleepConfig.preset("src_only", steps=(0, 40), steps_growth=5)
    plugin = SRCPlugin(config)
    train(build(plugin, train_epochs=1), benchmark(4).train_stream)
    assert decisions(plugin) == ["awake", "slept", "slept", "slept"]
    assert [report.steps for report in plugin.reports] == [0, 45, 50, 55]


def online(access=True, size=8, **settings):
    plugin = SRCPlugin(PURE, **settings)
    strategy, slept = build(plugin, train_epochs=1), []
    stream = split_online_stream(benchmark().train_stream, size, shuffle=False, access_task_boundaries=access)
    for number, experience in enumerate(stream, start=1):
        strategy.train(experience)
        slept += [number] * (len(plugin.reports) - len(slept))
    return slept


@pytest.mark.parametrize(("size", "boundaries"), [(8, [5, 10]), (15, [3, 6])], ids=["whole", "with remainder"])
def test_an_online_stream_sleeps_where_an_experience_ends(size, boundaries):
    # 40 samples per experience: five times 8, or 15 + 15 + 10.
    assert online(size=size) == boundaries


def test_an_online_stream_without_boundaries_says_that_it_never_sleeps():
    with pytest.warns(UserWarning, match="does not tell where an experience ends.*pass schedule=") as caught:
        assert online(access=False) == []
    assert len(caught) == 1


def test_an_online_stream_without_boundaries_sleeps_by_schedule():
    assert online(access=False, schedule=lambda s: s.clock.train_exp_counter in (3, 7)) == [4, 8]


def test_the_last_of_an_online_stream_is_refused_or_slept_after():
    try:
        assert online(last_only=True) == [10]
    except ConfigError as refusal:
        assert "schedule=" in str(refusal)  # noqa: PT017 - either answer is right


def test_cumulative_training_sleeps_after_each_experience(nights):
    train(build(SRCPlugin(SleepConfig.preset("auto", rehearsal_gate=False)), method=Cumulative))
    assert [n.old_classes for n in nights] == [(), (0, 1)]
    assert nights[1].recall > 0.5


def test_joint_training_sleeps_once_and_knows_all_classes(nights):
    build(SRCPlugin(QUICK), method=JointTraining).train(benchmark().train_stream)
    assert [n.new_classes for n in nights] == [(0, 1, 2, 3)]


def test_the_last_experience_of_joint_training_is_its_only_one():
    plugin = SRCPlugin(QUICK, last_only=True)
    build(plugin, method=JointTraining).train(benchmark().train_stream)
    assert len(plugin.reports) == 1
