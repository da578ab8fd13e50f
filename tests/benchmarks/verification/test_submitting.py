"""submit: one folder for a pull request, whole or not at all, with nothing in it that should stay at home."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.configs.run import RunConfig, resolve
from benchmarks.errors import RecordError, SubmitError
from benchmarks.records.collecting import collect
from benchmarks.records.packed import find_files, read_bytes
from benchmarks.records.record import Record, find_records, record_path, write_record
from benchmarks.verification import submitting as module
from benchmarks.verification.manifest import MANIFEST, check_manifest
from benchmarks.verification.marks import mark_path
from benchmarks.verification.private import own_names, private_things
from benchmarks.verification.submitting import README, submit
from benchmarks.verification.verifying import verify
from lab_samples import NOTHING_MEASURED, TINY

AFTER = [[90 / 91, 0.0, 0.0], [45 / 91, 72 / 90, 0.0], [13 / 91, 18 / 90, 250 / 269]]
RAW: dict[str, Any] = {
    **{"schema": 1, "status": "done", "config_name": "tiny", "strategy": "naive", "seed": 0},
    "config": resolve(RunConfig.model_validate(TINY), "naive"),
    "class_order": list(range(10)),
    "experiences": [["0", "1"], ["2", "3"], ["4", "5", "6", "7", "8", "9"]],
    "n_test": [91, 90, 269],
    **{"accuracy": AFTER, "accuracy_before_sleep": AFTER, "final_accuracy": 281 / 450},
    "kept_bytes": 0,
    "seconds": {"train": 1.0, "sleep": 0.0, "total": 2.0},
    "versions": dict.fromkeys(["python", "torch", "numpy", "numba", "avalanche-lib", "src-plugin"], "1.0"),
    **{"commit": "0123456789" * 4, "tree_clean": True},
    "hardware": {"cpu": "a processor", "cores": 2, "threads": 1, "device": "cpu"},
}
FAILED = {
    **NOTHING_MEASURED,
    **{"status": "failed", "error": "RuntimeError: no memory", "kept_bytes": None},
    **{"class_order": [], "experiences": [], "n_test": []},
}
DIVERGED = {
    **{"status": "diverged", "error": "loss is nan", "final_accuracy": None},
    **{"accuracy": AFTER[:1], "accuracy_before_sleep": AFTER[:1]},
}


def put(folder: Path, **changes: Any) -> Path:
    record = Record.model_validate({**RAW, **changes})
    path = record_path(
        folder, config_name=record.config_name, strategy=record.strategy, seed=record.seed, hash8=record.hash
    )
    write_record(record, path)
    return path


@pytest.fixture
def console() -> Console:
    return Console(width=400, record=True, file=io.StringIO())


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder as `run` leaves it: two records, and what else lies there."""
    folder = tmp_path / "runs"
    first = put(folder)
    put(folder, seed=1)
    first.with_suffix(".log").write_text("Traceback", encoding="utf-8")
    first.with_suffix(".checkpoint").write_bytes(b"weights")
    (folder / "tiny" / "accuracy.png").write_bytes(b"picture")
    mark_path(first).write_text("{}", encoding="utf-8")
    return folder


def test_what_a_pull_request_needs_is_in_one_folder(runs: Path, tmp_path: Path, console: Console) -> None:
    out = tmp_path / "results" / "others" / "mine"
    assert submit([runs], out=out, console=console, note="Two seeds of my own.") == out
    made = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    names = [path.name for path in sorted(runs.rglob("seed*.json"))]
    assert made == [README, MANIFEST, "tiny.jsonl"]
    for name in names:
        assert read_bytes(out / "tiny" / "naive" / name) == (runs / "tiny" / "naive" / name).read_bytes()
    assert list(find_records(out)) == list(find_records(runs))
    assert out.stat().st_mode & 0o777 == 0o755

    manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    digest = hashlib.sha256((runs / "tiny" / "naive" / names[0]).read_bytes()).hexdigest()
    assert manifest["records"][0] == {"path": f"tiny/naive/{names[0]}", "sha256": digest, "status": "done"}
    assert manifest["counts"] == {"records": 2, "configs": 1, "strategies": 1, "done": 2}
    assert (manifest["seeds"], manifest["versions"]) == ([0, 1], [RAW["versions"]])
    assert manifest["commits"] == [[RAW["commit"], True]]
    text = (out / README).read_text(encoding="utf-8")
    assert "Two seeds of my own." in text
    assert "| `tiny` | `naive` |  | 62.4 ± 0.0 | 2 |" in text  # 281 / 450, from the records
    assert verify([out], console=console) == 0


