"""A config small enough to train in a second, and the digits it trains on."""

from __future__ import annotations

import pytest

from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.data.digits import load_digits
from lab_samples import TINY


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """Return scikit-learn's digits."""
    return load_digits()


@pytest.fixture
def tiny() -> RunConfig:
    """Return a config whose run takes about a second."""
    return RunConfig.model_validate(TINY)
