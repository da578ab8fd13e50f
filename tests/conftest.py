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


@pytest.fixture
def nights(monkeypatch):
    """What every sleep of SRCPlugin was given; the sleep itself is the real one."""
    from src_plugin import plugin as plugin_module

    given, real = [], plugin_module.sleep_head

    def watched(head, mean, config, **settings):
        given.append(SimpleNamespace(head=head, mean=mean, config=config, **settings))
        return real(head, mean, config, **settings)

    monkeypatch.setattr(plugin_module, "sleep_head", watched)
    return given


@pytest.fixture
def fit_nights(monkeypatch):
    """What every sleep of SRCCallback was given; the sleep itself is the real one."""
    from src_plugin import callback as callback_module

    given, real = [], callback_module.sleep_head

    def watched(head, mean, config, **settings):
        given.append(SimpleNamespace(mean=mean, state=head.read(), **settings))
        return real(head, mean, config, **settings)

    monkeypatch.setattr(callback_module, "sleep_head", watched)
    return given
