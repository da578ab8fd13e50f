"""How far confidence can be believed: by hand, in a run before and after its sleeps, and in records from before."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.records.record import as_bytes
from benchmarks.runs.calibration import calibrate, calibration_of
from benchmarks.runs.runner import run
from benchmarks.streams.stream import build_stream
from lab_samples import make_record


def test_scores_of_one_who_is_three_quarters_sure_and_right_every_other_time():
    logits = torch.tensor([[math.log(3.0), 0.0]]).expand(2, 2)
    found = calibration_of(logits, torch.tensor([0, 1]))
    assert found["ece"] == pytest.approx(0.25)
    assert found["brier"] == pytest.approx((2 * 0.25**2 + 2 * 0.75**2) / 2)
    assert found["nll"] == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2, abs=1e-6)


def test_a_run_has_scores_before_and_after_every_sleep(tiny: RunConfig, digits: Dataset):
    slept = run(tiny, strategy="naive+src", seed=0, data=digits)
    assert slept.calibration is not None
    assert len(slept.calibration) == len(slept.sleep_reports) == 3
    assert slept.calibration[-1]["before"] != slept.calibration[-1]["after"]
    awake = run(tiny, strategy="naive", seed=0, data=digits)
    assert awake.calibration is not None
    assert all(pair["before"] == pair["after"] for pair in awake.calibration)


def test_it_is_over_what_was_seen(tiny: RunConfig, digits: Dataset):
    stream = build_stream(tiny.stream, data=digits, seed=0)
    assert [stream.n_seen(i) for i in range(3)] == [1, 2, 3]
    joint = build_stream(tiny.stream, data=digits, seed=0, at_once=True)
    assert joint.n_seen(0) == 3


def test_a_method_that_answers_otherwise_than_by_its_outputs_has_none(tiny: RunConfig, digits: Dataset):
    stream = build_stream(tiny.stream, data=digits, seed=0)
    way = SimpleNamespace(classifiers=lambda strategy: {"nearest": lambda x: x})
    other = SimpleNamespace(model=nn.Linear(64, 10), plugins=[way])
    assert calibrate(other, stream.tests) is None


def test_records_from_before_are_read_and_rows_must_fit():
    assert make_record().calibration is None
    pair = {"before": None, "after": {"ece": 0.1, "brier": 0.2, "nll": None}}
    record = make_record(calibration=[pair, pair])
    assert b'"ece": 0.1' in as_bytes(record)
    with pytest.raises(ValidationError, match="calibration and accuracy differ"):
        make_record(calibration=[pair])


def test_the_mean_over_classes_weighs_rare_ones_like_all():
    logits = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    assert calibration_of(logits, torch.tensor([0, 0, 0, 1]))["class_mean"] == 0.5
