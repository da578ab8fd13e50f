"""sleep(): what it must not touch, and that it leaves no head half-slept, whatever happens."""

import pytest
import torch

from models import changed, copies, global_states, hooks, same_bits
from sleep_samples import MEAN, NEW, OLD, PURE, QUICK, SIMULATED, Seeing, night, trained
from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError
from src_plugin.head.find import find_head
from src_plugin.night import replay as replaying
from src_plugin.night import settle as settling
from src_plugin.night import stages as night_module
from src_plugin.night import stimulus
from src_plugin.night.sleep import sleep


def test_all_below_the_head_stays_bit_identical_and_every_mode_as_it_was():
    model = Seeing()
    model.features[1].eval()
    state, modes = copies(model), [m.training for m in model.modules()]
    report = sleep(model, MEAN, PURE, example=torch.rand(2, 1, 4, 4))
    assert report.layers == ["classifier.1", "classifier.3"]
    assert {name.split(".")[0] for name in changed(model, state)} == {"classifier"}
    assert [m.training for m in model.modules()] == modes
    assert hooks(model) == 0


def test_a_head_by_name_needs_no_example():
    model = Seeing()
    state = copies(model)
    assert sleep(model, MEAN, PURE, head=["classifier.1", "classifier.3"]).layers == ["classifier.1", "classifier.3"]
    assert {name.split(".")[0] for name in changed(model, state)} == {"classifier"}


def test_the_head_alone_takes_the_mean_itself_as_example():
    model = Seeing()
    state = copies(model)
    assert sleep(model.classifier, MEAN, PURE).layers == ["1", "3"]
    assert {name.split(".")[0] for name in changed(model, state)} == {"classifier"}


def test_parameters_and_optimizer_state_stay_the_same_objects_and_bits():
    model, before = trained()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model(torch.rand(5, 12)).sum().backward()
    optimizer.step()
    parameters = {name: id(p) for name, p in model.named_parameters()}
    gradients = [p.grad.clone() for p in model.parameters()]
    momenta = [optimizer.state[p]["momentum_buffer"].clone() for p in model.parameters()]
    assert night(model, before).decision == "slept"
    assert {name: id(p) for name, p in model.named_parameters()} == parameters
    assert all(same_bits(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(
        same_bits(optimizer.state[p]["momentum_buffer"], m) for p, m in zip(model.parameters(), momenta, strict=True)
    )


def test_a_slept_model_can_go_on_training():
    model, before = trained()
    night(model, before)
    model(torch.rand(5, 12)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_global_random_states_are_untouched():
    model, before = trained()
    states = global_states()
    night(model, before, inputs=torch.full((8, 12), 0.5))
    assert global_states() == states


def test_what_was_given_is_not_changed():
    model, before = trained()
    mean, inputs = torch.from_numpy(MEAN).clone(), torch.full((8, 12), 0.5)
    given = [mean.clone(), inputs.clone(), *[t.clone() for t in before.tensors()]]
    sleep(model, mean, QUICK, before=before, new_classes=NEW, old_classes=OLD, inputs=inputs)
    assert all(same_bits(a, b) for a, b in zip([mean, inputs, *before.tensors()], given, strict=True))


def test_pure_sleep_leaves_biases_alone():
    model, _ = trained()
    state = copies(model)
    sleep(model, MEAN, SleepConfig.preset("src_only", steps=400))  # until an output fires, too
    assert changed(model, state) == ["0.weight", "2.weight", "4.weight"]


def test_pure_sleep_does_not_know_of_biases():
    model, twin = trained()[0], trained()[0]
    with torch.no_grad():
        for layer in find_head(twin, head="").layers:
            layer.bias += 3.0
    sleep(model, MEAN, PURE)
    sleep(twin, MEAN, PURE)
    for a, b in zip(find_head(model, head="").layers, find_head(twin, head="").layers, strict=True):
        assert same_bits(a.weight, b.weight)


@pytest.mark.parametrize("steps", [0, (0, 50)])
def test_zero_steps_change_nothing_in_any_stage(steps):
    model, before = trained()
    state = copies(model)
    report = night(model, before, SleepConfig.preset("simulated", steps=steps))
    assert (report.decision, report.reason) == ("awake", "zero steps")
    assert changed(model, state) == []


def test_the_index_of_the_sleep_selects_its_length():
    config = SleepConfig.preset("src_only", steps=(0, 50), steps_growth=10)
    assert sleep(trained()[0], MEAN, config, index=1).steps == 60
    assert sleep(trained()[0], MEAN, config, index=3).steps == 80


def raising(function, error, nth):
    """The function, but its nth call (from 0) raises."""
    calls = []

    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == nth + 1:
            raise error
        return function(*args, **kwargs)

    return wrapped


PLACES = {
    "in the closed form": (night_module, "inhibit", 0, QUICK),
    "while thresholds are measured": (replaying, "calibrate", 0, SIMULATED),
    "in the first chunk": (replaying, "simulate", 0, SIMULATED),
    "in the second chunk": (replaying, "simulate", 1, SIMULATED),
    "while settling": (settling, "settle", 0, QUICK),
    "while levelling": (settling, "level", 0, QUICK),
    "in the middle of the write": (torch.Tensor, "copy_", 3, QUICK),
}


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=["exception", "interrupt"])
@pytest.mark.parametrize(("owner", "name", "nth", "config"), PLACES.values(), ids=PLACES)
def test_whatever_happens_the_head_is_as_it_was(monkeypatch, owner, name, nth, config, error):
    model, before = trained()
    state, modes = copies(model), [m.training for m in model.modules()]
    monkeypatch.setattr(stimulus, "CHUNK", 50)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, raising(getattr(owner, name), error, nth))
        with pytest.raises(type(error)):
            night(model, before, config)
    assert changed(model, state) == []
    assert [m.training for m in model.modules()] == modes
    assert hooks(model) == 0
    assert night(model, before, config).decision == "slept"  # and nothing stands in the way of the next try


def test_an_interrupt_after_the_last_stage_finds_the_head_as_it_was(monkeypatch):
    model, before = trained()
    state = copies(model)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "norm", raising(torch.Tensor.norm, KeyboardInterrupt(), 0))
        with pytest.raises(KeyboardInterrupt):
            night(model, before)
    assert changed(model, state) == []


@pytest.mark.parametrize("config", [QUICK, SIMULATED], ids=["closed form", "simulated"])
def test_a_report_prints_as_one_line_a_stage(config):
    report = night(*trained(), config)
    lines = str(report).splitlines()
    assert lines[0].startswith("slept: the classes of this experience crowd out others (")
    assert [line.split()[0] for line in lines[1:]] == ["head", "sleep", "settle", "level"]
    assert ("in closed form: units answer" in lines[2]) == (not config.simulates)
    assert (f"simulated: 120 steps, depth {report.strength:.2g}; units fire" in lines[2]) == config.simulates
    assert "skipped replay: switched off" in str(night(*trained(), SleepConfig.preset("auto", replay=False)))


def test_weights_before_that_are_no_copy_of_a_head_are_refused():
    model, _ = trained()
    with pytest.raises(ConfigError, match=r"before is a OrderedDict; it must be a copy of the head, find_head"):
        night(model, model.state_dict())
