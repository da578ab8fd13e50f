"""What messages outside of the head advise is done, on the real thing, and then it works.

Elsewhere: of heads `tests/head/test_advice.py`; the frozen backbone of a warning `tests/test_plugin_batch_norm.py`;
several processes `tests/test_callback_ranks.py`; files of Hugging Face's Trainer `tests/test_trainer.py`. Not executed,
since it asks for hardware or a way to start: `Trainer(strategy='ddp')` instead of sharded strategies, and what says to
look for NaN in the data, to lower a learning rate or to move weights to the CPU.
"""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.models import MTSimpleMLP
from torch import nn

from callback_samples import ADVICE, Part, Whole, data, fit
from loop_samples import adam, batches, network
from models import mlp
from plugin_samples import benchmark, build, digits, digits_by_task, train
from sleep_samples import CURRENT, MEAN, NEW, OLD, Seeing, night, simulated, trained
from src_plugin import SRC, SleepConfig, SRCCallback, SRCPlugin, find_head, simulate, sleep
from src_plugin.config import ClosedForm, Constants, Gates, Simulation
from src_plugin.errors import SRCError
from src_plugin.night.calibrate import norm_constants

pytestmark = ADVICE

# -- settings ----------------------------------------------------------------------------------------------------------


def named(text):
    """The setting that a message shows, made as it stands there."""
    return eval(text, {kind.__name__: kind for kind in (ClosedForm, Constants, Gates, Simulation, SleepConfig)})


SETTINGS = {
    # what was written, what is advised, and the same with the advice taken
    "a sleep by name": (
        lambda: SleepConfig(sleep="simulated"), r"give (ClosedForm.*), (Simulation.*) or None",
        lambda *shown: [SleepConfig(sleep=named(text)) for text in shown],
    ),
    "gates by a flag": (
        lambda: SleepConfig(gates=False), r"give (Gates.*)", lambda shown: SleepConfig(gates=named(shown))
    ),
    "constants by a dict": (
        lambda: SleepConfig(constants={}), r"give (Constants.*)", lambda shown: SleepConfig(constants=named(shown))
    ),
    "a field's neighbour": (
        lambda: SleepConfig.from_dict({"deph": 0.5}), r"did you mean '(\w+)'",
        lambda shown: SleepConfig.from_dict({shown: 0.5}),
    ),
    "a preset's neighbour": (
        lambda: SleepConfig.preset("paper/split_mnits"), r"did you mean '([\w/]+)'", SleepConfig.preset
    ),
    "an engine's neighbour": (
        lambda: SleepConfig.from_dict({"engine": "simulation"}), r"did you mean '(\w+)'",
        lambda shown: SleepConfig.from_dict({"engine": shown}),
    ),
    "a word's neighbour": (
        lambda: SleepConfig(noise="gausian"), r"did you mean '(\w+)'", lambda shown: SleepConfig(noise=shown)
    ),
    "what only a simulated sleep reads": (
        lambda: SleepConfig.from_dict({"inc": 0.1}), r"add engine='(\w+)'",
        lambda shown: SleepConfig.from_dict({"inc": 0.1, "engine": shown}),
    ),
    "no simulated sleep": (
        lambda: SleepConfig().simulation, r"give (Simulation\(\))",
        lambda shown: SleepConfig(sleep=named(shown)).simulation,
    ),
    "a dict as config": (
        lambda: SRCPlugin({"depth": 0.5}), r"SleepConfig\.from_dict\(\{...\}\)",
        lambda: SRCPlugin(SleepConfig.from_dict({"depth": 0.5})),
    ),
    "names of layers as config": (
        lambda: SRCPlugin(["fc1"]), r"names of layers go to head=\[...\]", lambda: SRCPlugin(head=["fc1"])
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "advice", "right"), SETTINGS.values(), ids=SETTINGS)
def test_what_is_advised_for_a_setting_is_taken(wrong, advice, right):
    with pytest.raises(SRCError) as caught:
        wrong()
    right(*re.search(advice, str(caught.value)).groups())


# -- the kernel --------------------------------------------------------------------------------------------------------

W, SPIKES = [np.array([[0.5, -0.2]]), np.array([[1.0]])], np.ones((3, 2), bool)
RULE = {"scales": [1.0, 1.0], "thresholds": [0.5, 0.5], "inc": 0.02, "dec": 0.01}


