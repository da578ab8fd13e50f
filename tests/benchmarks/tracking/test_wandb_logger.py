"""The mirror in W&B: every number of a run is in wandb's own file, nothing else is, and its failures stay its own."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib import image

from benchmarks.records.record import read_record
from benchmarks.tracking.logger import RunLog, is_mirrored, metrics_of, run_id, summary_of
from benchmarks.tracking.settings import WandbSettings
from benchmarks.tracking.sync import log_record
from lab_samples import FAILED, RAW, make_record
from places import ROOT
from wandb_samples import (
    FIRST,
    KEY,
    REPORT,
    SECOND,
    SLEPT,
    SUMMARY,
    Server,
    file_of,
    homeless,
    measured,
    read_mirror,
    slept_record,
    stub_wandb,
)

KINDS = {"header", "run", "telemetry", "metric", "summary", "history", "artifact", "files", "config", "exit"}
"""What wandb's file may hold of a run: no environment, stats, output or packages."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with homeless(tmp_path, monkeypatch) as folder:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield folder


def open_log(strategy: str, settings: WandbSettings, **changes: Any) -> RunLog:
    """Begin to mirror the run of `slept_record`, with changes."""
    config = {**slept_record().config, "strategy": strategy, **changes}
    return RunLog.open(config, config_name="tiny", strategy=strategy, seed=3, settings=settings)


def live(log: RunLog) -> None:
    """Log the two experiences of `slept_record` as a running run does."""
    log.experience(0, before=[1.0, 0.0], after=[1.0, 0.0], report=None, train_seconds=0.5, sleep_seconds=0.0)
    log.experience(1, before=[0.1, 0.9], after=[1 / 3, 0.8], report=REPORT, train_seconds=1.5, sleep_seconds=0.25)


ROWS = [
    {**FIRST, "time/train_seconds": 0.5, "time/sleep_seconds": 0.0},
    {**SECOND, **SLEPT, "time/train_seconds": 1.5, "time/sleep_seconds": 0.25},
]


# --- what is logged ---------------------------------------------------------------------------------------------------


def test_the_metrics_of_an_experience() -> None:
    rows = {"before": [0.1, 0.9], "after": [1 / 3, 0.8]}
    assert metrics_of(2, **rows, n_seen=2, report=REPORT, train_seconds=1.5, sleep_seconds=0.25) == ROWS[1]
    assert metrics_of(2, **rows, n_seen=2, report=None, train_seconds=None, sleep_seconds=None) == SECOND


def test_the_mean_is_over_what_was_seen() -> None:
    row = [0.9, 0.5, 0.1]
    for n_seen, mean in [(1, 0.9), (2, 0.7), (3, 0.5)]:
        metrics = metrics_of(1, before=row, after=row, n_seen=n_seen, report=None, train_seconds=0, sleep_seconds=0)
        assert metrics["after_sleep/mean_seen"] == pytest.approx(mean)


def test_the_summary_is_what_the_matrix_gives() -> None:
    assert summary_of(make_record()) == pytest.approx(SUMMARY)
    ways = {"ncm": RAW["accuracy"], "outputs": [[1.0, 0.0], [0.4, 0.8]]}
    assert summary_of(make_record(accuracy_by=ways))["final_accuracy_by/outputs"] == pytest.approx(0.5)  # (12 + 8) / 40
    facts = {name: SUMMARY[name] for name in ("kept_bytes", "train_seconds", "sleep_seconds", "total_seconds")}
    assert summary_of(make_record(**FAILED)) == {**facts, "status": "failed", "error": "no"}


def test_the_id_is_the_same_for_the_same_run_only() -> None:
    parts: dict[str, Any] = {"hash8": "01234567", "config_name": "c", "strategy": "naive", "seed": 0, "commit": "abc"}
    others: dict[str, Any] = {"hash8": "0", "config_name": "d", "strategy": "joint", "seed": 1, "commit": "unknown"}
    ids = {run_id(**parts), *(run_id(**{**parts, name: other}) for name, other in others.items())}
    assert len(ids) == 6
    assert run_id(**parts) == run_id(**parts)
    assert all(len(id) == 16 and id.isalnum() for id in ids)


