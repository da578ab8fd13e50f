"""Every block of Python in README, CONTRIBUTING and docs runs, or stands here with the reason why it cannot."""

import re
from types import SimpleNamespace

import pytest
import torch
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from network_samples import Net, digits, stream
from places import ROOT
from plugin_samples import NoLogger

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = {
    f"{page.name}, {i}": block
    for page in PAGES
    for i, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE))
}
ELSEWHERE = {
    "lightning.md, 0": "tests/test_lightning_page.py runs it, with both packages of Lightning",
    "models.md, 0": "it needs the file of a run; tests/benchmarks/runs/test_saved.py has the same calls",
}
FOLLOWS = {"using.md, 6": "using.md, 5"}
"""Blocks that go on where another ends."""

AFTER_TRAINING = "print(src.reports[-1])"


def named():
    """A network whose layers have the names that pages use."""
    torch.manual_seed(0)
    return Net(lambda m, x: m.fc2(m.fc1(x).relu()))


def trained_with(src):
    """Two experiences with a plugin, on a network of its own."""
    model = named()
    strategy = Naive(
        model=model, optimizer=torch.optim.Adam(model.parameters()), criterion=nn.CrossEntropyLoss(), train_mb_size=16,
        train_epochs=3, plugins=[src], evaluator=EvaluationPlugin(loggers=[NoLogger()]),
    )  # fmt: skip
    for experience in stream()[:2]:
        strategy.train(experience)


def around():
    """What pages take for granted: a model, images, and what was seen of them."""
    images, _ = digits()
    timm = SimpleNamespace(create_model=lambda *args, **kwargs: nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64)))
    return {
        "torch": torch, "model": named(), "head": nn.Linear(64, 10), "images": images, "x": images[:300],
        "mean_of_all_seen": images.mean(0), "timm": timm,
    }  # fmt: skip


def test_pages_have_blocks_and_what_is_left_out_is_one_of_them():
    assert len(BLOCKS) >= 7
    assert set(ELSEWHERE) <= set(BLOCKS)
    for reason in ELSEWHERE.values():
        (path,) = re.findall(r"tests/[\w/]+\.py", reason)
        assert (ROOT / path).is_file()


@pytest.mark.filterwarnings("ignore:No loggers specified", "ignore:.*evaluator", "ignore:GPU available")
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BLOCKS if name not in ELSEWHERE])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # loggers of Avalanche leave files open
def test_a_block_runs_as_it_stands(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before, mark, after = BLOCKS[name].partition(AFTER_TRAINING)
    names = around()
    exec(BLOCKS[FOLLOWS[name]] if name in FOLLOWS else "", names)
    exec(before, names)
    if mark:
        trained_with(names["src"])
        exec(mark + after, names)
        assert "slept" in capsys.readouterr().out
    if name in ("README.md, 0", "using.md, 0"):  # both say: about 20 % without sleep, about 80 with it
        told = [float(share) for share in re.findall(r"([\d.]+) ?% of ten digits", capsys.readouterr().out)]
        assert told[:-1] == [] or told[0] == pytest.approx(20, abs=1)
        assert told[-1] == pytest.approx(80, abs=4)
    if name == "features.md, 0":
        model = names["model"].train()
        assert not model[0][0].training
        assert [p.requires_grad for p in model.parameters()] == [False] * 4 + [True] * 2