def run(weights=W, spikes=SPIKES, **changes):
    return simulate(weights, spikes, **{**RULE, **changes})


RATES = SPIKES.astype(float)
KERNEL = {
    "a backend's neighbour": (lambda: run(backend="evnt"), "did you mean 'event'", lambda: run(backend="event")),
    "no leak": (lambda: run(decay=0.0), "0.999 is usual", lambda: run(decay=0.999)),
    "no gate": (lambda: run(gate_width=0), "gate_width=None switches the gate off", lambda: run(gate_width=None)),
    "a single layer": (
        lambda: run(W[0]), "a single layer is passed as", lambda: run(W[:1], scales=[1.0], thresholds=[0.5])
    ),
    "transposed": (lambda: run([w.T for w in W]), "transpose matrices stored as", lambda: run([w.T.T for w in W])),
    "whole numbers": (
        lambda: run([w.astype(int) for w in W]), "cast it to a float type",
        lambda: run([w.astype(int) * 1.0 for w in W]),
    ),
    "several types": (
        lambda: run([W[0], W[1].astype("f")]), "cast them to one float type",
        lambda: run([w.astype("f") for w in W]),
    ),
    "half": (
        lambda: run([w.astype("float16") for w in W]), "cast the weights, or use backend='reference'",
        lambda: (run([w.astype("float16").astype("f") for w in W]),
                 run([w.astype("float16") for w in W], backend="reference")),
    ),
    "rates": (lambda: run(spikes=RATES), "pass spikes > 0, or draw", lambda: run(spikes=RATES > 0)),
    "a single step": (
        lambda: run(spikes=SPIKES[0]), r"passed as spikes\[None, :\]", lambda: run(spikes=SPIKES[0][None, :])
    ),
    "a state of one layer": (
        lambda: run(state=[np.zeros(1)]), "pass SleepTrace.potentials, or None for rest",
        lambda: (run(state=run().potentials), run(state=None)),
    ),
    "a state of another network": (
        lambda: run(state=[np.zeros(4), np.zeros(1)]), "SleepTrace.potentials of the same network",
        lambda: run(state=run().potentials),
    ),
    "a broken state": (
        lambda: run(state=[np.full(1, np.nan), np.zeros(1)]), "pass None to start at rest", lambda: run(state=None)
    ),
    "a negative step": (lambda: run(dec=-0.01), "its sign is in the rule already", lambda: run(dec=0.01)),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "advice", "right"), KERNEL.values(), ids=KERNEL)
def test_what_is_advised_for_the_kernel_runs(wrong, advice, right):
    with pytest.raises(SRCError, match=advice):
        wrong()
    right()


# -- sleep() -----------------------------------------------------------------------------------------------------------


def slept(config=None, *, mean=MEAN, **changes):
    model, before = trained()
    assert sleep(model, mean, config, **{"before": before, **changes}).decision == "slept"


def balanced(config=None, **changes):
    slept(config, **{"new_classes": NEW, "old_classes": OLD, "inputs": CURRENT, **changes})


