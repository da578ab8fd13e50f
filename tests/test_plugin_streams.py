"""SRCPlugin on streams of digits where there is nothing to do for it: the run is the one without the plugin."""

import pytest
import torch
from avalanche.models import MTSimpleMLP, SimpleMLP, as_multitask
from torch import nn

from models import changed, copies, global_states
from plugin_samples import PURE, build, decisions, digits_by_task, digits_stream, own, train
from src_plugin.config import SleepConfig
from src_plugin.errors import HeadNotFoundError
from src_plugin.night import binary_noise
from src_plugin.night.binary_noise import N_NOISE, N_SHORT
from src_plugin.plugin import SRCPlugin
from src_plugin.waking.observer import ONE_HEAD_PER_TASK

PAIRS = [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]


def run(plugin, stream, *, model=lambda: SimpleMLP(num_classes=10, input_size=64, hidden_size=24), **settings):
    """Train on digits, from the same weights and random numbers each time; return the strategy."""
    torch.manual_seed(0)
    plugins = [] if plugin is None else [plugin]
    return train(build(*plugins, model=model(), **{"train_epochs": 1, **settings}), stream)


def nights_of(plugin, stream, model):
    """Train, and return names of the parameters that each sleep changed."""
    nights = []

    class Listener:
        def before_sleep(self, strategy):
            nights.append(copies(strategy.model))

        def after_sleep(self, strategy):
            nights[-1] = changed(strategy.model, nights[-1])

    strategy = build(plugin, train_epochs=1, model=model)
    strategy.plugins.append(Listener())
    train(strategy, stream)
    return nights


# -- every stage off --------------------------------------------------------------------------------------------------

STAGES_OFF = {"replay": False, "settle": False, "level": False}
GATES_OFF = {"rehearsal_gate": False, "balance_gate": False, "first_gate": False, "new_classes_gate": False}
OFF = {"stages": STAGES_OFF, "stages and gates": {**STAGES_OFF, **GATES_OFF}}


@pytest.mark.parametrize("settings", OFF.values(), ids=OFF)
def test_with_every_stage_off_a_whole_run_is_bit_identical_to_one_without_the_plugin(settings):
    plugin, stream = SRCPlugin(SleepConfig.preset("auto", **settings)), digits_stream(*PAIRS)
    without = run(None, stream)
    states = global_states()
    strategy = run(plugin, stream)  # with dropout: one random number more or less would be seen
    assert changed(strategy.model, copies(without.model)) == []
    assert global_states() == states
    assert len(plugin.reports) == 5


@pytest.mark.parametrize("stage", STAGES_OFF)
def test_each_stage_alone_is_not_bit_identical(stage):
    # The twin of the above. A stage is kept from what it does by gates that find all well, so these are off.
    stream = digits_stream(*PAIRS)
    without = run(None, stream)
    strategy = run(SRCPlugin(SleepConfig.preset("auto", **{**STAGES_OFF, **GATES_OFF, stage: True})), stream)
    assert changed(strategy.model, copies(without.model)) != []


# -- no new classes ---------------------------------------------------------------------------------------------------

FEW = (0, 1, 2)
NOTHING_NEW = {
    "permuted pixels": [FEW, {"classes": FEW, "permuted_by": 1}, {"classes": FEW, "permuted_by": 2}],
    "all classes come back": [FEW, FEW],
    "after new ones": [(0, 1), (2, 3), (0, 1, 2, 3)],
}
nothing_new = pytest.mark.parametrize("experiences", NOTHING_NEW.values(), ids=NOTHING_NEW)


def is_new(experiences):
    """For each experience, whether it brings a class that no earlier one had."""
    classes = [set(e["classes"] if isinstance(e, dict) else e) for e in experiences]
    return [not now <= set().union(*classes[:i]) for i, now in enumerate(classes)]


def silent_where_new(experiences):
    """As `auto`, but with a sleep of no steps after the experiences that bring new classes."""
    return SleepConfig.preset("simulated", steps=tuple(0 if new else 800 for new in is_new(experiences)))


@nothing_new
def test_without_new_classes_the_run_is_that_without_the_plugin(experiences):
    stream, plugin = digits_stream(*experiences), SRCPlugin(silent_where_new(experiences))
    without = run(None, stream)
    strategy = run(plugin, stream)
    assert changed(strategy.model, copies(without.model)) == []
    reasons = [report.reason for report in plugin.reports]
    assert reasons == ["zero steps" if new else "no new classes in this experience" for new in is_new(experiences)]


def test_with_new_classes_in_the_same_places_it_is_not():
    experiences = NOTHING_NEW["after new ones"]
    stream, plugin = digits_stream((0, 1), (2, 3), (4, 5)), SRCPlugin(silent_where_new(experiences))
    without = run(None, stream)
    assert changed(run(plugin, stream).model, copies(without.model)) != []
    assert decisions(plugin) == ["awake", "awake", "slept"]


@nothing_new
def test_auto_changes_weights_after_new_classes_only(experiences):
    nights = nights_of(SRCPlugin(), digits_stream(*experiences), SimpleMLP(num_classes=10, input_size=64))
    assert [bool(names) for names in nights] == is_new(experiences)


# -- classes that come back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prior", "share"), [("counts", 2 / 3), ("equal", 1 / 2)])
def test_classes_that_come_back_are_balanced_against_those_that_stay_away(prior, share):
    # 15 images of each digit in an experience: 30 of 0 and of 1 in the end, 15 of 2 and of 3.
    plugin = SRCPlugin(SleepConfig(prior=prior))
    run(plugin, digits_stream((0, 1), (2, 3), (0, 1)), train_epochs=6)
    first, second, third = plugin.reports
    assert [r.expected_share for r in (first, second, third)] == [None, 0.5, pytest.approx(share)]
    assert third.decision == "slept"
    assert third.share_trained > 0.5
    assert third.share_settled < third.share_trained
    assert third.share_levelled == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize(("epochs", "n"), [(1, N_SHORT), (30, N_NOISE)])