def test_records_that_were_collected_are_submitted_like_others(runs: Path, tmp_path: Path, console: Console) -> None:
    (mark,) = runs.rglob("verified-*.json")
    mark.write_bytes(b"{}\n")
    once = submit([runs], out=tmp_path / "once", console=console)
    collect([runs], console=console)
    (runs / ".collect.lock").unlink()
    again = submit([runs], out=tmp_path / "again", console=console)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in once.iterdir()}
    assert submit([again / "tiny.jsonl"], out=tmp_path / "third", console=console)


def test_a_record_that_other_code_wrote_is_not_submitted(runs: Path, tmp_path: Path, console: Console) -> None:
    path = put(runs)
    path.write_text(json.dumps(json.loads(path.read_text("utf-8"))), encoding="utf-8")
    with pytest.raises(SubmitError, match=f"{path} was written by other code than `run`"):
        submit([runs], out=tmp_path / "out", console=console)
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_out_silently(runs: Path, tmp_path: Path, console: Console) -> None:
    out = submit([runs], out=tmp_path / "out", console=console)
    said = "checkpoints (1), logs (1), marks of repeats (1), pictures (1)"
    assert f"left out: {said}" in console.export_text()
    assert said in (out / README).read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_nothing_is_overwritten(runs: Path, tmp_path: Path, console: Console, kind: str) -> None:
    out = tmp_path / "out"
    {
        "folder": lambda: out.mkdir(),
        "file": lambda: out.write_text("mine", encoding="utf-8"),
        "link": lambda: out.symlink_to(tmp_path / "nowhere"),
    }[kind]()
    with pytest.raises(SubmitError, match="is there already"):
        submit([runs], out=out, console=console)
    assert kind != "file" or out.read_text(encoding="utf-8") == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "runs"]


