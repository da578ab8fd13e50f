"""The page of what was chosen after what had been seen: its constants are those of the code."""

from __future__ import annotations

import ast
import re
from importlib import import_module

import pytest

from places import ROOT
from src_plugin.config import SleepConfig

PAGE = (ROOT / "docs" / "forking_paths.md").read_text(encoding="utf-8")
CONSTANTS = re.findall(r"^\| `(src_plugin\.[\w.]+)` \| `([^`]+)` \|", PAGE, flags=re.MULTILINE)
GATES = re.findall(r"^\| `(\w+_gate)`", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize(("name", "value"), CONSTANTS, ids=[name for name, _ in CONSTANTS])
def test_a_constant_on_the_page_is_that_of_the_code(name: str, value: str):
    module, *attributes = [*re.match(r"([a-z_.0-9]+)\.([A-Z].*)", name).groups()]
    found = import_module(module)
    for attribute in attributes[0].split("."):
        found = getattr(found, attribute)
    assert found == ast.literal_eval(value)


def test_all_gates_are_on_the_page():
    fields = {name for name in SleepConfig().to_dict() if name.endswith("_gate")}
    assert set(GATES) == fields
    assert len(CONSTANTS) == 10
