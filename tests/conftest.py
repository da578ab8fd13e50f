"""What all tests share: one thread, so that sums come out in the same order, and the reference data if it is there."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder `shared` beside the checkout: reference data and images, too large or too foreign for this repository."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder 'shared' beside the checkout, with the reference data")
    return folder
