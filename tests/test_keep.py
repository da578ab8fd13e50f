"""What is known goes into a file and comes back, and a model may know something before it is watched."""

import copy
import gc
import multiprocessing
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from keep_samples import go_on, learn
from loop_samples import accuracy, adam, digits, network, same
from places import ROOT
from plugin_samples import SIMULATED, benchmark, build
from plugin_samples import network as small
from src_plugin import SRC, SleepConfig, SRCPlugin
from src_plugin.errors import ConfigError, HeadNotFoundError, StimulusError
from src_plugin.sleeper import SLEPT

SEEN = {0: 3, 1: 2}


@pytest.mark.slow
def test_two_processes_give_the_bits_of_one(tmp_path):
    model = network()
    src, optimizer = SRC(model), adam(model)
    learn(model, src, optimizer, range(2))
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "src": src.state_dict()}
    torch.save(saved, tmp_path / "state.pt")
    process = multiprocessing.get_context("spawn").Process(target=go_on, args=(tmp_path / "state.pt",))
    process.start()
    process.join()
    assert process.exitcode == 0
    learn(model, src, optimizer, range(2, 5))
    other = torch.load(tmp_path / "state.pt", weights_only=True)
    assert all(torch.equal(value, other["model"][name]) for name, value in model.state_dict().items())
    assert other["summary"] == src.summary()


def plain(plugin):
    """A strategy whose optimizer has no state: Avalanche begins that anew."""
    model = small()
    return build(plugin, model=model, optimizer=torch.optim.SGD(model.parameters(), 0.1))


