"""Packs: what was collected comes back byte by byte, and a line that was changed or torn is named."""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.errors import NewerRecordError, RecordError
from benchmarks.records import packed
from benchmarks.records.collecting import collect
from benchmarks.records.record import Record, find_records, read_record, record_path, write_record
from benchmarks.runs.attempt import done_record
from benchmarks.tables.summary import make_table
from benchmarks.verification.marks import is_verified, sha256_of, write_mark
from benchmarks.verification.repeating import Comparison
from lab_samples import CONFIG, FAILED, RAW, make_record
from places import RESULTS

REPORTS = [
    {"reason": "new classes crowd out others", "rates": [0.1, None], "seconds": 0.25},
    {"reason": "", "rates": [], "gate": None, "seconds": 1e-07},
]
QUIET = Console(file=io.StringIO(), width=400)


def put(folder: Path, **changes: Any) -> Path:
    record = make_record(**changes)
    names = {"config_name": record.config_name, "strategy": record.strategy, "seed": record.seed}
    path = record_path(folder, **names, hash8=record.hash)
    write_record(record, path)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three records of two configs as `run` leaves them, one of which slept, with a log."""
    folder = tmp_path / "runs"
    put(folder, seed=10)
    put(folder, seed=9, sleep_reports=REPORTS, accuracy_before_sleep=RAW["accuracy"])
    put(folder, config_name="a-0.5", config={**CONFIG, "training": {"lr": 0.5}}).with_suffix(".log").touch()
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("seed*.json")}


def test_every_file_comes_back_byte_by_byte(runs: Path) -> None:
    before, records, table = contents(runs), list(find_records(runs)), make_table(list(find_records(runs)))
    assert collect([runs], console=QUIET) == [runs / "a-0.5.jsonl", runs / "tiny.jsonl"]
    assert not contents(runs)
    assert {path: packed.read_bytes(path) for path in before} == before
    assert list(find_records(runs)) == records  # and in the same order
    assert [str(c) for c in make_table(list(find_records(runs))).columns] == [str(c) for c in table.columns]
    assert sorted(p.relative_to(runs).as_posix() for p in runs.rglob("*") if p.is_file()) == [
        ".collect.lock", "a-0.5.jsonl", f"a-0.5/naive/seed3-{_hash(lr=0.5)}.log", "tiny.jsonl",
    ]  # fmt: skip


def _hash(*, lr: float) -> str:
    return make_record(config={**CONFIG, "training": {"lr": lr}}).hash


def test_a_pack_is_text_in_which_what_is_shared_stands_once(runs: Path) -> None:
    collect([runs], console=QUIET)
    lines = [json.loads(line) for line in (runs / "tiny.jsonl").read_text("utf-8").splitlines()]
    assert lines[0] == {"pack": 1}
    blocks = {line["block"]: line["is"] for line in lines[1:] if "block" in line}
    files = [line for line in lines[1:] if "file" in line]
    assert [line["holds"]["seed"] for line in files] == [9, 10]  # as numbers, not as text
    assert [line["file"] for line in files] == [f"naive/seed{seed}-{_hash(lr=0.1)}.json" for seed in (9, 10)]
    first, second = (line["holds"] for line in files)
    assert first["config"] == second["config"] == f"#{_hash(lr=0.1)}"  # the hash in the name of a record is this one
    assert blocks[_hash(lr=0.1)] == CONFIG
    assert (first["accuracy_before_sleep"], second["accuracy_before_sleep"]) == ("#accuracy", [[1.0, 0.0], [0.1, 0.9]])
    assert blocks[first["sleep_reports"][1][0][1:]] == ["gate", "rates", "reason", "seconds"]
    assert first["sleep_reports"][1][1:] == [None, [], "", 1e-07]


def test_adding_leaves_the_lines_of_others_as_they_were(runs: Path) -> None:
    collect([runs], console=QUIET)
    before = (runs / "tiny.jsonl").read_text("utf-8").splitlines()
    put(runs, seed=2, versions={"torch": "3.0"})
    collect([runs], console=QUIET)
    after = (runs / "tiny.jsonl").read_text("utf-8").splitlines()
    assert [line for line in after if line in before] == before
    assert len(after) == len(before) + 2  # the record, and the block of its versions
    assert [r.seed for r in find_records(runs / "tiny")] == [10, 2, 9]  # as names of files are sorted


PLACES = {"the folder of the config": "tiny", "the folder of a strategy": "tiny/naive", "the pack": "tiny.jsonl"}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_part_is_found_as_if_it_were_on_the_disk(runs: Path, place: str) -> None:
    collect([runs], console=QUIET)
    assert [r.seed for r in find_records(runs / place)] == [10, 9]


def test_collecting_elsewhere_leaves_the_files_and_adds_to_what_is_there(runs: Path, tmp_path: Path) -> None:
    before = contents(runs)
    out = tmp_path / "results"
    collect([runs], out=out, console=QUIET)
    collect([runs / "tiny"], out=out, console=QUIET)  # a folder of a config: its pack is the same
    collect([runs / "tiny" / "naive"], out=out, console=QUIET)
    assert contents(runs) == before
    assert sorted(path.name for path in out.glob("[!.]*")) == ["a-0.5.jsonl", "tiny.jsonl"]
    assert list(find_records(out)) == list(find_records(runs))


def test_a_compressed_pack_holds_the_same_and_stays_compressed(runs: Path, tmp_path: Path) -> None:
    before, records = contents(runs), list(find_records(runs))
    plain, out = tmp_path / "plain", tmp_path / "results"
    collect([runs], out=plain, console=QUIET)
    collect([runs], out=out, compress=True, console=QUIET)
    pack = out / "tiny.jsonl.gz"
    assert gzip.decompress(pack.read_bytes()) == (plain / "tiny.jsonl").read_bytes()
    assert {packed.read_bytes(out / path.relative_to(runs)) for path in before} == set(before.values())
    assert list(find_records(out)) == records
    assert [r.seed for r in find_records(pack)] == [10, 9]
    content = pack.read_bytes()
    collect([runs], out=out, console=QUIET)
    assert sorted(path.name for path in out.glob("[!.]*")) == ["a-0.5.jsonl.gz", "tiny.jsonl.gz"]
    assert pack.read_bytes() == content
    pack.write_bytes(content[:40])
    with pytest.raises(RecordError, match=r"tiny\.jsonl\.gz cannot be read"):
        list(find_records(out))


def test_a_packed_run_is_done_and_one_that_failed_is_made_again(tmp_path: Path) -> None:
    done, failed = put(tmp_path), put(tmp_path, seed=4, **FAILED)
    collect([tmp_path], console=QUIET)
    assert done_record(done) == make_record()
    assert done_record(failed) is None
    put(tmp_path, seed=4)  # the file on the disk is the newer one
    assert done_record(failed) == make_record(seed=4)
    collect([tmp_path], console=QUIET)
    assert done_record(failed) == make_record(seed=4)
    assert (tmp_path / "tiny.jsonl").read_text("utf-8").count('"file"') == 2


def test_a_record_is_never_overwritten(runs: Path) -> None:
    path = put(runs, seed=5)
    collect([runs], console=QUIET)
    before = (runs / "tiny.jsonl").read_bytes()
    put(runs, seed=5, kept_bytes=7)
    put(runs, seed=6)
    with pytest.raises(RecordError, match=rf"{path} differs from naive/{path.name} in .*tiny.jsonl:\d+, and no record"):
        collect([runs], console=QUIET)
    assert (runs / "tiny.jsonl").read_bytes() == before
    assert len(contents(runs)) == 2  # nothing was removed


def test_a_packed_run_that_was_repeated_is_verified(tmp_path: Path) -> None:
    path = put(tmp_path)
    single = sha256_of(path)
    collect([tmp_path], console=QUIET)
    assert sha256_of(path) == single
    mark = write_mark(path, make_record(), Comparison(()))
    assert mark == tmp_path / "tiny" / "naive" / f"verified-{path.name}"
    assert is_verified(path)
    collect([tmp_path], console=QUIET)  # the mark goes into the pack
    assert not mark.exists()
    assert is_verified(path)
    assert list(find_records(tmp_path)) == [make_record()]  # it is no record


def damage(pack: Path, old: str, new: str) -> int:
    """Change the last line in which something stands, and return its number."""
    lines = pack.read_text("utf-8").splitlines(keepends=True)
    number = max(k for k, line in enumerate(lines) if old in line)
    lines[number] = lines[number].replace(old, new)
    pack.write_text("".join(lines), encoding="utf-8")
    return number + 1


DAMAGED = {
    "another number": ('"kept_bytes":0', '"kept_bytes":1', "it was changed"),
    "another hash": ('"sha256":"', '"sha256":"0', "it was changed"),
    "a block that is not there": ('"versions":"#', '"versions":"#0', "cannot be put together"),
    "no block": ('"is":', '"was":', "torn, or not of a pack"),
    "no JSON": ('"file":', '"file"', "torn, or not of a pack"),
}


@pytest.mark.parametrize(("old", "new", "said"), DAMAGED.values(), ids=DAMAGED)
def test_what_was_changed_is_named_with_its_line(runs: Path, old: str, new: str, said: str) -> None:
    collect([runs], console=QUIET)
    number = damage(runs / "tiny.jsonl", old, new)
    with pytest.raises(RecordError, match=rf"tiny\.jsonl:{number}: .*{said}"):
        list(find_records(runs))


def test_a_torn_last_line_is_named_and_nothing_is_added(runs: Path) -> None:
    collect([runs], console=QUIET)
    pack = runs / "tiny.jsonl"
    torn = pack.read_bytes()[:-40]
    pack.write_bytes(torn)
    put(runs, seed=11)
    number = torn.count(b"\n") + 1
    for use in (lambda: list(find_records(runs)), lambda: collect([runs], console=QUIET)):
        with pytest.raises(RecordError, match=rf"tiny\.jsonl:{number}: the line is torn"):
            use()
    assert pack.read_bytes() == torn


def test_a_newer_form_is_refused_by_name_and_left_as_it_is(runs: Path) -> None:
    collect([runs], console=QUIET)
    pack = runs / "tiny.jsonl"
    damage(pack, '{"pack":1}', '{"pack":2}')
    before = pack.read_bytes()
    path = put(runs, seed=11)
    for use in (
        lambda: list(find_records(runs)),
        lambda: collect([runs], console=QUIET),
        lambda: done_record(path.with_name("seed12-00000000.json")),
    ):
        with pytest.raises(NewerRecordError, match=r"tiny\.jsonl:1: the pack is of form 2, and this code reads 1"):
            use()
    assert pack.read_bytes() == before
    assert path.exists()


def test_a_record_of_a_newer_schema_is_refused_and_not_made_again(tmp_path: Path) -> None:
    path = put(tmp_path)
    path.write_text(path.read_text("utf-8").replace('"schema": 1', '"schema": 2'), encoding="utf-8")
    for use in (read_record, done_record, lambda path: collect([path.parents[2]], console=QUIET)):
        with pytest.raises(NewerRecordError, match=rf"{path} is a record of schema 2, and this code reads 1"):
            use(path)


NOT_COLLECTED = {
    "written by other code": (lambda path: path.write_text(json.dumps(RAW)), "not as this project writes it"),
    "torn": (lambda path: path.write_text("{"), "not a valid record"),
    "under another name": (lambda path: path.rename(path.with_name("seed4-00000000.json")), "its name or its content"),
}


@pytest.mark.parametrize(("spoil", "said"), NOT_COLLECTED.values(), ids=NOT_COLLECTED)
def test_what_would_not_come_back_is_refused_before_anything_is_written(tmp_path: Path, spoil: Any, said: str) -> None:
    put(tmp_path, config_name="a")  # comes first, and is right
    spoil(put(tmp_path))
    before = contents(tmp_path)
    with pytest.raises(RecordError, match=said):
        collect([tmp_path], console=QUIET)
    assert contents(tmp_path) == before
    assert not list(tmp_path.glob("*.jsonl"))


def test_folders_without_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="there are no files of records in"):
        collect([tmp_path], console=QUIET)
    with pytest.raises(RecordError, match="is no folder; give folders of records"):
        collect([tmp_path / "nothing"], console=QUIET)


def _collect(folder: Path, out: Path) -> None:
    collect([folder], out=out, console=QUIET)


def test_processes_that_add_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    out, n = tmp_path / "out", 6
    for seed in range(n):
        put(tmp_path / str(seed), seed=seed)
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_collect, args=(tmp_path / str(seed), out)) for seed in range(n)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * n
    assert [record.seed for record in find_records(out)] == list(range(n))


def test_the_committed_records_are_in_few_files() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file() and path.suffix != ".log"]
    assert len(files) < 300
    assert sum(path.stat().st_size for path in files) < 15_000_000
    assert not list(RESULTS.rglob("seed*.json")), "python -m benchmarks collect benchmarks/results"


@pytest.mark.slow
def test_every_committed_record_comes_back_as_it_was_collected() -> None:
    # text() compares each with its SHA-256; read_record, its name with its config
    paths = packed.find_files(RESULTS, "*seed*.json")
    assert len(paths) >= 3_930
    for path in paths:
        packed.read_text(path)


def test_a_record_of_the_first_form_is_read(tmp_path: Path) -> None:
    old = {key: value for key, value in RAW.items() if key not in ("kept_bytes", "schema")}
    record = Record.model_validate(old)
    path = record_path(tmp_path, config_name="tiny", strategy="naive", seed=3, hash8=record.hash)
    path.parent.mkdir(parents=True)
    path.write_bytes(packed.as_written(old))
    collect([tmp_path], console=QUIET)
    assert read_record(path) == record
    assert json.loads(packed.read_text(path)) == old  # what was not said stays unsaid
