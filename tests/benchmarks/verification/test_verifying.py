"""verify: a repeat on this machine is the same run and is marked, and what a reader should know is said."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.configs.run import RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.errors import DataError, RecordError
from benchmarks.records.record import Record, find_records, record_path, write_record
from benchmarks.runs.runner import run
from benchmarks.streams.loading import Places
from benchmarks.verification import repeating
from benchmarks.verification import verifying as module
from benchmarks.verification.marks import is_verified, mark_path, read_mark
from benchmarks.verification.repeating import TOLERANCE
from benchmarks.verification.verifying import verify
from lab_samples import TINY
from src_plugin.errors import SRCError
from verification_samples import (
    ELSEWHERE,
    ORIGIN,
    REPORT,
    changed,
    raw_record,
    write,
)


@pytest.fixture
def console() -> Console:
    return Console(width=400, record=True, file=io.StringIO())


WARNED = {
    "changed files": ({"tree_clean": False}, "tree_clean", "commit first, then run"),
    "outside git": ({"tree_clean": None, "commit": "unknown"}, "commit", "from a checkout in git"),
}


@pytest.mark.parametrize(("changes", "field", "cure"), WARNED.values(), ids=WARNED)
def test_what_a_reader_should_know_is_a_warning(
    tmp_path: Path, console: Console, changes: dict[str, Any], field: str, cure: str
) -> None:
    write({**raw_record(), **changes}, tmp_path)
    write({**raw_record(), **changes, "seed": 4}, tmp_path)
    assert verify([tmp_path], console=console) == 0
    text = console.export_text()
    assert f"warning: {tmp_path}" in text
    assert cure in text
    assert "(and 1 more records)" in text  # said once


@pytest.fixture(scope="module")
def made(digits_once: Dataset) -> Record:
    """Return a real run."""
    config = RunConfig.model_validate({**TINY, "training": {**TINY["training"], "epochs": 1}})
    record = run(config, strategy="naive+src", seed=3, data=digits_once)
    return record.model_copy(update={"tree_clean": True, "commit": ORIGIN["commit"]})


@pytest.fixture(scope="module")
def digits_once() -> Dataset:
    from benchmarks.data.digits import load_digits

    return load_digits()


def put(record: Record, folder: Path) -> Path:
    path = record_path(folder, config_name="tiny", strategy=record.strategy, seed=record.seed, hash8=record.hash)
    write_record(record, path)
    return path


def test_a_run_is_repeated_to_the_bit_and_marked(tmp_path: Path, console: Console, made: Record) -> None:
    path = put(made, tmp_path)
    before = path.read_bytes()
    assert not is_verified(path)
    assert verify([tmp_path], console=console, rerun=True) == 0
    text = console.export_text()
    assert "equal to the bit" in text
    assert "runs confirmed: 1 of 1" in text
    assert is_verified(path)
    assert path.read_bytes() == before
    mark = read_mark(path)
    assert mark is not None
    assert (mark.accuracy, mark.largest_difference, mark.tolerance) == (made.accuracy, 0.0, 0.0)
    assert list(find_records(tmp_path)) == [made]  # the mark is no record
    assert verify([path], console=console) == 0

    path.write_bytes(before.replace(b'"total": ', b'"total": 1'))  # another file, and so not the one that was repeated
    assert not is_verified(path)
    assert verify([path], console=console) == 1
    assert f"{mark_path(path)}: record_sha256 is that of another file" in console.export_text()


def test_an_untrue_accuracy_is_not_confirmed(tmp_path: Path, console: Console, made: Record) -> None:
    path = put(changed(made, right=-1), tmp_path)
    assert verify([tmp_path], console=console) == 0  # nothing in the file itself gives it away
    assert verify([tmp_path], console=console, rerun=True) == 1
    text = console.export_text()
    assert f"{path}: accuracy[2][2] is 0.37 points from the repeat's" in text
    assert "runs confirmed: 0 of 1" in text
    assert not mark_path(path).exists()


def test_a_run_of_another_seed_is_not_confirmed(tmp_path: Path, console: Console, made: Record) -> None:
    put(made.model_copy(update={"seed": 4}), tmp_path)
    assert verify([tmp_path], console=console) == 0
    assert verify([tmp_path], console=console, rerun=True) == 1


def test_a_small_difference_elsewhere_is_marked_with_its_size(tmp_path: Path, console: Console, made: Record) -> None:
    path = put(changed(made, right=-1, **ELSEWHERE), tmp_path)
    assert verify([tmp_path], console=console, rerun=True) == 0
    assert "at most 0.37 points apart, in accuracy[2][2], within 2.5" in console.export_text()
    mark = read_mark(path)
    assert mark is not None
    assert mark.largest_difference == pytest.approx(100 / 269)
    assert mark.tolerance == TOLERANCE


def test_a_repeat_that_fails_is_a_finding_and_the_next_goes_on(
    tmp_path: Path, console: Console, made: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails, goes = put(made, tmp_path), put(made.model_copy(update={"seed": 4}), tmp_path)

    def repeat(record: Record, **settings: Any) -> Record:
        if record.seed == 3:
            raise RuntimeError("no memory")
        return record  # itself: this is about what goes on, not about what is found

    monkeypatch.setattr(module, "repeat", repeat)
    assert verify([tmp_path], console=console, rerun=True) == 1
    assert f"{fails}: run is ended in RuntimeError: no memory; expected done, as recorded" in console.export_text()
    assert (is_verified(fails), is_verified(goes)) == (False, True)


def test_a_repeat_by_code_that_no_commit_names_is_warned_of(
    tmp_path: Path, console: Console, made: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(made, tmp_path)
    monkeypatch.setattr(module, "repeat", lambda record, **_: record)
    for is_clean, warned in ((True, False), (False, True), (None, True)):
        monkeypatch.setattr(module, "commit", lambda is_clean=is_clean: (ORIGIN["commit"], is_clean))
        assert verify([tmp_path], console=console, rerun=True) == 0
        assert ("no commit names the code" in console.export_text()) is warned


def test_only_some_seeds_are_repeated(
    tmp_path: Path, console: Console, made: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(made, tmp_path), put(made.model_copy(update={"seed": 4}), tmp_path)
    seen: list[int] = []
    monkeypatch.setattr(module, "repeat", lambda record, **_: seen.append(record.seed) or record)
    assert verify([tmp_path], console=console, rerun=True, seeds=[4]) == 0
    assert seen == [4]
    with pytest.raises(SRCError, match=r"nothing to repeat: of 2 records none is of a run .* with seed 5 or 6"):
        verify([tmp_path], console=console, rerun=True, seeds=[5, 6])


def test_what_is_wrong_is_not_repeated(tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    write({**raw_record(), "kept_bytes": -1}, tmp_path)
    monkeypatch.setattr(module, "repeat", lambda *_, **__: pytest.fail("repeated"))
    assert verify([tmp_path], console=console, rerun=True) == 1


def test_threads_are_those_of_the_record_and_then_as_before(
    made: Record, digits_once: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    given: list[int] = []

    def fake(*_: Any, threads: int, **__: Any) -> Record:
        given.append(threads)
        torch.set_num_threads(threads)
        return made

    monkeypatch.setattr("benchmarks.runs.runner.run", fake)
    before = torch.get_num_threads()
    repeating.repeat(made.model_copy(update={"hardware": {"threads": 2}}), data=digits_once)
    repeating.repeat(made, data=digits_once, threads=3)
    assert given == [2, 3]
    assert torch.get_num_threads() == before


def test_missing_data_are_said_before_anything_runs(
    tmp_path: Path, console: Console, made: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(made, tmp_path)
    stream = {"stream": {"dataset": "mnist", "n_experiences": 5}}
    raw = raw_record("naive+src", **stream)
    zero = [[0.0] * 5] * 5
    raw |= {"experiences": [[str(2 * i), str(2 * i + 1)] for i in range(5)], "n_test": [2000] * 5}
    raw |= {"accuracy": zero, "accuracy_before_sleep": zero, "final_accuracy": 0.0, "sleep_reports": [REPORT] * 5}
    raw["seconds"] = {"train": 1.0, "sleep": 0.6, "total": 2.0}
    write(raw, tmp_path)
    monkeypatch.setattr(module, "repeat", lambda *_, **__: pytest.fail("repeated"))
    with pytest.raises(DataError, match="MNIST is not there"):
        verify([tmp_path], console=console, rerun=True, places=Places((tmp_path,)))


def test_a_request_that_cannot_be_met_is_refused(tmp_path: Path, console: Console) -> None:
    with pytest.raises(RecordError, match=r"there is no .*nowhere"):
        verify([tmp_path / "nowhere"], console=console)
    with pytest.raises(RecordError, match="there are no records in"):
        verify([tmp_path], console=console)


def test_a_broken_mark_is_an_error_that_names_it(tmp_path: Path, console: Console) -> None:
    path = write(raw_record(), tmp_path)
    mark_path(path).write_text("{}", encoding="utf-8")
    with pytest.raises(RecordError, match="is no mark of a repeat"):
        is_verified(path)
    assert verify([tmp_path], console=console) == 1
    assert str(mark_path(path)) in console.export_text()


def test_a_record_given_twice_is_checked_once(tmp_path: Path, console: Console) -> None:
    path = write(raw_record(), tmp_path)
    assert verify([tmp_path, path], console=console) == 0
    assert "records checked: 1, with findings: 0" in console.export_text()
