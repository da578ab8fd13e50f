"""What all tests share: one thread, so that sums come out in the same order, and a large data set if it is there."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from places import ROOT

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """Folder `data` of the checkout, where commands look for data sets, if CIFAR-10's images are in it."""
    folder = ROOT / "data"
    if not all((folder / f"cifar10_{split}.zip").is_file() for split in ("train", "test")):
        pytest.skip("needs cifar10_train.zip and cifar10_test.zip in the folder data; made images are tested without")
    return folder


def watch(monkeypatch, module):
    """What every sleep of an adapter was given, flat; the sleep itself is the real one."""
    given, real = [], module.sleep_head

    def watched(head, training, config, generator):
        classes = {f"{name}_classes": getattr(training.classes, name) for name in ("new", "old")}
        told = {"class_counts": training.classes.counts, "recall": training.classes.recall}
        state = head.read()
        given.append(SimpleNamespace(head=head, config=config, state=state, **classes, **told, **vars(training)))
        return real(head, training, config, generator)

    monkeypatch.setattr(module, "sleep_head", watched)
    return given


@pytest.fixture
def nights(monkeypatch):
    """What every sleep of SRCPlugin was given."""
    from src_plugin import sleeper

    return watch(monkeypatch, sleeper)


@pytest.fixture
def fit_nights(monkeypatch):
    """What every sleep of SRCCallback was given."""
    from src_plugin import sleeper

    return watch(monkeypatch, sleeper)