IMAGES = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
DEAD = [np.array([0.0, 1.0]), np.array([0.0, 1.0])]
BOTH = (torch.cat([CURRENT, CURRENT]), torch.tensor([0, 1, 2, 3] * 25))
NIGHT = {
    "classes that are no list": (
        lambda: balanced(new_classes=3), r"new_classes=\[0, 1\]", lambda: balanced(new_classes=[2, 3])
    ),
    "classes without an output": (
        lambda: balanced(new_classes=(3, 4)), r"Give class numbers from 0, or choose pure SRC.*preset\('src_only'\)",
        lambda: (balanced(new_classes=(2, 3)), slept(SleepConfig.preset("src_only"))),
    ),
    "samples without recall": (
        lambda: balanced(samples=BOTH), "give recall, too", lambda: night(*trained(), samples=BOTH, recall=0.4)
    ),
    "samples that are no pair": (
        lambda: balanced(samples=CURRENT, recall=0.4), r"samples=\(x, y\)",
        lambda: night(*trained(), samples=BOTH, recall=0.4),
    ),
    "before that is no copy": (
        lambda: balanced(before=mlp(12, 4)), r"find_head\(...\).read\(\)",
        lambda: balanced(before=find_head(trained()[0], torch.zeros(1, 12)).read()),
    ),
    "counts that miss a class": (
        lambda: balanced(class_counts={0: 5}), r"every class seen, \[0, 1, 2, 3\]",
        lambda: balanced(class_counts=dict.fromkeys(range(4), 5)),
    ),
    "a mean of a batch": (
        lambda: slept(mean=CURRENT), r"take the mean over samples, x.mean\(0\)", lambda: slept(mean=CURRENT.mean(0))
    ),
    "a negative mean, balanced": (
        lambda: balanced(mean=MEAN - 0.5, inputs=None), r"give lowest=x.amin\(0\).* or inputs=x",
        lambda: (balanced(mean=MEAN - 0.5, inputs=None, lowest=CURRENT.amin(0) - 0.5),
                 balanced(mean=MEAN - 0.5, inputs=CURRENT - 0.5)),
    ),
    "a negative mean, simulated": (
        lambda: slept("src_only", mean=MEAN - 0.5), r"Take the default, SleepConfig\(\), .* inputs of 0 or more",
        lambda: (slept(SleepConfig(), mean=MEAN - 0.5), slept("src_only", mean=MEAN)),
    ),
    "an input that the model does not take": (
        lambda: sleep(Seeing(), MEAN), r"give a batch that it takes, sleep\(..., example=x\), or name the head",
        lambda: (sleep(Seeing(), MEAN, example=IMAGES), sleep(Seeing(), MEAN, head="classifier")),
    ),
    "numbers for other layers": (
        lambda: slept(simulated(steps=50, thresholds=(1.0,))), "give one per layer.* or None to have them measured",
        lambda: (slept(simulated(steps=50, thresholds=(1.0, 1.0, 1.0))), slept(simulated(steps=50))),
    ),
    "gains without inputs": (
        lambda: slept(simulated(steps=50, normalise=True)), r"needs inputs.*sleep\(..., inputs=x\)",
        lambda: slept(simulated(steps=50, normalise=True), inputs=CURRENT),
    ),
    "a patch of features": (
        lambda: slept(simulated(steps=50, patch=2)), "use patch=None for features",
        lambda: slept(simulated(steps=50, patch=None)),
    ),
    "gains of a dead layer": (
        lambda: norm_constants([0.0], [0.0]), "use normalise=False", lambda: slept(simulated(steps=50, normalise=False))
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "advice", "right"), NIGHT.values(), ids=NIGHT)
@pytest.mark.filterwarnings("ignore:no unit of the head fired")
def test_what_is_advised_for_a_night_is_slept(wrong, advice, right):
    with pytest.raises(SRCError, match=advice):
        wrong()
    right()


# -- the loop ----------------------------------------------------------------------------------------------------------


def looped(loss, *, classes=None, task_classes=(0, 1), src=None, begin=nn.Module.train):
    src = SRC(network()) if src is None else src
    model, optimizer = src.model, adam(src.model)
    begin(model)
    with src.task(classes):
        for x, y in batches(list(task_classes))[0]:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
    return src.report


def hidden_loss(scores, y):
    return (scores - F.one_hot(y, 10) * 2.0).abs().mean()


def test_a_loss_without_targets_is_helped_by_the_classes_that_are_advised():
    with pytest.warns(UserWarning, match=r"Give the classes of the task: src.task\(classes=\[...\]\)"):
        assert looped(hidden_loss).decision == "awake"
    assert looped(hidden_loss, classes=[0, 1]).decision == "slept"


def test_classes_that_are_no_numbers_are_given_as_is_advised():
    with pytest.raises(SRCError, match=r"e.g. classes=\[0, 1\]"):
        looped(hidden_loss, classes="01")
    assert looped(hidden_loss, classes=[0, 1]).decision == "slept"


def test_a_model_in_eval_mode_is_put_to_training_as_is_advised():
    with pytest.warns(UserWarning, match=r"call model.train\(\) before training"):
        assert looped(F.cross_entropy, begin=nn.Module.eval).decision == "awake"
    assert looped(F.cross_entropy, begin=nn.Module.train).decision == "slept"


def test_a_task_in_a_task_is_ended_first():
    src = SRC(network())
    with pytest.raises(SRCError, match="end its `with` block first"), src.task([0]), src.task([1]):
        pass
    for classes in ([0, 1], [2, 3]):
        looped(F.cross_entropy, src=src, task_classes=classes)
    assert [report.decision for report in src.reports] == ["slept", "slept"]


