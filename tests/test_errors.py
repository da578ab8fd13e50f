"""A warning of the library points at the user's line, whatever frameworks stand in between."""

import warnings
from functools import partial

import pytest

from src_plugin.errors import warn_user


def warn_through(*modules):
    """Warn from the last of some modules, each of which calls the next one in line 2 of a file of its name."""
    call = partial(warn_user, "look here")
    for module in reversed(modules):
        namespace = {"__name__": module, "call": call}
        exec(compile("def run():\n    call()\n", f"{module}.py", "exec"), namespace)
        call = namespace["run"]
    call()


PATHS = {
    # the modules from the outermost to the one that warns, and the one to be pointed at
    "called by the user": (["__main__", "src_plugin.night.sleep"], "__main__"),
    "Avalanche": (["__main__", "avalanche.training.templates.base", "avalanche.core", "src_plugin.plugin"], "__main__"),
    "Lightning": (["mine", "pytorch_lightning.trainer", "contextlib", "torch.utils", "src_plugin.callback"], "mine"),
    "a plugin of the user's": (["mine", "avalanche.core", "plugin", "avalanche.core", "src_plugin.plugin"], "plugin"),
    "a name that only begins alike": (["mine", "torch_tools.fit", "src_plugin.plugin"], "torch_tools.fit"),
}


@pytest.mark.parametrize(("modules", "expected"), PATHS.values(), ids=PATHS)
def test_a_warning_points_at_the_innermost_line_that_is_the_users(modules, expected):
    with pytest.warns(UserWarning, match="look here") as caught:
        warn_through(*modules)
    assert [(w.filename, w.lineno) for w in caught] == [(f"{expected}.py", 2)]


def test_a_warning_can_be_silenced_by_the_module_it_points_at():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="mine")
        warn_through("mine", "avalanche.core", "src_plugin.plugin")
        with pytest.raises(UserWarning, match="look here"):  # all others are errors in tests
            warn_through("theirs", "avalanche.core", "src_plugin.plugin")