def test_a_submission_that_cannot_be_finished_leaves_nothing(
    runs: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = module.write_whole, []

    def full(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(SubmitError, match="No space left on device"):
        submit([runs], out=tmp_path / "out", console=console)
    assert len(written) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_what_appears_there_meanwhile_is_kept(
    runs: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", module._readme

    def meanwhile(*given: Any) -> str:
        out.mkdir()
        (out / "mine").touch()
        return real(*given)

    monkeypatch.setattr(module, "_readme", meanwhile)
    with pytest.raises(SubmitError, match="cannot be made"):
        submit([runs], out=out, console=console)
    assert [path.name for path in out.iterdir()] == ["mine"]


REFUSED: dict[str, tuple[dict[str, Any], str, dict[str, bool]]] = {
    "changed files": ({"tree_clean": False}, "code that no commit names", {"allow_dirty": True}),
    "outside git": ({"tree_clean": None, "commit": "unknown"}, "code that no commit names", {"allow_dirty": True}),
    "failed": (FAILED, "a run without numbers", {"allow_failed": True}),
    "skipped": ({**FAILED, "status": "skipped"}, "a run without numbers", {"allow_failed": True}),
}


@pytest.mark.parametrize(("change", "message", "allowed"), REFUSED.values(), ids=REFUSED)
def test_what_others_cannot_use_must_be_allowed(
    runs: Path, tmp_path: Path, console: Console, change: dict[str, Any], message: str, allowed: dict[str, bool]
) -> None:
    path = put(runs, seed=2, **change)
    with pytest.raises(SubmitError, match=message) as caught:
        submit([runs], out=tmp_path / "out", console=console)
    assert str(path) in str(caught.value)
    other = {"allow_dirty": "allow_failed" in allowed, "allow_failed": "allow_dirty" in allowed}
    with pytest.raises(SubmitError, match=message):
        submit([runs], out=tmp_path / "out", console=console, **other)
    out = submit([runs], out=tmp_path / "out", console=console, **allowed)
    assert len(list(find_records(out))) == 3


def test_a_run_that_diverged_is_a_result(runs: Path, tmp_path: Path, console: Console) -> None:
    put(runs, seed=2, **DIVERGED)
    out = submit([runs], out=tmp_path / "out", console=console)
    assert json.loads((out / MANIFEST).read_text(encoding="utf-8"))["counts"]["diverged"] == 1
    assert "(1 diverged)" in (out / README).read_text(encoding="utf-8")


def test_what_verify_finds_fault_with_is_not_submitted(runs: Path, tmp_path: Path, console: Console) -> None:
    path = put(runs, seed=2, kept_bytes=-1)
    with pytest.raises(SubmitError, match="1 of 3 records are not right"):
        submit([runs], out=tmp_path / "out", console=console)
    assert f"{path}: kept_bytes is -1" in console.export_text()
    assert not (tmp_path / "out").exists()


def test_the_same_record_in_two_folders_is_submitted_once(runs: Path, tmp_path: Path, console: Console) -> None:
    put(tmp_path / "copies")
    out = submit([runs, tmp_path / "copies"], out=tmp_path / "out", console=console)
    assert len(list(find_records(out))) == 2
    put(tmp_path / "copies", seconds={"train": 1.0, "sleep": 0.0, "total": 3.0})
    with pytest.raises(SubmitError, match=r"copies.* and another record of the same run, .* differ"):
        submit([runs, tmp_path / "copies"], out=tmp_path / "again", console=console)


def test_without_records_there_is_nothing_to_submit(tmp_path: Path, console: Console) -> None:
    with pytest.raises(RecordError, match="there are no records"):
        submit([tmp_path], out=tmp_path / "out", console=console)


# -- what should stay at home ------------------------------------------------------------------------------------------

HEX = "0123456789abcdef" * 2
PRIVATE: dict[str, tuple[str, str, str]] = {
    "a path": ("no file '/home/jo/photos/1.png'", "an absolute path", "/home/jo/photos/1.png"),
    "a path of an option": ("--data-root=/srv/jo", "an absolute path", "/srv/jo"),
    "a path at home": ("see ~/photos", "an absolute path", "~/photos"),
    "a path of Windows": (r"no file C:\Users\jo", "an absolute path", r"C:\Users\jo"),
    "a shared folder": (r"no folder \\box\jo", "an absolute path", r"\\box\jo"),
    "a path as an address": ("file:///srv/jo", "an absolute path", "file:///srv/jo"),
    "a person": ("ask jo@example.org", "an address with @", "jo@example.org"),
    "a machine": ("connection to 10.0.0.12 lost", "a network address", "10.0.0.12"),
    "a password": ("password=correcthorse", "what looks like a key", "password=correcthorse"),
    "a key in a header": ("Authorization: abcdefgh1234", "what looks like a key", "Authorization: abcdefgh1234"),
    "a key of a hub": ("hf_abcdefghijklmnopqrst", "what looks like a key", "hf_abcdefghijklmnopqrst"),
    "a key without a name": (f"refused {HEX}", "a long number, perhaps a key", HEX),
    "a user": ("no disk for Jo-Ann left", "the name of a user", "Jo-Ann"),
}


@pytest.mark.parametrize(("text", "what", "found"), PRIVATE.values(), ids=PRIVATE)
def test_what_looks_private_is_found_with_its_field(text: str, what: str, found: str) -> None:
    names = {"the name of a user": "jo-ann"}
    assert private_things({"seed": 1, "error": text}, names=names) == [("error", what, found)]


HARMLESS = {
    "fractions": {"error": "1/90 and/or 10 / 2"},
    "a relative path": {"config": {"backbone": {"weights": "weights/vgg.safetensors"}}},
    "a page": {"error": "see https://example.org/help"},
    "a model": {"config": {"backbone": {"name": "vit_base_patch16_224.augreg_in21k"}}},
    "a hash": {"features": {"key": HEX}, "commit": HEX},
    "four numbers": {"versions": {"torch": "2.8.0.1"}},
    "a part of a word": {"error": "jo-annes job"},
    "a word": {"error": "expected 3 tokens per image"},
}


@pytest.mark.parametrize("tree", HARMLESS.values(), ids=HARMLESS)
def test_what_only_looks_so_is_left_alone(tree: dict[str, Any]) -> None:
    assert private_things(tree, names={"the name of a user": "jo-ann"}) == []


def test_fields_at_any_depth_are_named() -> None:
    tree = {"config": {"stream": {"folder": ["a.zip", "/srv/jo/b.zip"]}}, "sleep_reports": [{"/srv/jo": 1}]}
    assert [field for field, *_ in private_things(tree, names={})] == [
        "config.stream.folder[1]",
        "sleep_reports[0]./srv/jo (the key)",
    ]


def test_names_that_everybody_has_are_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.verification.private.getpass.getuser", lambda: "root")
    monkeypatch.setattr("benchmarks.verification.private.socket.gethostname", lambda: "annes-box.lan")
    monkeypatch.setattr("benchmarks.verification.private.Path.home", lambda: Path("/home/annette"))
    assert own_names() == {"the name of a user": "annette", "the name of this host": "annes-box"}


def test_a_machine_without_names_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("benchmarks.verification.private.getpass.getuser", unknown)
    monkeypatch.setattr("benchmarks.verification.private.Path.home", lambda: Path("/root"))
    assert "the name of this user" not in own_names()


def test_private_things_are_warned_of_once_and_keys_are_not_repeated(
    runs: Path, tmp_path: Path, console: Console
) -> None:
    for seed in (2, 3):
        put(runs, seed=seed, **{**DIVERGED, "error": "nan; see /srv/jo/x; token=abcdefgh1234"})
    submit([runs], out=tmp_path / "out", console=console, note="ask jo@example.org")
    text = console.export_text()
    assert "error holds an absolute path, which would be public: /srv/jo/x (and in 1 more records)" in text
    assert "error holds what looks like a key, which would be public: token=..." in text
    assert "abcdefgh1234" not in text
    assert "--note: note holds an address with @, which would be public: jo@example.org" in text


# -- a submission that came --------------------------------------------------------------------------------------------


def test_a_submission_that_was_changed_is_found(runs: Path, tmp_path: Path, console: Console) -> None:
    out = submit([runs], out=tmp_path / "out", console=console)
    first, second = find_files(out, "seed*.json")
    put(out, seconds={"train": 1.0, "sleep": 0.0, "total": 3.0})  # right by itself, and not what was submitted
    pack = out / "tiny.jsonl"
    lines = pack.read_text(encoding="utf-8").splitlines()
    pack.write_text("\n".join(line for line in lines if second.name not in line), encoding="utf-8")
    added = put(out, seed=2)
    assert {(f.path.name, f.found) for f in check_manifest(out / MANIFEST)} == {
        (first.name, "not that of the manifest"),
        (MANIFEST, "not there"),
        (added.name, "not in the manifest"),
    }
    assert verify([tmp_path], console=console) == 1  # at any depth


@pytest.mark.parametrize(
    ("content", "n_findings"), [("{", 1), ("[]", 0), ('{"features": 1}', 0), ('{"checked_by": 1}', 1)]
)
def test_a_manifest_of_something_else_is_left_alone(tmp_path: Path, content: str, n_findings: int) -> None:
    path = tmp_path / MANIFEST
    path.write_text(content, encoding="utf-8")
    assert len(check_manifest(path)) == n_findings
