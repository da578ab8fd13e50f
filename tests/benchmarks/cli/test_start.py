"""What is written wrongly is answered before the seconds that torch and Avalanche take to import."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.__main__ import COMMANDS, commands
from places import ROOT

HEAVY = ("avalanche", "matplotlib", "pytorch_lightning", "timm", "torch", "wandb")
CODE = """
import contextlib, io, json, sys
from benchmarks.__main__ import main
found = []
for arguments in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code
    found.append([code, said.getvalue(), sorted({name.partition(".")[0] for name in sys.modules})])
print(json.dumps(found))
"""


def start(*given: list[str]) -> list[tuple[int, str, set[str]]]:
    """Run commands in one new process, one after the other.

    Returns:
        Of each the exit status, what it said, and which heavy packages were imported by then.
    """
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, input=json.dumps(given), capture_output=True, text=True, check=True
    )
    return [(code, said, {*modules} & {*HEAVY}) for code, said, modules in json.loads(done.stdout)]


DIGITS, REGIMES = "configs/split_digits.yaml", "configs/regimes_digits.yaml"
MISTAKES = {
    "a key": (["run", DIGITS, "--set", "training.lrr=1"], "unknown key 'training.lrr'; did you mean 'lr'?"),
    "a value": (["run", DIGITS, "--set", "training.lr=fast"], "training.lr: must be a number greater than 0"),
    "a config": (["run", "configs/split_digit.yaml"], "did you mean 'split_digits.yaml'?"),
    "a data set": (["run", DIGITS, "--set", "stream.dataset=mnits"], "unknown dataset 'mnits'; did you mean 'mnist'?"),
    "a strategy": (["run", DIGITS, "--strategies", "iclar"], "unknown strategy 'iclar'; did you mean 'icarl'?"),
    "a seed": (["run", DIGITS, "--seeds", "-1"], "--seeds must be whole numbers"),
    "a folder": (["run", DIGITS, "--out", "README.md/runs"], "README.md is a file; give a folder for the records"),
    "a strategy to search": (["search", DIGITS, "--strategies", "ewcc"], "did you mean 'ewc'?"),
    "a regime": (["regimes", REGIMES, "--only", "sdg"], "regimes_digits has no regime 'sdg'; did you mean 'sgd'?"),
    "a method of a matrix": (["regimes", REGIMES, "--methods", "nive"], "has no method 'nive'; did you mean 'naive'?"),
    "a document": (["explain", "prediction", DIGITS, "--write", "none.md"], "none.md cannot be read"),
    "a folder of records": (["table", "none"], "none is no folder"),
    "a key of a config to explain": (["explain", "closed-form", DIGITS, "--set", "model.hiden=[9]"], "'hidden'"),
    "a config without a backbone": (["features", DIGITS], "split_digits keeps no features"),
    "a config to time": (["overhead", "configs/split_digit.yaml"], "did you mean 'split_digits.yaml'?"),
    "a backbone": (["pretrain", "configs/backbones/papr.yaml"], "there is no config of a backbone"),
    "a command": (["rnu"], "invalid choice: 'rnu'"),
}


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[int, str, set[str]]]:
    return dict(zip(MISTAKES, start(*(arguments for arguments, _ in MISTAKES.values())), strict=True))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_before_anything_heavy_is_imported(
    name: str, answers: dict[str, tuple[int, str, set[str]]]
) -> None:
    code, said, imported = answers[name]
    assert (code, imported) == (2, set())
    assert MISTAKES[name][1] in said


def test_help_is_made_of_the_files_of_the_commands_and_needs_nothing_heavy() -> None:
    names = list(commands())
    assert len(names) == len(list(COMMANDS.glob("[!_]*.py"))) > 10
    (_, whole, _), *each = start(["--help"], *([name, "--help"] for name in names))
    for (name, words), (code, said, imported) in zip(commands().items(), each, strict=True):
        assert (code, imported) == (0, set())
        assert words.endswith(".")
        assert f"usage: python -m benchmarks {name}" in said
        assert words in " ".join(whole.split())
