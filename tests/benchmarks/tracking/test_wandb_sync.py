"""Records are mirrored once, and again when they changed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.records.record import reports_by_experience
from benchmarks.tracking import sync as wandb_sync
from benchmarks.tracking.logger import is_mirrored, run_id
from benchmarks.tracking.settings import WandbSettings
from benchmarks.tracking.sync import sync
from lab_samples import FAILED, make_record
from src_plugin.errors import SRCError
from wandb_samples import (
    FIRST,
    KEY,
    REPORT,
    SECOND,
    SLEPT,
    file_of,
    homeless,
    measured,
    read_mirror,
    slept_record,
    stub_wandb,
)

OFFLINE = WandbSettings(mode="offline")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with homeless(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def test_a_report_belongs_to_the_experience_it_followed() -> None:
    assert reports_by_experience(slept_record()) == {1: {**REPORT, "noise_strength": None}}  # every: 2
    assert list(reports_by_experience(make_record(sleep_reports=[REPORT, REPORT]))) == [0, 1]


def test_a_folder_is_mirrored_once_and_what_changed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Console
) -> None:
    run, inits = stub_wandb(monkeypatch)
    slept, failed = slept_record(), slept_record(seed=4, sleep_reports=[], **FAILED)
    for record in (slept, failed):
        path = file_of(record, tmp_path)
    file_of(slept, tmp_path).with_suffix(".png").touch()

    assert sync(tmp_path, settings=OFFLINE, console=console) == 0
    assert "mirrored 2 of 2 runs (offline); 0 were already" in console.file.getvalue()
    assert f"wandb sync --yes {tmp_path / 'wandb'}/offline-run-*" in console.file.getvalue()
    assert [given["name"] for given in inits] == ["tiny/naive+src/seed3", "tiny/naive+src/seed4"]
    first, second, media = [given[0] for name, given, _ in run.told if name == "log"]
    assert (first, second) == (FIRST, {**SECOND, **SLEPT, "time/sleep_seconds": 0.25})
    assert media["picture"] == str(file_of(slept, tmp_path).with_suffix(".png"))

    assert sync(tmp_path, settings=OFFLINE, console=console) == 0
    assert "mirrored 0 of 0 runs (offline); 2 were already" in console.file.getvalue()
    assert len(inits) == 2
    other = OFFLINE.model_copy(update={"project": "another"})
    assert sync(tmp_path, settings=other, console=console) == 0
    assert [given["project"] for given in inits[2:]] == ["another"] * 2

    file_of(slept_record(seed=4), tmp_path)  # it was tried again, and done
    assert sync(tmp_path, settings=OFFLINE, console=console) == 0
    assert inits[-1]["id"] == inits[1]["id"]  # replaces the failed one
    assert len(inits) == 5
    (marks,) = (tmp_path / "wandb" / "mirrored").glob(f"{inits[1]['id']}.json")
    marks.write_text("{", encoding="utf-8")  # a spoilt mark is none
    assert sync(tmp_path, settings=OFFLINE, console=console) == 0
    assert len(inits) == 6
    assert path.is_file()


def test_what_is_mirrored_into_one_folder_is_not_mirrored_into_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Console
) -> None:
    _, inits = stub_wandb(monkeypatch)
    record = slept_record()
    for folder in ("a", "b"):
        file_of(record, tmp_path / folder)
    a, b = (OFFLINE.model_copy(update={"dir": tmp_path / name}) for name in ("elsewhere", "further"))
    for folder, settings in (("a", OFFLINE), ("b", OFFLINE), ("a", a), ("a", b)):
        assert sync(tmp_path / folder, settings=settings, console=console) == 0
        assert is_mirrored(record, settings.decided(beside=tmp_path / folder))
    assert console.file.getvalue().count("mirrored 1 of 1 runs (offline); 0 were already") == 4
    assert [Path(given["dir"]).name for given in inits] == ["a", "b", "elsewhere", "further"]
    online = WandbSettings(mode="online", project="src-plugin", dir=tmp_path / "a")
    assert not is_mirrored(record, online)


def test_syncing_gives_up_when_nothing_gets_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Console
) -> None:
    tried = []
    monkeypatch.setattr(wandb_sync, "log_record", lambda record, **_: tried.append(record.seed) or "no answer")
    for seed in range(5):
        file_of(slept_record(seed=seed), tmp_path)
    assert sync(tmp_path, settings=OFFLINE, console=console) == 1
    assert tried == [0, 1, 2]
    assert "mirrored 0 of 5 runs (offline); 0 were already" in console.file.getvalue()


def test_a_folder_without_records_is_an_error(tmp_path: Path, console: Console) -> None:
    with pytest.raises(SRCError, match="there are no records"):
        sync(tmp_path / "none", settings=OFFLINE, console=console)


@pytest.mark.slow
def test_wandb_gets_the_same_from_a_record(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Console
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    out = tmp_path / "out"
    slept, failed = slept_record(), slept_record(seed=4, sleep_reports=[], **FAILED)
    for record in (slept, failed):
        file_of(record, out)
    assert sync(out, settings=OFFLINE, console=console) == 0
    facts = {"config_name": "tiny", "strategy": "naive+src", "commit": "unknown"}
    mirror = read_mirror(out, run_id(hash8=slept.hash, seed=3, **facts))
    assert [measured(row) for row in mirror.rows[:2]] == [FIRST, {**SECOND, **SLEPT, "time/sleep_seconds": 0.25}]
    assert (mirror.config["versions"], mirror.exit_code) == ({"torch": "2.8"}, 0)
    mirror = read_mirror(out, run_id(hash8=failed.hash, seed=4, **facts))
    assert (mirror.exit_code, mirror.rows) == (1, [])
    assert (mirror.summary["status"], mirror.summary["error"]) == ("failed", "no")
    assert mirror.tags == ["digits", "naive+src", "sleep", "failed"]