def test_what_wandb_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, inits = stub_wandb(monkeypatch)
    record, settings = slept_record(), WandbSettings(mode="offline", dir=tmp_path, tags=["mine"])
    with open_log("naive+src", settings) as log:
        live(log)
        log.close(record, path=file_of(record, tmp_path))
    (given,) = inits
    assert (given["id"], given["mode"], given["dir"]) == (log.id, "offline", str(tmp_path))
    assert (given["group"], given["job_type"]) == (f"tiny/naive+src/{record.hash}", "naive+src")
    assert given["tags"] == ["digits", "naive+src", "sleep", "mine"]
    assert {**given["config"], **record.config, "seed": 3, "hash": record.hash} == given["config"]
    assert set(given["config"]["versions"]) >= {"python", "torch", "src-plugin"}
    off = ("disable_git", "disable_code", "x_disable_meta", "x_disable_machine_info", "x_disable_stats")
    assert all(given["settings"][switch] for switch in off)
    assert given["environment"]["WANDB_ERROR_REPORTING"] == "false"
    assert "WANDB_ERROR_REPORTING" not in os.environ
    *rows, media = [rows[0] for name, rows, _ in run.told if name == "log"]
    assert rows == ROWS
    assert media["accuracy_after_sleep"] == {
        "columns": ["trained", "experience_1", "experience_2"],
        "data": [[1, 1.0, 0.0], [2, 1 / 3, 0.8]],
    }
    assert media["accuracy_before_sleep"]["data"] == [[1, 1.0, 0.0], [2, 0.1, 0.9]]
    assert run.summary == pytest.approx(SUMMARY)
    assert run.told[-1] == ("finish", (), {"exit_code": 0})
    assert is_mirrored(read_record(file_of(record, tmp_path)), settings.decided())  # so that `sync` leaves it out


def test_the_mean_of_joint_training_is_over_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = stub_wandb(monkeypatch)
    log = open_log("joint", WandbSettings(mode="offline", dir=tmp_path))
    log.experience(0, before=[0.8, 0.4], after=[0.8, 0.4], report=None, train_seconds=1.0, sleep_seconds=0.0)
    assert run.told[-1][1][0]["after_sleep/mean_seen"] == pytest.approx(0.6)


def test_an_exception_marks_the_run_as_failed_and_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = stub_wandb(monkeypatch)
    with pytest.raises(ZeroDivisionError), open_log("naive", WandbSettings(mode="offline", dir=tmp_path)):
        raise ZeroDivisionError
    assert run.told[-1] == ("finish", (), {"exit_code": 1})


