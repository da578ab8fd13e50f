"""Avalanche's logger for W&B with today's wandb, in a real strategy; what it wrote is read from wandb's own file."""

import pickle

import pytest
import torch
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin

from plugin_samples import QUICK, benchmark, network
from src_plugin import SleepMetrics, WandBLogger
from src_plugin.plugin import SRCPlugin
from wandb_samples import homeless, read_mirror


@pytest.fixture
def home(tmp_path, monkeypatch):
    with homeless(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.mark.slow
def test_a_run_shows_every_night(home):
    import wandb

    logger = WandBLogger("digits", "sleep", save_code=False, params={"mode": "offline"})
    stream, model = benchmark(), network()
    evaluator = EvaluationPlugin(SleepMetrics(stream.test_stream), loggers=[logger])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    plugin = SRCPlugin(QUICK)
    Naive(
        model=model, optimizer=optimizer, train_mb_size=10, train_epochs=5, plugins=[plugin], evaluator=evaluator
    ).train(stream.train_stream)
    assert (wandb.run.project, wandb.run.name) == ("digits", "sleep")
    wandb.finish()
    rows = read_mirror(home, logger.init_kwargs["id"]).rows
    here = "/train_phase/train_stream"
    nights = [row for row in rows if f"Sleep_Status{here}" in row]
    assert [row[f"Sleep_Status{here}"] for row in nights] == [3, 3]
    assert [row[f"Sleep_Seconds{here}"] for row in nights] == pytest.approx(
        [report.seconds for report in plugin.reports]
    )
    assert all(0 <= row[f"Sleep_Accuracy_{when}{here}"] <= 1 for row in nights for when in ("Before", "After"))


@pytest.mark.slow
def test_a_logger_of_a_checkpoint_goes_on_with_its_run(home):
    import wandb

    logger = WandBLogger(save_code=False, params={"mode": "offline"})
    logger.log_single_metric("a", 1.0, 1)
    wandb.finish()
    again = pickle.loads(pickle.dumps(logger))
    again.log_single_metric("a", 2.0, 2)
    assert wandb.run.id == logger.init_kwargs["id"]
    wandb.finish()
