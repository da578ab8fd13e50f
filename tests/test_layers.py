"""Who may import whom: imports are read from the source, so that a forbidden one is found even if it never runs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from places import ROOT

LIGHTNING = ("lightning", "pytorch_lightning")
AVALANCHE = (  # the plugin and what it alone uses; what its users' evaluators take
    "src_plugin/plugin.py",
    "src_plugin/waking/exemplars.py",
    "src_plugin/metrics.py",
    "src_plugin/wandb_logger.py",
)
LAYERS = (  # a room or file imports from those further up only, and from itself
    "src_plugin: errors",
    "src_plugin: kernel, report",
    "src_plugin: config",
    "src_plugin: head",
    "src_plugin: waking",
    "src_plugin: night",
    "src_plugin: sleeper",
    "src_plugin: files, ranks",
    "src_plugin: callback, loop, plugin",
    "src_plugin: metrics, picture, trainer, wandb_logger",
    "benchmarks: console, errors, files, markdown",
    "benchmarks: data",
    "benchmarks: configs",
    "benchmarks: records",
    "benchmarks: features, tables, tracking",
    "benchmarks: pretrain, streams",
    "benchmarks: runs",
    "benchmarks: explain, speed, verification",
    "benchmarks: report",
    "benchmarks: cli",
    "benchmarks: __main__",
)
RANK = {
    f"{package}.{room}": rank
    for rank, (package, rooms) in enumerate(layer.split(": ") for layer in LAYERS)
    for room in rooms.split(", ")
}
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


def room_of(module: str) -> str:
    """Return the room, or the file at the top of its package, that a module or a name in it belongs to."""
    return ".".join(module.split(".")[:2])


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
        here, there = room_of(path.removesuffix(".py").replace("/", ".")), room_of(module)
        if here in RANK and there in RANK and there != here:
            wrong |= RANK[there] >= RANK[here]
        if path.startswith("src_plugin/kernel/"):
            wrong |= not within(module, *KERNEL_MAY)
        if wrong:
            offences.append(f"{path}:{line} imports {module}")
    return offences


FORBIDDEN = {
    "upward": ("src_plugin/sleep.py", "x = 1\nimport benchmarks.runs.runner", ":2 imports benchmarks.runs.runner"),
    "upward by from": ("src_plugin/sleep.py", "from strategies import owm", ":1 imports strategies.owm"),
    "upward in a function": ("src_plugin/a.py", "def f():\n    import strategies", ":2 imports strategies"),
    "upward by import_module": ("src_plugin/a.py", "importlib.import_module('benchmarks')", ":1 imports benchmarks"),
    "strategies upward": (
        "strategies/owm.py",
        "from benchmarks.runs.runner import run",
        ":1 imports benchmarks.runs.runner.run",
    ),
    "avalanche outside plugin.py": (
        "src_plugin/head/state.py",
        "import avalanche.core as c",
        ":1 imports avalanche.core",
    ),
    "lightning outside callback.py": ("src_plugin/plugin.py", "import lightning", ":1 imports lightning"),
    "kernel, other package": ("src_plugin/kernel/event.py", "import scipy.sparse", ":1 imports scipy.sparse"),
    "kernel, own library": ("src_plugin/kernel/event.py", "from ..config import A", ":1 imports src_plugin.config.A"),
    "room upward": ("src_plugin/head/find.py", "from src_plugin.night import plan", ":1 imports src_plugin.night.plan"),
    "room sideways": (
        "benchmarks/tables/curves.py",
        "import benchmarks.features.vgg",
        ":1 imports benchmarks.features.vgg",
    ),
    "room upward in a function": (
        "benchmarks/data/fetch.py",
        "def f():\n    from benchmarks.runs import suite",
        ":2 imports benchmarks.runs.suite",
    ),
}


@pytest.mark.parametrize(("path", "source", "offence"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_forbidden_import_is_named_with_file_and_line(path, source, offence):
    assert find_offences(source, path) == [path + offence]


ALLOWED = {
    "avalanche in plugin.py": ("src_plugin/plugin.py", "from avalanche.core import SupervisedPlugin"),
    "lightning in callback.py": ("src_plugin/callback.py", "import pytorch_lightning as pl"),
    "kernel, itself": ("src_plugin/kernel/event.py", "from . import plasticity\nfrom .reference import step"),
    "kernel, errors": ("src_plugin/kernel/__init__.py", "from ..errors import ShapeError\nimport math, numba, numpy"),
    "laboratory downward": (
        "benchmarks/runs/runner.py",
        "import strategies, avalanche\nfrom src_plugin import SRCPlugin",
    ),
    "room downward": ("benchmarks/runs/suite.py", "from benchmarks.tables import summary\nimport benchmarks.errors"),
    "same room": ("src_plugin/night/sleep.py", "from src_plugin.night import plan"),
    "same beginning": ("src_plugin/head/state.py", "import avalanches, benchmarks_of_others"),
}


@pytest.mark.parametrize(("path", "source"), ALLOWED.values(), ids=ALLOWED)
def test_allowed_import_passes(path, source):
    assert find_offences(source, path) == []


def files_of(*packages: str) -> dict[str, Path]:
    """Return all files of the packages by the dotted names of their modules."""
    found = [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]
    return {file.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): file for file in found}


FILES = files_of("src_plugin", "strategies", "benchmarks")


def test_no_file_imports_what_its_layer_must_not():
    assert "src_plugin.kernel.__init__" in FILES
    offences = [
        o for file in FILES.values() for o in find_offences(file.read_text("utf-8"), file.relative_to(ROOT).as_posix())
    ]
    assert not offences, "\n".join(offences)


def test_every_room_has_its_layer():
    rooms = {room_of(name) for name in FILES if not name.startswith("strategies") and not name.endswith(".__init__")}
    assert rooms == set(RANK)


def test_no_files_import_each_other_in_a_circle():
    # Imports inside functions count, too: a circle that is hidden is a circle.
    sorter = TopologicalSorter()
    for name, file in FILES.items():
        for _, imported in read_imports(file.read_text("utf-8"), file.relative_to(ROOT).as_posix()):
            target = imported if imported in FILES else imported.rpartition(".")[0]
            if target in FILES and target != name:
                sorter.add(name, target)
    sorter.prepare()  # raises CycleError and names the files


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
print(SRCPlugin().config.to_dict()["engine"], "numba" in sys.modules)
print(SRCPlugin("src_only").config.to_dict()["engine"], "numba" in sys.modules)
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("code", NO_NUMBA.values(), ids=NO_NUMBA)
def test_the_default_loads_no_numba_and_a_simulation_does(code):
    # It takes seconds to load, and is of no use to a sleep in closed form.
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["closed_form", "False", "simulated", "True"]
