"""Several processes: two are alike afterwards, bit for bit, and have what one has with the same batches."""

import os
import subprocess
import sys

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy

from places import ROOT
from src_plugin import ranks
from src_plugin.callback import check_strategy
from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError

CASES = ("digits", "rehearsal", "classes apart", "ema")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What each process has after each case, by the number of processes; all cases share one start."""
    done = {}
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp(f"of{processes}")
        command = [sys.executable, str(ROOT / "tests" / "ranks_script.py"), str(processes), str(folder), *CASES]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
        assert ran.returncode == 0, ran.stderr
        done[processes] = {
            case: [torch.load(path, weights_only=True) for path in sorted((folder / case).glob("rank*.pt"))]
            for case in CASES
        }
    return done


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_what_one_gives_and_are_alike(runs, case):
    (one,), (first, second) = runs[1][case], runs[2][case]
    assert str(first) == str(second)
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name])
        assert torch.equal(weight, first["file"][name])
        torch.testing.assert_close(weight, one["weights"][name], rtol=1e-3, atol=1e-4)
    assert "slept" in one["decisions"]
    for told in ("decisions", "samples", "known", "generator"):
        assert first[told] == one[told]
    torch.testing.assert_close(first["total"], one["total"])


def test_sharded_strategies_are_refused_by_name():
    class DeepSpeedStrategy(DDPStrategy):
        """Stands for Lightning's, which needs another package."""

    for strategy, name in ((FSDPStrategy(), "FSDPStrategy"), (DeepSpeedStrategy(), "DeepSpeedStrategy")):
        with pytest.raises(ConfigError, match=rf"cannot sleep under {name}: .*Trainer\(strategy='ddp'\)"):
            check_strategy(strategy)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_whose_memory_is_lost_are_refused_with_the_cure(method):
    strategy = DDPStrategy(start_method=method)
    with pytest.raises(
        ConfigError, match=rf"by {method}. Take .*strategy='ddp'.* in a script, or Trainer\(devices=1\)"
    ):
        check_strategy(strategy)


def test_class_means_are_refused_in_several_processes(monkeypatch):
    config = SleepConfig(keep="class_means")
    ranks.check_ranks(config)
    monkeypatch.setattr(ranks, "n_ranks", lambda: 2)
    with pytest.raises(ConfigError, match=r"2 processes train, and keep='class_means'.*Trainer\(devices=1\)"):
        ranks.check_ranks(config)
    ranks.check_ranks(SleepConfig(keep="mean"))  # as the message says
