"""SleepMetrics in the evaluator of a real strategy: what each logger of Avalanche's shows of each night."""

import csv
import io
import re

import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import CSVLogger, InteractiveLogger, TensorboardLogger, TextLogger
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin

from models import changed, copies
from places import ROOT
from plugin_samples import QUICK, NoLogger, benchmark, decisions, digits_by_task, network
from src_plugin import SleepConfig, SleepMetrics
from src_plugin.plugin import SRCPlugin

HERE = "/train_phase/train_stream"


def learn(*plugins, loggers=None, tests=None, metrics=(), model=None, stream=None, evaluate=False):
    """Train on two experiences of blobs, evaluating after each if asked; return strategy and benchmark."""
    torch.manual_seed(0)
    blobs, model = benchmark(), model or network()
    tests = blobs.test_stream if tests == "all" else tests
    strategy = Naive(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5), train_mb_size=10,
        train_epochs=5, plugins=list(plugins),
        evaluator=EvaluationPlugin(SleepMetrics(tests), *metrics, loggers=loggers or [NoLogger()]),
    )  # fmt: skip
    for experience in stream or blobs.train_stream:
        strategy.train(experience)
        if evaluate:
            strategy.eval(blobs.test_stream)
    return strategy, blobs


def nights(strategy, name):
    return strategy.evaluator.get_all_metrics()[f"Sleep_{name}{HERE}"][1]


def test_every_night_has_its_status_depth_fractions_and_seconds():
    plugin = SRCPlugin(QUICK)
    strategy, _ = learn(plugin)
    assert nights(strategy, "Status") == [3, 3]
    assert nights(strategy, "Depth") == [report.strength for report in plugin.reports]
    assert nights(strategy, "Fraction_0") == [report.fractions[0] for report in plugin.reports]
    assert nights(strategy, "Fraction_2") == [report.fractions[1] for report in plugin.reports]
    assert nights(strategy, "Seconds") == [report.seconds for report in plugin.reports]
    assert f"Sleep_Accuracy_After{HERE}" not in strategy.evaluator.get_all_metrics()


def test_accuracy_after_is_that_of_avalanche_and_before_is_that_of_the_network_that_has_not_slept_yet():
    stream = accuracy_metrics(stream=True)
    strategy, blobs = learn(SRCPlugin(QUICK), tests="all", metrics=[stream], evaluate=True)
    theirs = strategy.evaluator.get_all_metrics()["Top1_Acc_Stream/eval_phase/test_stream/Task000"][1]
    assert nights(strategy, "Accuracy_After") == theirs
    awake, _ = learn(tests="all", metrics=[stream], stream=blobs.train_stream[:1], evaluate=True)
    without = awake.evaluator.get_all_metrics()["Top1_Acc_Stream/eval_phase/test_stream/Task000"][1]
    assert nights(strategy, "Accuracy_Before")[:1] == without


def test_measuring_changes_no_bit_of_the_training():
    measured, _ = learn(SRCPlugin(QUICK), tests="all")
    plain, _ = learn(SRCPlugin(QUICK))
    assert changed(measured.model, copies(plain.model)) == []
    assert all(part.training for part in measured.model.modules())


def test_a_night_awake_has_one_accuracy_and_no_depth():
    plugin = SRCPlugin(QUICK)
    strategy, _ = learn(plugin, ReplayPlugin(mem_size=40), tests="all")
    assert decisions(plugin) == ["slept", "awake"]
    assert [str(status) for status in nights(strategy, "Status")] == ["slept", "awake"]
    assert nights(strategy, "Depth")[1] == 0
    assert nights(strategy, "Accuracy_Before")[1] == nights(strategy, "Accuracy_After")[1]


def test_with_every_second_night_only_that_one_is_told():
    assert len(nights(learn(SRCPlugin(QUICK, every=2))[0], "Status")) == 1


def test_without_a_plugin_nothing_is_told():
    assert list(learn()[0].evaluator.get_all_metrics()) == []


def test_a_settled_night_is_told_as_such():
    # The first night has nothing to settle.
    strategy, _ = learn(SRCPlugin(SleepConfig(sleep=None)))
    assert [str(status) for status in nights(strategy, "Status")] == ["awake", "settled"]


def test_of_heads_for_each_task_accuracy_is_left_out():
    from avalanche.models import MTSimpleMLP

    stream = digits_by_task(2)
    with pytest.warns(UserWarning, match="one head per task"):
        strategy, _ = learn(
            SRCPlugin(QUICK), model=MTSimpleMLP(input_size=64, hidden_size=16), stream=stream, tests=stream
        )
    assert nights(strategy, "Status") == [0, 0]
    assert f"Sleep_Accuracy_After{HERE}" not in strategy.evaluator.get_all_metrics()


# -- loggers of Avalanche's -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "interactive"])
def test_text_loggers_print_each_night_with_the_next_evaluation(kind, capsys):
    file = io.StringIO()
    learn(
        SRCPlugin(QUICK), tests="all", evaluate=True,
        loggers=[TextLogger(file) if kind == "text" else InteractiveLogger()],
    )  # fmt: skip
    said = file.getvalue() or capsys.readouterr().out
    assert said.count(f"Sleep_Status{HERE} = slept") == 2
    for name in ("Depth", "Seconds", "Fraction_0", "Accuracy_Before", "Accuracy_After"):
        assert said.count(f"Sleep_{name}{HERE} = 0.") + said.count(f"Sleep_{name}{HERE} = 1.") == 2


def test_beside_the_files_of_the_csv_logger_stands_one_of_nights(tmp_path):
    (tmp_path / "sleep_results.csv").write_text("of an earlier run\n", "utf-8")
    logger = CSVLogger(tmp_path)
    strategy, _ = learn(SRCPlugin(QUICK), tests="all", evaluate=True, loggers=[logger])
    logger.close()
    rows = list(csv.DictReader((tmp_path / "sleep_results.csv").read_text("utf-8").splitlines()))
    assert [(row["experience"], row["status"]) for row in rows] == [("0", "slept"), ("1", "slept")]
    for column, name in (("accuracy_before", "Accuracy_Before"), ("seconds", "Seconds"), ("depth", "Depth")):
        assert [float(row[column]) for row in rows] == nights(strategy, name)
    assert [len(row["fractions"].split()) for row in rows] == [2, 2]


def test_tensorboard_has_a_curve_over_nights(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorboardLogger(tmp_path)
    strategy, _ = learn(SRCPlugin(QUICK), tests="all", loggers=[logger])
    logger.writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in events.Scalars(f"Sleep_Status{HERE}")] == [3, 3]
    steps = [event.step for event in events.Scalars(f"Sleep_Accuracy_After{HERE}")]
    assert steps == strategy.evaluator.get_all_metrics()[f"Sleep_Accuracy_After{HERE}"][0]


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_example_of_the_page_writes_what_it_says(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "using.md").read_text("utf-8").split("### What loggers show")[1]
    monkeypatch.chdir(tmp_path)
    exec(compile(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], "docs/using.md", "exec"), names := {})
    for logger in names["evaluator"].loggers[:1]:  # a script leaves that to its end
        logger.close()
    rows = list(csv.DictReader((tmp_path / "csvlogs" / "sleep_results.csv").read_text("utf-8").splitlines()))
    assert [row["status"] for row in rows] == ["slept"] * 5
    assert float(rows[-1]["accuracy_before"]) < 0.4 < 0.6 < float(rows[-1]["accuracy_after"])