def test_a_plugin_goes_on_from_a_file_with_the_same_bits(tmp_path):
    stream = benchmark().train_stream
    first, second = SRCPlugin(SIMULATED), SRCPlugin(SIMULATED)
    one = plain(first)
    one.train(stream[0])
    parts = {"model": one.model, "src": first}
    torch.save({name: part.state_dict() for name, part in parts.items()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    two = plain(second)
    two.model.load_state_dict(saved["model"])
    second.load_state_dict(saved["src"])
    for strategy in (one, two):
        torch.manual_seed(1)
        strategy.train(stream[1])
    assert same(one.model, two.model)
    assert second.summary() == first.summary()
    assert second.state_dict()["experiences"] == [2, 0]


def state():
    model = network()
    src = SRC(model)
    learn(model, src, adam(model), [0])
    return src.state_dict()


def wide():
    return nn.Sequential(nn.Linear(65, 100), nn.ReLU(), nn.Linear(100, 10))


def deeper():
    return nn.Sequential(nn.Sequential(nn.Linear(64, 100), nn.ReLU()), nn.Linear(100, 10))


OTHERS = {
    "another config": (lambda: SRC(network(), "src_only"), ConfigError, "of another config: .*Go on with the same one"),
    "another head": (lambda: SRC(network(), head="2"), HeadNotFoundError, "of the head 0, 2 .*head='2' is named now"),
    "other layers": (lambda: SRC(deeper()), HeadNotFoundError, "of the head 0, 2 .*Sequential has no such layer '0'"),
    "other inputs": (lambda: SRC(wide()), HeadNotFoundError, r"64-100-10\), and Sequential has 65 inputs at '0'"),
    "a plugin's head": (lambda: SRCPlugin(head="fc"), HeadNotFoundError, "of the head 0, 2 .*head='fc' is named now"),
}


@pytest.mark.parametrize(("make", "kind", "why"), OTHERS.values(), ids=OTHERS)
def test_a_state_of_something_else_is_refused_by_name_and_changes_nothing(make, kind, why):
    src = make()
    before = str(src.state_dict())
    with pytest.raises(kind, match=why):
        src.load_state_dict(state() | ({"experiences": [1, 0]} if isinstance(src, SRCPlugin) else {}))
    assert str(src.state_dict()) == before


def test_a_plugin_refuses_another_model_than_that_of_its_state_when_training_begins():
    first, second = SRCPlugin(), SRCPlugin()
    strategy = build(first)
    strategy.train(benchmark().train_stream[0])
    second.load_state_dict(first.state_dict())
    other = build(second, model=nn.Sequential(nn.Flatten(), *small()))
    with pytest.raises(HeadNotFoundError, match="this state is of the head"):
        other.train(benchmark().train_stream[1])


def test_neither_is_loaded_where_something_was_learnt_since():
    src = SRC(network())
    with pytest.raises(ConfigError, match="a task is not over yet"), src.task():
        src.load_state_dict(state())
    plugin = SRCPlugin()
    build(plugin).train(benchmark().train_stream[0])
    with pytest.raises(ConfigError, match=r"1 experiences behind it: load a state into a new SRCPlugin"):
        plugin.load_state_dict(plugin.state_dict())


# -- models that know something already --------------------------------------------------------------------------------


def base():
    """A network that knows the first four digits, and what it was trained on."""
    x, y = digits()[0]
    rows = y < 4
    model = network()
    optimizer = adam(model)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return model, x[rows].mean(0), dict(enumerate(torch.bincount(y[rows]).tolist()))


@pytest.mark.slow
@pytest.mark.parametrize("tells_counts", [True, False])
def test_a_model_that_knows_classes_keeps_them(tells_counts):
    known = {}
    for tells in (False, True):
        model, mean, counts = base()
        src = SRC(model, seen=counts if tells_counts else list(counts), mean_input=mean) if tells else SRC(model)
        learn(model, src, adam(model), [2, 3, 4])
        known[tells] = accuracy(model, range(4))
        assert src.reports[0].reason.startswith("first sleep") == (not tells)
    assert known[True] > known[False] + 0.3


@pytest.mark.parametrize("tells_counts", [True, False])
def test_the_mean_counts_by_images_or_by_classes(tells_counts):
    model, x = network(), torch.rand(10, 64)
    src = SRC(model, seen={0: 30, 1: 10} if tells_counts else [0, 1], mean_input=torch.full((64,), 2.0))
    weight = 40 / 10 if tells_counts else 2 / 1
    for number in (5, 6):  # each of 10 images, shown twice
        with src.task():
            for _ in range(2):
                src.begin_epoch()
                nn.functional.cross_entropy(model(x), torch.full((10,), number)).backward()
    mean = (weight * 2.0 + 2 * x.mean(0)) / (weight + 2)
    torch.testing.assert_close(torch.from_numpy(src._sleeper.waking.mean_input()).float(), mean)


BAD = {
    "names": ({"seen": ["cat"]}, ConfigError, "give class numbers from 0"),
    "a number": ({"seen": 50}, ConfigError, r"seen=50: give class numbers from 0, seen=\[0, 1\]"),
    "negative": ({"seen": [-1, 2]}, ConfigError, "class numbers from 0"),
    "nothing": ({"seen": []}, ConfigError, "class numbers from 0"),
    "no images": ({"seen": {0: 0, 1: 3}}, ConfigError, "how many images"),
    "a mean alone": ({"mean_input": torch.ones(64)}, ConfigError, "mean_input is given without seen"),
    "a mean of images": ({"seen": SEEN, "mean_input": torch.ones(2, 64)}, StimulusError, r"take the mean over samples"),
    "not finite": ({"seen": SEEN, "mean_input": [np.nan, 1.0]}, StimulusError, "not finite"),
}


@pytest.mark.parametrize(("given", "kind", "why"), BAD.values(), ids=BAD)
def test_what_cannot_be_known_is_refused_at_once(given, kind, why):
    for make in (lambda: SRC(network(), **given), lambda: SRCPlugin(**given)):
        with pytest.raises(kind, match=why):
            make()


def test_a_negative_mean_is_refused_where_it_gives_rates():
    with pytest.raises(StimulusError, match="negative at 64 of 64"):
        SRC(network(), SleepConfig.preset("simulated"), seen=SEEN, mean_input=-torch.ones(64))


LATE = {
    "a class without an output": ({"seen": [0, 10]}, ConfigError, r"seen has classes \[10\], and the head .* has 10"),
    "a mean of other inputs": ({"seen": SEEN, "mean_input": torch.ones(65)}, StimulusError, "64 inputs now and had 65"),
}


@pytest.mark.parametrize(("given", "kind", "why"), LATE.values(), ids=LATE)
def test_what_does_not_fit_the_head_is_refused_in_the_first_batch(given, kind, why):
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(kind, match=why):
        learn(model, SRC(model, **given), adam(model), [2])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# -- no silent reuse ---------------------------------------------------------------------------------------------------

REUSE = "has slept under another object.*use one for all tasks, load its state here.*or tell what the model knows"


def test_a_new_object_on_a_model_that_has_slept_is_warned_of_and_each_cure_is_silent():
    model = network()
    first = SRC(model)
    learn(model, first, adam(model), [0])
    with pytest.warns(UserWarning, match=f"SRC: this Sequential {REUSE}"):
        learn(model, SRC(model), adam(model), [1])
    learn(model, first, adam(model), [1])
    loaded, told = SRC(model), SRC(model, seen=[0, 1], mean_input=torch.ones(64))
    loaded.load_state_dict(first.state_dict())
    for src in (loaded, told):
        learn(model, src, adam(model), [2])
    copied = copy.deepcopy(model)
    learn(copied, SRC(copied), adam(copied), [2])  # nobody knows of it


def test_a_new_plugin_on_a_model_that_has_slept_is_warned_of():
    strategy, stream = build(SRCPlugin(), train_epochs=5), benchmark().train_stream
    strategy.train(stream[0])
    with pytest.warns(UserWarning, match=f"SRCPlugin: this Sequential {REUSE}"):
        build(SRCPlugin(), model=strategy.model).train(stream[1])


def test_the_mark_of_a_slept_model_is_in_no_state_and_keeps_nothing_alive():
    model = network()
    names = list(model.state_dict()), list(vars(model[0]))
    learn(model, SRC(model), adam(model), [0])
    assert (list(model.state_dict()), list(vars(model[0]))) == names
    layer = weakref.ref(model[0])
    assert layer() in SLEPT
    del model
    gc.collect()
    assert layer() is None


def test_the_examples_of_the_docs_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "using.md").read_text("utf-8")
    goes_on, knows = page.split("```python\n")[2:4]
    names = {}
    exec(compile(goes_on.split("```")[0], "docs/using.md", "exec"), names)
    assert names["src"].summary() == "0 nights"
    exec(compile(knows.split("```")[0], "docs/using.md", "exec"), names)
    x = torch.rand(8, 64)
    with names["src"].task():
        nn.functional.cross_entropy(names["model"](x), torch.full((8,), 55)).backward()
    assert names["src"].report.balance.expected_share == pytest.approx(1 / 51)
