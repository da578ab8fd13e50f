"""Records: what is written comes back, and what cannot be true is refused with the file's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.errors import RecordError
from benchmarks.records.record import Record, config_hash, find_records, finite, read_record, record_path, write_record
from lab_samples import CONFIG, NOTHING_MEASURED, RAW, make_record


def path_of(record: Record, out: Path) -> Path:
    return record_path(
        out, config_name=record.config_name, strategy=record.strategy, seed=record.seed, hash8=record.hash
    )


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    record = make_record(sleep_reports=[{"rates": [0.1, None]}])
    path = path_of(record, tmp_path)
    write_record(record, path)
    assert read_record(path) == record
    assert list(find_records(tmp_path)) == [record]
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file is left


def test_the_file_is_sorted_and_exact(tmp_path: Path) -> None:
    path = path_of(make_record(), tmp_path)
    write_record(make_record(), path)
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert list(raw) == sorted(raw)
    assert raw["schema"] == 1
    assert raw["accuracy"][1][0] == 1 / 3  # full precision
    assert path.name == f"seed3-{config_hash(CONFIG)}.json"


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert config_hash(CONFIG) == config_hash(dict(reversed(CONFIG.items())))


def test_a_write_that_fails_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = path_of(make_record(), tmp_path)
    write_record(make_record(), path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("benchmarks.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_record(make_record(kept_bytes=7), path)
    assert read_record(path) == make_record()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "percent": ({"accuracy": [[99.0, 0.0], [33.0, 80.0]]}, r"outside \[0, 1\]"),
    "wrong final": ({"final_accuracy": 0.5}, "the matrix gives 0.45"),
    "no matrix": (NOTHING_MEASURED, "there is no accuracy"),
    "half a matrix": ({"accuracy_before_sleep": None}, "both be there"),
    "short row": ({"accuracy": [[1.0], [0.3]]}, "1 entries for 2 experiences"),
    "unequal rows": ({"accuracy_before_sleep": [[1.0, 0.0]]}, "differ in their number of rows"),
    "too many rows": ({"accuracy": RAW["accuracy"] * 2, "accuracy_before_sleep": RAW["accuracy"] * 2}, "4 rows"),
    "unknown key": ({"accuracies": []}, "accuracies"),
    "other schema": ({"schema": 2}, "schema"),
    "silent failure": ({"status": "failed"}, "does not say why"),
    "missing key": ({"seed": ...}, "seed"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_record_that_cannot_be_true_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    raw = {key: value for key, value in {**RAW, **change}.items() if value is not ...}
    path = path_of(make_record(), tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(RecordError, match=message) as caught:
        read_record(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", '{"schema": 1, "seed": 3', "[]"], ids=["empty", "torn", "cut", "list"])
def test_a_torn_file_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "seed0-00000000.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=r"seed0-00000000\.json is not a valid record"):
        list(find_records(tmp_path))


def test_a_record_under_another_name_is_refused(tmp_path: Path) -> None:
    write_record(make_record(), tmp_path / "seed4-00000000.json")
    with pytest.raises(RecordError, match="its name or its content was changed"):
        read_record(tmp_path / "seed4-00000000.json")


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="is no folder"):
        list(find_records(tmp_path / "nothing"))


def test_infinities_become_null() -> None:
    tree = {"a": [1.0, float("inf")], "b": (float("nan"), 2), "c": "inf"}
    assert finite(tree) == {"a": [1.0, None], "b": [None, 2], "c": "inf"}
