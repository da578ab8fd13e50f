"""A plain loop in several processes: two are alike, bit for bit, and have what one has with the same batches."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from places import ROOT
from src_plugin import SRC, SleepConfig, ranks
from src_plugin.errors import ConfigError


@pytest.mark.slow
def test_two_processes_of_a_plain_loop_give_what_one_gives_and_are_alike(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = str(ROOT / "tests" / "loop_ranks_script.py")
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    for n, how in ((1, []), (2, torchrun)):
        command = [sys.executable, *how, script, str(tmp_path), str(n)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
        assert ran.returncode == 0, ran.stderr
    one, first, second = (
        torch.load(tmp_path / f"rank{name}.pt", weights_only=True) for name in ("0of1", "0of2", "1of2")
    )
    assert one["nights"] == first["nights"] == second["nights"] == "3 nights: 3 slept"
    assert one["known"] == first["known"] == second["known"]
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name])
        torch.testing.assert_close(weight, one["weights"][name], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(first["total"], one["total"])


def test_a_loop_in_several_processes_keeps_no_class_means(monkeypatch):
    monkeypatch.setattr(ranks, "n_ranks", lambda: 2)
    src = SRC(nn.Linear(4, 2), SleepConfig(keep="class_means"))
    with pytest.raises(ConfigError, match=r"2 processes train, and keep='class_means'"), src.task():
        pass
