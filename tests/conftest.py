"""What all tests share: one thread, so that sums come out in the same order, and the reference data if it is there."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from places import ROOT

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder `shared` beside the checkout: reference data and images, too large or too foreign for this repository."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder 'shared' beside the checkout, with the reference data")
    return folder


def watch(monkeypatch, module):
    """What every sleep of an adapter was given, flat; the sleep itself is the real one."""
    given, real = [], module.sleep_head

    def watched(head, training, config, generator):
        classes = {f"{name}_classes": getattr(training.classes, name) for name in ("new", "old", "returned")}
        told = {"class_counts": training.classes.counts, "recall": training.classes.recall}
        state = head.read()
        given.append(SimpleNamespace(head=head, config=config, state=state, **classes, **told, **vars(training)))
        return real(head, training, config, generator)

    monkeypatch.setattr(module, "sleep_head", watched)
    return given


@pytest.fixture
def nights(monkeypatch):
    """What every sleep of SRCPlugin was given."""
    from src_plugin import plugin

    return watch(monkeypatch, plugin)


@pytest.fixture
def fit_nights(monkeypatch):
    """What every sleep of SRCCallback was given."""
    from src_plugin import callback

    return watch(monkeypatch, callback)