# --- a W&B that fails -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fails", "calls"),
    [
        ("init", []),
        ("define_metric", ["define_metric", "finish"]),
        ("log", ["define_metric", "define_metric", "log", "finish"]),
        ("log_artifact", ["define_metric", "define_metric", "log", "log", "log", "log_artifact", "finish"]),
        ("finish", ["define_metric", "define_metric", "log", "log", "log", "log_artifact", "finish"]),
    ],
)
def test_a_failure_of_wandb_is_one_warning_and_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, calls: list[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    run, _ = stub_wandb(monkeypatch, fails=fails)
    record, settings = slept_record(), WandbSettings(mode="offline", dir=tmp_path)
    with pytest.warns(UserWarning, match=r"W&B: tiny/naive\+src/seed3 .* wandb-sync") as warned:
        trouble = log_record(record, path=file_of(record, tmp_path), settings=settings)
    assert len(warned) == 1
    assert trouble is not None
    assert KEY not in str(warned[0].message) + trouble
    assert run.calls == calls
    assert not is_mirrored(record, settings.decided())


def test_a_wandb_that_never_answers_is_asked_three_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, inits = stub_wandb(monkeypatch, fails="init")
    with pytest.warns(UserWarning, match="no answer") as warned:
        logs = [open_log("naive", WandbSettings(mode="offline", dir=tmp_path), n=k) for k in range(5)]
    assert (len(inits), len(warned)) == (3, 3)
    assert all(log.trouble for log in logs)
    logs[4].close(slept_record())


# --- what lies in wandb's own file ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_everything_of_a_run_is_in_wandbs_file(home: Path, tmp_path: Path) -> None:
    record, out = slept_record(), tmp_path / "out"
    path, picture = file_of(record, out), tmp_path / "picture.png"
    image.imsave(picture, [[0.0, 1.0], [1.0, 0.0]])
    streams = sys.stdout, sys.stderr
    with open_log("naive+src", WandbSettings(mode="offline", dir=out, tags=["mine"])) as log:
        live(log)
        log.close(record, picture=picture, path=path)
        live(log)  # too late
    assert log.trouble is None
    assert (sys.stdout, sys.stderr) == streams

    mirror = read_mirror(out, log.id)
    *rows, media = mirror.rows
    assert [measured(row) for row in rows] == ROWS
    (files,) = out.glob("wandb/offline-run-*/files")
    matrices = {"accuracy_after_sleep": record.accuracy, "accuracy_before_sleep": record.accuracy_before_sleep}
    for name, matrix in matrices.items():
        table = json.loads((files / media[name]["path"]).read_text(encoding="utf-8"))
        assert table["columns"] == ["trained", "experience_1", "experience_2"]
        assert matrix is not None
        assert table["data"] == [[1, *matrix[0]], [2, *matrix[1]]]
    assert (files / media["picture"]["path"]).read_bytes() == picture.read_bytes()
    (content,) = mirror.artifacts[f"record-{log.id}"].manifest.contents
    assert content.path == path.name
    assert Path(content.local_path).read_bytes() == path.read_bytes()
    assert Path(content.local_path).is_relative_to(out / "wandb")

    own = {"config_name": "tiny", "hash": record.hash, "seed": 3, "features": None}
    provenance = {"commit": "unknown", "versions": {"torch": "2.8"}, "tree_clean": None, "hardware": {"cores": 2}}
    classes = {"class_order": [0, 1], "experiences": [["0"], ["1"]], "n_test": [30, 10]}
    assert measured(mirror.config) == {**record.config, **own, **provenance, **classes}
    assert {name: mirror.summary[name] for name in SUMMARY} == pytest.approx(SUMMARY)
    assert mirror.summary["sleep/settled_at"] == 0.7  # the last of each metric is there by itself
    axes = [(metric.name, metric.glob_name, metric.step_metric) for metric in mirror.metrics]
    assert axes == [("experience", "", ""), ("", "*", "experience")]
    run = mirror.run
    assert (run.project, run.display_name, run.job_type) == ("src-plugin", "tiny/naive+src/seed3", "naive+src")
    assert (run.run_group, mirror.exit_code) == (f"tiny/naive+src/{record.hash}", 0)
    assert list(run.tags) == ["digits", "naive+src", "sleep", "mine"]

    assert (run.host, run.git.commit) == ("", "")
    assert mirror.kinds <= KINDS
    assert {path.parent.name for path in files.rglob("*") if path.is_file()} == {"table", "images"}
    assert not list(out.rglob("latest-run"))  # a link that workers would fight over
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {".wandb", ".log", ".json", ".png"} <= {path.suffix for path in written}
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
    assert [path.name for path in home.iterdir()] == [".cache"]  # of wandb's service; the current folder stays clean


@pytest.mark.slow
def test_wandb_is_told_of_an_exception(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_log("naive", WandbSettings(mode="offline", dir=tmp_path)) as log:
        raise ZeroDivisionError
    mirror = read_mirror(tmp_path, log.id)
    assert (mirror.exit_code, mirror.rows) == (1, [])


# --- what goes over the network ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_only_what_belongs_to_the_run_is_sent(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    record, settings = slept_record(), WandbSettings(finish_timeout=5.0)
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert log_record(record, path=file_of(record, tmp_path / "out"), settings=settings) is None
        server.close()
    sent = b"\n".join(server.bodies)
    for wanted in (b"after_sleep/mean_seen", b"final_accuracy", b"sleep/settled_at", b"digits", b'"benchmarks"'):
        assert wanted in sent
    for unwanted in (KEY, str(tmp_path), str(ROOT), sys.executable, f'"{socket.gethostname()}"'):
        assert unwanted.encode() not in sent, unwanted
    assert is_mirrored(record, settings.decided(beside=tmp_path / "out"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_there_at_first", "trouble"), [(False, "could not be opened"), (True, "record could not be logged")]
)
def test_a_network_that_is_gone_costs_one_warning(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there_at_first: bool, trouble: str
) -> None:
    from wandb.apis.public import Api

    monkeypatch.setattr(Api, "_HTTP_TIMEOUT", 1)  # wandb reads WANDB_HTTP_TIMEOUT when it is imported; 19 s by default
    record = slept_record()
    path = file_of(record, tmp_path / "out")
    settings = WandbSettings(dir=tmp_path / "out", init_timeout=20.0 if is_there_at_first else 0.5, finish_timeout=0.5)

    def run(server: Server) -> RunLog:
        if not is_there_at_first:
            server.close()
        log = open_log("naive+src", settings)
        if is_there_at_first:
            server.close()
        live(log)
        log.close(record, path=path)
        return log

    started = time.perf_counter()
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        with pytest.warns(UserWarning, match=f"W&B: .* {trouble}") as warned:
            log = run(server)
    assert time.perf_counter() - started < 20
    assert len(warned) == 1
    assert log.trouble is not None
    assert log.trouble.startswith(trouble)
    assert not is_mirrored(record, settings.decided())
