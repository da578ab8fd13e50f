"""Who may import whom: imports are read from the source, so that a forbidden one is found even if it never runs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIGHTNING = ("lightning", "pytorch_lightning")
AVALANCHE = ("src_plugin/plugin.py", "src_plugin/memories.py")  # the plugin, and what it alone uses
KERNEL_MAY = {*sys.stdlib_module_names, "numpy", "numba", "torch", "src_plugin.kernel", "src_plugin.errors"}


class Import(NamedTuple):
    line: int
    module: str


def within(module: str, *packages: str) -> bool:
    """Tell whether a dotted name is one of the packages or lies in one of them."""
    return any(module == package or module.startswith(package + ".") for package in packages)


def read_imports(source: str, path: str) -> Iterator[Import]:
    """Find what a file imports, relative names resolved, `from a import b` as `a.b`, import_module("a") included."""
    package = path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(ast.parse(source, path)):
        match node:
            case ast.Import(names=names):
                yield from (Import(node.lineno, name.name) for name in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = package[: len(package) - level + 1] if level else []
                origin = ".".join([*base, *([module] if module else [])])
                yield from (Import(node.lineno, f"{origin}.{name.name}") for name in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield Import(node.lineno, module)


def find_offences(source: str, path: str) -> list[str]:
    """Name every import that a file at this path, relative to the root, must not have: "path:line imports module"."""
    folder = path.split("/")[0]
    offences = []
    for line, module in read_imports(source, path):
        upward = {"src_plugin": ("strategies", "benchmarks", "tests"), "strategies": ("benchmarks", "tests")}
        wrong = within(module, *upward.get(folder, ()))
        if folder == "src_plugin":
            wrong |= within(module, "avalanche") and path not in AVALANCHE
            wrong |= within(module, *LIGHTNING) and path != "src_plugin/callback.py"
        if path.startswith("src_plugin/kernel/"):
            wrong |= not within(module, *KERNEL_MAY)
        if wrong:
            offences.append(f"{path}:{line} imports {module}")
    return offences


FORBIDDEN = {
    "upward": ("src_plugin/sleep.py", "x = 1\nimport benchmarks.runner", ":2 imports benchmarks.runner"),
    "upward by from": ("src_plugin/sleep.py", "from strategies import owm", ":1 imports strategies.owm"),
    "upward in a function": ("src_plugin/a.py", "def f():\n    import strategies", ":2 imports strategies"),
    "upward by import_module": ("src_plugin/a.py", "importlib.import_module('benchmarks')", ":1 imports benchmarks"),
    "strategies upward": ("strategies/owm.py", "from benchmarks.runner import run", ":1 imports benchmarks.runner.run"),
    "avalanche outside plugin.py": ("src_plugin/head.py", "import avalanche.core as c", ":1 imports avalanche.core"),
    "lightning outside callback.py": ("src_plugin/plugin.py", "import lightning", ":1 imports lightning"),
    "kernel, other package": ("src_plugin/kernel/event.py", "import scipy.sparse", ":1 imports scipy.sparse"),
    "kernel, own library": ("src_plugin/kernel/event.py", "from ..config import A", ":1 imports src_plugin.config.A"),
}


@pytest.mark.parametrize(("path", "source", "offence"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_forbidden_import_is_named_with_file_and_line(path, source, offence):
    assert find_offences(source, path) == [path + offence]


ALLOWED = {
    "avalanche in plugin.py": ("src_plugin/plugin.py", "from avalanche.core import SupervisedPlugin"),
    "lightning in callback.py": ("src_plugin/callback.py", "import pytorch_lightning as pl"),
    "kernel, itself": ("src_plugin/kernel/event.py", "from . import plasticity\nfrom .reference import step"),
    "kernel, errors": ("src_plugin/kernel/__init__.py", "from ..errors import ShapeError\nimport math, numba, numpy"),
    "laboratory downward": ("benchmarks/runner.py", "import strategies, avalanche\nfrom src_plugin import SRCPlugin"),
    "same beginning": ("src_plugin/head.py", "import avalanches, benchmarks_of_others"),
}


@pytest.mark.parametrize(("path", "source"), ALLOWED.values(), ids=ALLOWED)
def test_allowed_import_passes(path, source):
    assert find_offences(source, path) == []


def test_no_file_imports_what_its_layer_must_not():
    files = [file for folder in ("src_plugin", "strategies") for file in sorted((ROOT / folder).rglob("*.py"))]
    assert ROOT / "src_plugin/kernel/__init__.py" in files
    offences = [o for file in files for o in find_offences(file.read_text("utf-8"), file.relative_to(ROOT).as_posix())]
    assert not offences, "\n".join(offences)


@pytest.mark.parametrize("name", ["SleepConfig", "sleep", "simulate"])
def test_import_of_the_library_loads_neither_avalanche_nor_lightning(name):
    code = f"import sys, src_plugin; src_plugin.{name}; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "src_plugin" in done.stdout.split()
    assert not {"avalanche", *LIGHTNING} & set(done.stdout.split())


NO_NUMBA = {
    "a sleep": """
import sys, torch
from src_plugin import sleep
torch.manual_seed(0)
head = torch.nn.Sequential(torch.nn.Linear(6, 20), torch.nn.ReLU(), torch.nn.Linear(20, 2))
print(sleep(head, torch.ones(6)).engine, "numba" in sys.modules)
print(sleep(head, torch.ones(6), "src_only").engine, "numba" in sys.modules)
""",
    "a plugin": """
import sys
from src_plugin import SRCPlugin
print(SRCPlugin().config.engine, "numba" in sys.modules)
print(SRCPlugin("src_only").config.engine, "numba" in sys.modules)
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("code", NO_NUMBA.values(), ids=NO_NUMBA)
def test_the_default_loads_no_numba_and_a_simulation_does(code):
    # It takes seconds to load, and is of no use to a sleep in closed form.
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["closed_form", "False", "simulated", "True"]
