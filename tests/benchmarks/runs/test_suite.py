"""A suite: the same records from one process or two, and nothing lost but what fails."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.configs.matrix import Matrix, load_matrix
from benchmarks.configs.run import RunConfig
from benchmarks.data.known import Installed
from benchmarks.data.load import load_dataset
from benchmarks.data.sets import DATA_SETS
from benchmarks.records.record import Record, find_records, write_record
from benchmarks.runs import checkpoint, runner, suite
from benchmarks.runs.suite import by_seed, expected_seconds, plan, plan_matrix, run_suite
from lab_samples import TINY, finished
from matrix_samples import write_matrix_file
from src_plugin.errors import ConfigError

SHORT: dict[str, Any] = {**TINY, "training": {**TINY["training"], "epochs": 1}}
IMPOSSIBLE = {**SHORT, "name": "impossible", "stream": {**TINY["stream"], "class_order": [0, 1]}}
"""A config whose every run fails: its order names two classes of ten."""


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    return load_matrix(write_matrix_file(tmp_path))


@pytest.fixture
def console() -> Console:
    return Console(width=120, record=True, file=io.StringIO())


def accuracies(records: list[Record]) -> list[tuple[str, str, int, Any]]:
    return [(record.config_name, record.strategy, record.seed, record.accuracy) for record in records]


def test_a_matrix_is_planned_seed_by_seed(matrix: Matrix, tmp_path: Path) -> None:
    jobs = plan_matrix(matrix, methods=["naive", "naive+src"], seeds=[3, 1], out=tmp_path)
    assert [(job.config.name, job.strategy, job.seed) for job in jobs] == [
        (f"small-digits-{regime}", strategy, seed)
        for seed in (3, 1)
        for regime, strategy in [
            ("sgd", "naive"),
            ("sgd", "naive+src"),
            ("slow", "naive"),
            ("slow", "naive+src"),
            ("replay_5", "replay"),
            ("replay_5", "replay+src"),
        ]
    ]
    assert len(plan_matrix(matrix, methods=None, seeds=[0], out=tmp_path)) == 4 + 4 + 2
    assert jobs[0].path.parent == tmp_path / "small-digits-sgd" / "naive"


def test_a_method_that_is_not_there_is_refused(matrix: Matrix, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"small has no method 'jiont'; did you mean 'joint'\?"):
        plan_matrix(matrix, methods=["jiont"], seeds=[0], out=tmp_path)
    with pytest.raises(ConfigError, match="none of these regimes of small is run with joint"):
        plan_matrix(matrix.select(regimes=["replay_5"]), methods=["joint"], seeds=[0], out=tmp_path)


def test_several_configs_are_one_suite_and_are_not_run_twice(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [RunConfig.model_validate({**SHORT, "name": name}) for name in ("first", "second")]
    jobs = [job for c in configs for job in plan(c, strategies=["naive"], seeds=[0], out=tmp_path)]
    records = run_suite(jobs, console=console, threads=1)
    assert [record.config_name for record in records] == ["first", "second"]
    assert [job.path.is_file() for job in jobs] == [True, True]
    assert "2/2 second: naive, seed 0: done" in console.export_text()

    monkeypatch.setattr(runner, "run", lambda *_, **__: pytest.fail("ran again"))
    assert run_suite(jobs, console=console) == records
    assert "already done: 2 of 2 runs" in console.export_text()


def test_what_fails_does_not_stop_the_other_configs(tmp_path: Path, console: Console) -> None:
    configs = [RunConfig.model_validate(raw) for raw in (IMPOSSIBLE, SHORT)]
    jobs = [job for c in configs for job in plan(c, strategies=["naive"], seeds=[0], out=tmp_path)]
    failed, done = run_suite(jobs, console=console, threads=1)
    assert (failed.status, done.status) == ("failed", "done")
    assert "class_order must name" in str(failed.error)
    text = console.export_text()
    assert "impossible: naive, seed 0 failed: ConfigError: " in text
    assert "1 failed" in text
    assert "Traceback" in jobs[0].path.with_suffix(".log").read_text(encoding="utf-8")


def test_data_sets_that_follow_are_loaded_too(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_upside_down() -> Any:
        digits = load_dataset("digits")
        return replace(
            digits,
            name="upside_down",
            train_images=digits.train_images.flip(1),
            test_images=digits.test_images.flip(1),
        )

    upside_down = replace(DATA_SETS["digits"], source=Installed(load_upside_down))
    monkeypatch.setitem(DATA_SETS, "upside_down", upside_down)
    raw = {**SHORT, "stream": {"dataset": "digits", "then": ["upside_down"], "samples_per_experience": 150}}
    jobs = plan(RunConfig.model_validate(raw), strategies=["naive"], seeds=[0], out=tmp_path)
    (record,) = run_suite(jobs, console=console, threads=1)
    assert record.n_test == [450, 450]
    assert record.accuracy is not None
    assert record.accuracy[0][0] > record.accuracy[0][1]


def test_a_pair_that_does_not_fit_is_skipped_with_its_reason(tmp_path: Path, console: Console) -> None:
    config = RunConfig.model_validate({**SHORT, "settings": {"memory_size": 5}})
    jobs = plan(config, strategies=["replay", "naive"], seeds=[0], out=tmp_path)
    records = run_suite(jobs, console=console, threads=1)
    assert [record.status for record in records] == ["skipped", "done"]
    text = console.export_text()
    assert "replay, seed 0 skipped: replay: a memory of 5 images is less than one exemplar" in text
    assert "failed" not in text
    log = jobs[0].path.with_suffix(".log").read_text(encoding="utf-8")
    assert "ended: skipped" in log
    assert "Traceback" not in log


def test_a_suite_cut_off_within_a_run_goes_on_there(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = plan(RunConfig.model_validate(SHORT), strategies=["naive"], seeds=[0], out=tmp_path)
    real, begun = checkpoint.save, []

    def cut(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        run_suite(jobs, console=console, threads=1)
    assert not jobs[0].path.exists()
    monkeypatch.setattr(checkpoint, "save", lambda *a, **k: (begun.append(1), real(*a, **k)))
    (record,) = run_suite(jobs, console=console, threads=1)
    assert len(begun) == 1  # of three experiences one was done, and the last needs no checkpoint
    alone = run_suite(
        plan(RunConfig.model_validate(SHORT), strategies=["naive"], seeds=[0], out=tmp_path / "alone"),
        console=console,
        threads=1,
    )
    assert accuracies([record]) == accuracies(alone)
    assert sorted(path.suffix for path in jobs[0].path.parent.iterdir()) == [".json", ".log"]
    log = jobs[0].path.with_suffix(".log").read_text(encoding="utf-8")
    assert [line.split(" ", 2)[2].partition(":")[0] for line in log.splitlines()] == [
        "tiny, naive, seed 0, config " + jobs[0].hash8,
        "experience 1 of 3",
        "cut off",
        "tiny, naive, seed 0, config " + jobs[0].hash8,
        "goes on after experience 1 of 3",
        "experience 2 of 3",
        "experience 3 of 3",
        "ended",
    ]


@pytest.mark.slow
def test_two_workers_find_what_one_finds(tmp_path: Path, console: Console) -> None:
    configs = [RunConfig.model_validate(raw) for raw in (SHORT, IMPOSSIBLE)]

    def jobs(out: Path) -> list[suite.Job]:
        return [job for c in configs for job in plan(c, strategies=["naive", "naive+src"], seeds=[0, 1], out=out)]

    alone = run_suite(jobs(tmp_path / "alone"), console=console, threads=1)
    together = run_suite(jobs(tmp_path / "together"), console=console, workers=2)
    assert accuracies(together) == accuracies(alone)
    assert [record.status for record in together] == ["done"] * 4 + ["failed"] * 4
    assert {record.hardware["threads"] for record in together} == {1}
    assert [record.commit for record in together] == [record.commit for record in alone]
    assert accuracies(sorted_records(tmp_path / "together")) == accuracies(sorted_records(tmp_path / "alone"))
    logs = [path.read_text(encoding="utf-8") for path in sorted((tmp_path / "together").rglob("*.log"))]
    assert len(logs) == 8
    assert ["Traceback" in log for log in logs] == [True] * 4 + [False] * 4  # "impossible" comes before "tiny"
    assert "4 failed" in console.export_text()


def sorted_records(folder: Path) -> list[Record]:
    return sorted(find_records(folder), key=lambda record: (record.config_name, record.strategy, record.seed))


def test_the_commit_is_read_before_anything_is_written(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "commit", lambda: ("abc", not list(tmp_path.rglob("*.json"))))
    records = run_suite(
        plan(RunConfig.model_validate(SHORT), strategies=["naive"], seeds=[0, 1], out=tmp_path),
        console=console,
        threads=1,
    )
    assert [(record.commit, record.tree_clean) for record in records] == [("abc", True)] * 2


@pytest.mark.slow
def test_runs_are_mirrored_offline_and_those_that_are_done_once(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.tracking.settings import WandbSettings

    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(name, raising=False)
    settings = WandbSettings(mode="offline").decided(beside=tmp_path)
    jobs = plan(RunConfig.model_validate(SHORT), strategies=["naive", "naive+src"], seeds=[0], out=tmp_path)

    def mirrors() -> int:
        return len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb")))

    run_suite(jobs[:1], console=console, threads=1)
    run_suite(jobs, console=console, threads=1, wandb=settings)
    assert mirrors() == 2  # the one that was done before, too
    assert len(list((tmp_path / "wandb" / "mirrored").iterdir())) == 2
    run_suite(jobs, console=console, threads=1, wandb=settings)
    assert mirrors() == 2


def test_jobs_are_sorted_by_the_place_of_their_seeds(tmp_path: Path) -> None:
    configs = [RunConfig.model_validate({**SHORT, "name": name}) for name in ("first", "second")]
    jobs = [job for c in configs for job in plan(c, strategies=["naive"], seeds=[7, 2], out=tmp_path)]
    assert [job.full_name for job in by_seed(jobs, [7, 2])] == [
        "first: naive, seed 7",
        "second: naive, seed 7",
        "first: naive, seed 2",
        "second: naive, seed 2",
    ]


def test_the_expected_time_is_the_median_of_other_seeds_each_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, made = [2.0, 9.0, 4.0], finished("naive", 0, 0.5)
    folder = tmp_path / "tiny" / "naive"
    for seed, total in enumerate(times):
        seconds = {"train": 1.0, "sleep": 0.0, "total": total}
        record = finished("naive", seed, 0.5, seconds=seconds)
        write_record(record, folder / f"seed{seed}-{made.hash}.json")
    jobs = [
        suite.Job(strategy, seed, tmp_path / "tiny" / strategy / f"seed{seed}-{made.hash}.json", RunConfig(**SHORT))
        for seed in range(3, 6)
        for strategy in ("naive", "joint")
    ]
    read: list[Path] = []
    real = suite.read_record
    monkeypatch.setattr(suite, "read_record", lambda path: (read.append(path), real(path))[1])
    assert expected_seconds(jobs) == [4.0, None] * 3
    assert len(read) == 3  # not once for every job


def test_a_suite_does_not_go_on_beside_records_of_other_features(tmp_path: Path) -> None:
    config = RunConfig.model_validate(SHORT)
    pixels = load_dataset("digits", data_root=None)
    (job,) = plan(config, strategies=["naive"], seeds=[0], out=tmp_path)
    old = finished("naive", 0, 0.2, features={"key": "old"})
    same = replace(pixels, provenance={"key": "old"})
    suite._refuse_other_features(config, same, {job: old})
    suite._refuse_other_features(config, pixels, {job: finished("naive", 0, 0.2)})
    with pytest.raises(ConfigError, match=r"seed0-.* on other images or features \(old\) than .* \(new\).*--out"):
        suite._refuse_other_features(config, replace(pixels, provenance={"key": "new"}), {job: old})