# -- Avalanche ---------------------------------------------------------------------------------------------------------


def strategy_of(plugin, stream=None, **settings):
    train(build(plugin, **settings), stream)
    return [report.decision for report in plugin.reports]


def test_a_plugin_of_another_run_is_made_anew():
    plugin = SRCPlugin()
    strategy_of(plugin)
    with pytest.raises(SRCError, match=r"Make a new SRCPlugin\(\) for every run"):
        strategy_of(plugin)
    assert strategy_of(SRCPlugin())[0] == "slept"


def one_benchmark_each():
    return [
        benchmark_from_datasets(train=[as_classification_dataset(digits([c, c + 1]))]).train_stream[0] for c in (0, 2)
    ]


def test_where_the_last_experience_cannot_be_told_a_schedule_says_it():
    with pytest.raises(SRCError, match=r"pass schedule=lambda strategy: ... instead"):
        strategy_of(SRCPlugin(last_only=True), one_benchmark_each(), model=network())
    done = []
    plugin = SRCPlugin(schedule=lambda strategy: done.append(strategy) or len(done) == 2)
    assert strategy_of(plugin, one_benchmark_each(), model=network()) == ["slept"]


def test_an_online_stream_without_boundaries_is_given_a_schedule():
    def stream():
        return list(split_online_stream(benchmark().train_stream, experience_size=20, access_task_boundaries=False))

    with pytest.warns(UserWarning, match=r"pass schedule=lambda strategy: ... to say when"):
        assert strategy_of(SRCPlugin(), stream()) == []
    told = strategy_of(SRCPlugin(schedule=lambda strategy: True), stream())
    assert (told[0], len(told)) == ("slept", len(stream()))


def test_the_line_that_pure_src_is_given_for_one_head_per_task_runs_as_it_stands():
    def model():
        return MTSimpleMLP(input_size=64, hidden_size=32)

    with pytest.raises(SRCError, match="name the layers that all tasks share") as caught:
        strategy_of(SRCPlugin("src_only"), digits_by_task(2), model=model())
    line = re.search(r"(SRCPlugin\('src_only', head=.*\]\))", str(caught.value)).group(1)
    plugin = eval(line, {"SRCPlugin": SRCPlugin})
    assert strategy_of(plugin, digits_by_task(2), model=model()) == ["slept", "slept"]


def test_targets_that_are_no_classes_are_left_to_pure_src():
    stream = [as_classification_dataset(digits([0, 1]))]
    with pytest.raises(SRCError, match=r"only pure SRC applies, SleepConfig.preset\('src_only'\)"):
        strategy_of(SRCPlugin(), benchmark_from_datasets(train=stream).train_stream, model=mlp(64, 8, 1))
    plugin = SRCPlugin(SleepConfig.preset("src_only"))
    stream = benchmark_from_datasets(train=stream).train_stream
    settings = {"criterion": lambda output, y: F.mse_loss(output[:, 0], y.float()), "model": mlp(64, 8, 1)}
    assert strategy_of(plugin, stream, lr=0.01, **settings) == ["slept"]


# -- Lightning ---------------------------------------------------------------------------------------------------------


class Named(Whole):
    """A batch is a dictionary."""

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch["image"]), batch["label"])


def test_a_batch_without_a_second_element_is_read_by_the_function_that_is_advised():
    pairs = [{"image": image, "label": label} for image, label in data([0, 1])]
    with pytest.raises(SRCError, match=r"SRCCallback\(targets=lambda batch: batch\['label'\]\)"):
        fit(Named(), SRCCallback(), dataset=pairs)
    callback = SRCCallback(targets=lambda batch: batch["label"])
    fit(Named(), callback, dataset=pairs)
    assert callback.reports[0].decision == "slept"


def test_a_module_that_is_never_called_is_given_the_name_of_its_part():
    with pytest.raises(SRCError, match=r"SRCCallback\(model='net'\)"):
        fit(Part(), SRCCallback())
    callback = SRCCallback(model="net")
    fit(Part(), callback)
    assert callback.reports[0].decision == "slept"


def test_a_part_that_is_not_there_is_one_of_those_that_are_named():
    with pytest.raises(SRCError, match=r"has no such part; it has .*net"):
        fit(Part(), SRCCallback(model="nett"))