def test_less_binary_noise_is_drawn_after_a_short_training(monkeypatch, epochs, n):
    drawn = []
    real = binary_noise.draw_binary_noise
    monkeypatch.setattr(binary_noise, "draw_binary_noise", lambda *_, **how: drawn.append(how["n"]) or real(*_, **how))
    run(SRCPlugin(SleepConfig(noise="binary")), digits_stream((0, 1), (2, 3)), train_epochs=epochs)
    assert drawn == [n]


# -- one head per task ------------------------------------------------------------------------------------------------

TASK_HEADS = {
    "MTSimpleMLP": lambda: MTSimpleMLP(input_size=64, hidden_size=24),
    "as_multitask": lambda: as_multitask(SimpleMLP(num_classes=2, input_size=64, hidden_size=24), "classifier"),
}
SHARED = {"MTSimpleMLP": "features.0", "as_multitask": "model.features.0"}
task_heads = pytest.mark.parametrize("name", TASK_HEADS)


@task_heads
@pytest.mark.parametrize("from_zero", [True, False], ids=["classes from 0 in each task", "classes go on"])
def test_a_model_that_is_told_the_task_is_left_alone_and_says_so_once(name, from_zero):
    stream, plugin = digits_by_task(3, from_zero=from_zero), SRCPlugin()
    without = run(None, stream, model=TASK_HEADS[name])
    states = global_states()
    with pytest.warns(UserWarning, match="has one head per task: .*left as it is") as caught:
        strategy = run(plugin, stream, model=TASK_HEADS[name])
    assert len(caught) == 1
    assert SHARED[name] in str(caught[0].message)
    assert changed(strategy.model, copies(without.model)) == []
    assert global_states() == states
    assert [(r.decision, r.reason) for r in plugin.reports] == [("awake", ONE_HEAD_PER_TASK)] * 3


@task_heads
def test_a_pure_sleep_of_such_a_model_asks_which_layers_before_any_weight_changed(name):
    model = TASK_HEADS[name]()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(
        HeadNotFoundError, match=rf"one head per task.*SRCPlugin\('src_only', head=\['{SHARED[name]}'\]\)"
    ):
        run(SRCPlugin(PURE), digits_by_task(2), model=lambda: model)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


@task_heads
def test_with_that_cure_the_shared_layers_sleep_and_no_other(name):
    nights = nights_of(SRCPlugin(PURE, head=[SHARED[name]]), digits_by_task(2), TASK_HEADS[name]())
    assert nights == [[f"{SHARED[name]}.weight"]] * 2


HEAD_OF_TASK_0 = "classifier.classifiers.0.classifier"


def on_frozen_features():
    model = TASK_HEADS["MTSimpleMLP"]()
    model.features.requires_grad_(False)
    return model


def test_a_named_head_of_a_stream_with_one_task_label_sleeps_by_auto():
    plugin = SRCPlugin(head=HEAD_OF_TASK_0)
    run(plugin, digits_by_task(3, from_zero=False, task_labels=False), model=on_frozen_features)
    assert decisions(plugin)[1] == "slept"
    assert plugin.reports[1].expected_share == 0.5  # old and new classes were compared
    assert all(report.reason != ONE_HEAD_PER_TASK for report in plugin.reports)


def test_a_named_head_is_left_alone_as_soon_as_there_is_a_second_task():
    plugin = SRCPlugin(head=HEAD_OF_TASK_0)
    with pytest.warns(UserWarning, match="one head per task") as caught:
        run(plugin, digits_by_task(3), model=on_frozen_features)
    assert len(caught) == 1
    assert [r.reason == ONE_HEAD_PER_TASK for r in plugin.reports] == [False, True, True]


class OwnHeads(nn.Module):
    """A user's own way to have a head per task: an attribute says which."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 24), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(24, 10) for _ in range(3))
        self.task = 0

    def forward(self, x):
        return self.heads[self.task](self.body(x))


def test_a_model_that_changes_its_output_layer_is_left_alone_from_then_on():
    # Tasks 0, 1, and 0 again: its output layer was there before, and still is one of several.
    def by_task(plugin):
        torch.manual_seed(0)
        model = OwnHeads()
        strategy = build(plugin, model=model, train_epochs=1)
        for task, experience in zip((0, 1, 0), digits_stream((0, 1), (2, 3), (4, 5)), strict=True):
            model.task = task
            strategy.train(experience)
        return model

    plugin = SRCPlugin()
    with pytest.warns(UserWarning, match="OwnHeads has one head per task") as caught:
        model = by_task(plugin)
    assert len(caught) == 1
    assert [r.reason == ONE_HEAD_PER_TASK for r in plugin.reports] == [False, True, True]
    first_only = by_task(SRCPlugin(schedule=lambda s: s.clock.train_exp_counter == 0))
    assert changed(model, copies(first_only)) == []


def test_a_pure_sleep_takes_whatever_output_layer_there_is():
    strategy = build(SRCPlugin(PURE), model=OwnHeads(), train_epochs=1)
    for task, experience in enumerate(digits_stream((0, 1), (2, 3))):
        strategy.model.task = task
        strategy.train(experience)
    assert [report.layers for report in own(strategy).reports] == [["body.0", "heads.0"], ["body.0", "heads.1"]]
    assert decisions(own(strategy)) == ["slept", "slept"]
