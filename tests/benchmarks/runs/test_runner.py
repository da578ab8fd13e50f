"""run(): learns, repeats itself, measures what it says, and does not disturb what it measures."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.errors import ImpossibleError
from benchmarks.records.record import Record
from benchmarks.runs import runner
from benchmarks.runs.runner import SeenClasses, run
from benchmarks.streams.batches import WholeBatches
from lab_samples import PERMUTED, RETURNING, TASKS
from src_plugin.errors import ConfigError
from strategies import find_row


def without_time(record: Record) -> dict[str, object]:
    """Return what must be equal in two runs; only durations may differ."""
    raw = record.model_dump(exclude={"seconds"})
    for report in raw["sleep_reports"]:
        report.pop("seconds", None)
    return raw


def changed(config: RunConfig, **sections: dict[str, object]) -> RunConfig:
    raw = config.model_dump()
    for name, change in sections.items():
        raw[name] = {**raw[name], **change}
    return RunConfig.model_validate(raw)


def test_naive_learns_and_forgets(tiny: RunConfig, digits: Dataset) -> None:
    record = run(tiny, strategy="naive", seed=0, data=digits)
    assert record.status == "done"
    assert record.accuracy is not None
    assert [len(row) for row in record.accuracy] == [3, 3, 3]
    assert record.accuracy[0][0] > 0.8
    assert record.accuracy[0][1] == record.accuracy[0][2] == 0.0  # classes it never saw
    assert record.accuracy[1][1] > 0.8
    assert record.accuracy[2][0] < record.accuracy[0][0]
    assert record.accuracy_before_sleep == record.accuracy
    assert record.sleep_reports == []
    assert record.kept_bytes == 0
    assert record.class_order == list(range(10))
    assert sum(record.n_test) == 450
    assert 0 < record.seconds.train <= record.seconds.total
    assert record.seconds.sleep == 0


def test_joint_has_one_row_and_knows_all_classes(tiny: RunConfig, digits: Dataset) -> None:
    record = run(changed(tiny, training={"epochs": 12}), strategy="joint", seed=0, data=digits)
    assert record.accuracy is not None
    assert [len(row) for row in record.accuracy] == [3]
    assert min(record.accuracy[0]) > 0.5
    assert record.kept_bytes is None


@pytest.mark.parametrize("strategy", ["naive", "naive+src"])
def test_a_seed_decides_everything(tiny: RunConfig, digits: Dataset, strategy: str) -> None:
    first = run(tiny, strategy=strategy, seed=1, data=digits)
    torch.rand(3)  # whatever happened before must not matter
    assert without_time(run(tiny, strategy=strategy, seed=1, data=digits)) == without_time(first)
    assert run(tiny, strategy=strategy, seed=2, data=digits).accuracy != first.accuracy


def test_sleep_is_measured_on_both_sides(tiny: RunConfig, digits: Dataset) -> None:
    naive = run(tiny, strategy="naive", seed=0, data=digits)
    slept = run(tiny, strategy="naive+src", seed=0, data=digits)
    assert naive.accuracy is not None
    assert slept.accuracy is not None
    assert slept.accuracy_before_sleep is not None
    assert slept.accuracy_before_sleep[0] == naive.accuracy[0]  # the same training up to the first sleep
    assert slept.accuracy_before_sleep[1] != slept.accuracy[1]
    assert len(slept.sleep_reports) == 3
    assert slept.seconds.sleep > 0
    assert slept.kept_bytes is not None
    assert slept.kept_bytes > 0


def test_a_sleep_of_no_steps_is_the_same_run_as_none(tiny: RunConfig, digits: Dataset) -> None:
    naive = run(tiny, strategy="naive", seed=0, data=digits)
    awake = run(
        changed(tiny, sleep={"set": {"engine": "simulated", "steps": 0}}), strategy="naive+src", seed=0, data=digits
    )
    assert awake.accuracy == naive.accuracy
    assert awake.accuracy_before_sleep == naive.accuracy


def test_sleep_can_be_every_second_experience(tiny: RunConfig, digits: Dataset) -> None:
    naive = run(tiny, strategy="naive", seed=0, data=digits)
    record = run(changed(tiny, sleep={"every": 2}), strategy="naive+src", seed=0, data=digits)
    assert len(record.sleep_reports) == 1
    assert max(record.sleep_reports[0]["weight_change"]) > 0
    assert record.accuracy is not None
    assert naive.accuracy is not None
    assert record.accuracy_before_sleep is not None
    assert record.accuracy_before_sleep[:2] == naive.accuracy[:2]  # nothing slept before the end of the second
    assert record.accuracy_before_sleep[2] == record.accuracy[2]  # nor after the third


def test_divergence_is_a_result(tiny: RunConfig, digits: Dataset) -> None:
    wild = changed(tiny, training={"lr": 1e6, "loss": "squared_error"})
    record = run(wild, strategy="naive", seed=0, data=digits)
    assert record.status == "diverged"
    found = re.fullmatch(
        r"weights are not finite after experience 0; loss (nan|inf) in iteration (\d+) of experience 0; "
        r"last finite loss (.*) in iteration (\d+) of experience 0(; .*)?",
        record.error or "",
    )
    assert found
    assert int(found[2]) == int(found[4]) + 1 > 1
    assert math.isfinite(float(found[3]))
    assert record.accuracy == []
    assert record.final_accuracy is None


def test_a_last_update_that_overflows_names_the_last_loss_and_where_it_was(
    tiny: RunConfig, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overflow(torch.optim.SGD):
        """Goes too far in the 30th step, the last of the second experience."""

        n = 0

        def step(self, *arguments: Any) -> None:
            super().step(*arguments)
            self.n += 1
            if self.n == 30:
                with torch.no_grad():
                    self.param_groups[0]["params"][0].mul_(math.inf)

    monkeypatch.setattr(runner, "build_optimizer", lambda training, parameters: Overflow(parameters, lr=training.lr))
    record = run(changed(tiny, training={"epochs": 1}), strategy="naive", seed=0, data=digits)
    assert record.status == "diverged"
    found = re.fullmatch(
        r"weights are not finite after experience 1; last finite loss (.*) in iteration 15 of experience 1",
        record.error or "",
    )
    assert found
    assert math.isfinite(float(found[1]))
    assert record.accuracy is not None
    assert len(record.accuracy) == 1


def test_divergence_under_sleep_is_not_a_failure(tiny: RunConfig, digits: Dataset) -> None:
    wild = changed(tiny, training={"lr": 1e6, "loss": "squared_error"})
    assert run(wild, strategy="naive+src", seed=0, data=digits).status == "diverged"


def test_an_unknown_strategy_names_the_nearest(tiny: RunConfig, digits: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'naive\+src'"):
        run(tiny, strategy="naive+scr", seed=0, data=digits)


def on(config: RunConfig, stream: Mapping[str, object]) -> RunConfig:
    return RunConfig.model_validate({**config.model_dump(), "stream": stream})


def test_tasks_are_measured_with_their_label_and_count_nothing_before_they_begin(
    tiny: RunConfig, digits: Dataset
) -> None:
    record = run(on(tiny, TASKS), strategy="naive", seed=0, data=digits)
    assert record.accuracy is not None
    for i, row in enumerate(record.accuracy):
        assert row[i] > 0.8
        assert min(row[:i], default=1.0) > 0.4  # no class competes with those of another task
        assert row[i + 1 :] == [0.0] * (4 - i)
    assert record.experiences[1] == ["2", "3"]


def test_permuted_pixels_are_learnt_and_measured_in_their_order(tiny: RunConfig, digits: Dataset) -> None:
    record = run(on(tiny, PERMUTED), strategy="naive", seed=0, data=digits)
    assert record.accuracy is not None
    assert record.n_test == [450, 450]
    assert record.accuracy[0][0] > 0.7
    assert record.accuracy[0][1] < 0.4  # the same digits, but not as it knows them
    assert record.accuracy[1][1] > 0.7


def test_a_class_that_comes_back_is_measured_once(tiny: RunConfig, digits: Dataset) -> None:
    record = run(on(tiny, RETURNING), strategy="naive", seed=0, data=digits)
    assert record.accuracy is not None
    assert record.final_accuracy is not None
    assert [len(row) for row in record.accuracy] == [3] * 4  # the last experience brings nothing to measure
    assert sum(record.n_test) == 450
    assert record.accuracy[2][0] < 0.2
    assert record.accuracy[3][0] > 0.8  # 0 and 1 are learnt again
    right = sum(a * n for a, n in zip(record.accuracy[3], record.n_test, strict=True))
    assert record.final_accuracy == pytest.approx(right / 450)


def test_whole_batches_are_in_use_and_give_the_same_record(
    tiny: RunConfig, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(tiny, settings={"memory_size": 20})
    whole = run(config, strategy="replay", seed=0, data=digits)
    calls = []
    monkeypatch.setattr(WholeBatches, "before_training_exp", lambda self, strategy, **kwargs: calls.append(strategy))
    stock = run(config, strategy="replay", seed=0, data=digits)
    assert len(calls) == 3
    assert without_time(stock) == without_time(whole)


@pytest.mark.parametrize(
    ("strategy", "kept"),
    [
        ("replay", 45 * (64 * 4 + 8)),  # a tenth of 450 images of 8 x 8 pixels, float32, and a label each
        ("ewc", 3 * 2 * 4 * (64 * 30 + 30 * 20 + 20 * 10)),  # Fisher information and anchors of three experiences
        ("ncm", 10 * (64 * 4 + 8)),  # a mean image and a number for each class
        ("lwf", 4 * (64 * 30 + 30 * 20 + 20 * 10) + 8 * 10),  # a copy of the network, and ten class numbers
    ],
)
def test_what_a_method_keeps_is_recorded(tiny: RunConfig, digits: Dataset, strategy: str, kept: int) -> None:
    config = changed(tiny, settings={"memory_fraction": 0.1, "ewc_lambda": 10.0})
    record = run(config, strategy=strategy, seed=0, data=digits)
    assert record.status == "done"
    assert record.kept_bytes == kept
    if not find_row(strategy)[0].sleeps:
        return
    slept = run(config, strategy=f"{strategy}+src", seed=0, data=digits)
    assert slept.kept_bytes is not None
    assert slept.kept_bytes > kept


def test_settings_of_a_method_reach_it(tiny: RunConfig, digits: Dataset) -> None:
    gentle = run(changed(tiny, settings={"ewc_lambda": 0.0}), strategy="ewc", seed=0, data=digits)
    strict = run(changed(tiny, settings={"ewc_lambda": 10.0}), strategy="ewc", seed=0, data=digits)
    assert gentle.accuracy is not None
    assert strict.accuracy is not None
    assert strict.accuracy[0] == gentle.accuracy[0]  # nothing to protect yet
    assert strict.accuracy[2] != gentle.accuracy[2]


def test_the_reference_of_the_paper_has_all_images_of_seen_classes(digits: Dataset) -> None:
    class Experience:
        classes_seen_so_far = (1, 3)

    class Strategy:
        experience = Experience()

    images = SeenClasses(digits, scales=None, device="cpu")(Strategy())
    wanted = (digits.train_labels == 1) | (digits.train_labels == 3)
    assert torch.equal(images, digits.train_images[wanted])


def test_the_reference_reaches_the_sleep(tiny: RunConfig, digits: Dataset) -> None:
    own = run(tiny, strategy="naive+src", seed=0, data=digits)
    seen = run(changed(tiny, sleep={"reference": "seen_classes"}), strategy="naive+src", seed=0, data=digits)
    assert seen.accuracy_before_sleep is not None
    assert own.accuracy_before_sleep is not None
    assert seen.accuracy_before_sleep[0] == own.accuracy_before_sleep[0]
    assert seen.sleep_reports[1] != own.sleep_reports[1]


class Stop(Exception):
    """What a power cut looks like from inside."""


@pytest.mark.parametrize("strategy", ["naive+src", "replay", "ewc+src"])
def test_a_run_cut_off_goes_on_to_the_same_numbers(
    tiny: RunConfig, digits: Dataset, tmp_path: Path, strategy: str
) -> None:
    config, path = changed(tiny, settings={"memory_size": 20}), tmp_path / "seed1.checkpoint"
    begun: list[int] = []

    def cut(done: int, n: int) -> None:
        begun.append(done)
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        run(config, strategy=strategy, seed=1, data=digits, watch=cut, checkpoint=path)
    torch.rand(7)  # the generators have moved on since
    begun.clear()
    rest = run(
        config, strategy=strategy, seed=1, data=digits, checkpoint=path, watch=lambda done, n: begun.append(done)
    )
    assert begun == [2, 3]
    assert without_time(rest) == without_time(run(config, strategy=strategy, seed=1, data=digits))
    assert path.stat().st_size < digits.train_images.nbytes  # images are not copied


def test_a_checkpoint_of_another_run_is_not_used(tiny: RunConfig, digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "a.checkpoint"
    run(tiny, strategy="naive", seed=1, data=digits, checkpoint=path)
    begun: list[int] = []
    run(tiny, strategy="naive", seed=2, data=digits, checkpoint=path, watch=lambda done, n: begun.append(done))
    assert begun[0] == 0


def test_a_method_that_does_not_fit_is_refused_before_training(tiny: RunConfig, digits: Dataset) -> None:
    config = changed(tiny, settings={"memory_size": 5})
    with pytest.raises(ImpossibleError, match="a memory of 5 images is less than one exemplar for each of 10 classes"):
        run(config, strategy="replay", seed=0, data=digits, watch=lambda done, n: pytest.fail("trained"))


def test_a_method_that_finds_out_at_its_first_image_is_refused_before_training(
    digits: Dataset, tiny: RunConfig
) -> None:
    config = on(changed(tiny, settings={"memory_size": 20}), PERMUTED)
    with pytest.raises(ImpossibleError, match="class"):
        run(config, strategy="icarl_mlp", seed=0, data=digits)


def test_every_way_of_answering_is_recorded(tiny: RunConfig, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def both(strategy: Any) -> dict[str, Any]:
        return {"reversed": lambda x: -strategy.model(x), "outputs": strategy.model}

    monkeypatch.setattr("benchmarks.runs.measuring.classifiers", both)
    record = run(tiny, strategy="naive", seed=0, data=digits)
    plain = run(tiny, strategy="naive", seed=0, data=digits)
    assert record.accuracy_by is not None
    assert list(record.accuracy_by) == ["reversed", "outputs"]
    assert record.accuracy == record.accuracy_by["reversed"] == plain.accuracy
    assert record.accuracy_by["outputs"][0][0] > 0.8
    assert record.accuracy[0][0] < 0.2


def test_an_observer_is_told_of_every_experience_also_of_those_before_a_stop(
    tiny: RunConfig, digits: Dataset, tmp_path: Path
) -> None:
    heard: list[dict[str, Any]] = []

    def observe(i: int, **facts: Any) -> None:
        heard.append({"i": i, **facts})

    def cut(done: int, n: int) -> None:
        if done == 2:
            raise Stop

    kept = tmp_path / "run.checkpoint"
    with pytest.raises(Stop):
        run(tiny, strategy="naive+src", seed=0, data=digits, watch=cut, observe=observe, checkpoint=kept)
    assert [facts["i"] for facts in heard] == [0, 1]
    heard.clear()
    record = run(tiny, strategy="naive+src", seed=0, data=digits, observe=observe, checkpoint=kept)
    assert [facts["i"] for facts in heard] == [0, 1, 2]
    assert [facts["after"] for facts in heard] == record.accuracy
    assert [facts["before"] for facts in heard] == record.accuracy_before_sleep
    assert [facts["report"] for facts in heard] == record.sleep_reports
    assert sum(facts["sleep_seconds"] for facts in heard) == pytest.approx(record.seconds.sleep)
    assert sum(facts["train_seconds"] for facts in heard) == pytest.approx(record.seconds.train)
    heard.clear()
    awake = run(tiny, strategy="naive", seed=0, data=digits, observe=observe)
    assert [(facts["report"], facts["sleep_seconds"]) for facts in heard] == [(None, None)] * 3
    assert sum(facts["train_seconds"] for facts in heard) == pytest.approx(awake.seconds.train)
