"""`python -m benchmarks`: runs what is missing, survives what fails, and answers mistakes with one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.__main__ import main, told_of_warning
from benchmarks.records.record import find_records
from benchmarks.runs import runner
from lab_samples import TINY
from matrix_samples import small, write_matrix_file
from places import ROOT


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return path


@pytest.fixture
def arguments(config: Path, tmp_path: Path) -> list[str]:
    return ["run", str(config), "--seeds", "0", "1", "--out", str(tmp_path / "runs")]


def records_in(folder: Path) -> list[Path]:
    return sorted((folder / "runs").rglob("*.json"))


def test_the_second_run_skips_what_is_done(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    picture = tmp_path / "runs" / "tiny" / "accuracy.png"
    assert out.rstrip().splitlines()[-1] == str(picture)
    assert picture.stat().st_size > 10_000
    files = records_in(tmp_path)
    assert [path.parent.name for path in files] == ["joint", "joint", "naive", "naive"]
    contents = [path.read_bytes() for path in files]

    monkeypatch.setattr(runner, "run", lambda *_, **__: pytest.fail("ran again"))
    assert main(arguments) == 0
    assert "already done: naive, seed 0; joint, seed 0; naive, seed 1; joint, seed 1" in capsys.readouterr().out
    assert [path.read_bytes() for path in files] == contents


def test_runs_that_were_collected_are_done_and_shown_as_before(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(arguments) == 0
    runs = str(tmp_path / "runs")
    capsys.readouterr()
    assert main(["table", runs]) == 0
    table = capsys.readouterr().out
    assert main(["collect", runs]) == 0
    assert "tiny.jsonl: 4 added, 4 in all" in capsys.readouterr().out
    assert records_in(tmp_path) == []
    assert main(["table", runs]) == 0
    assert capsys.readouterr().out == table
    assert main(["verify", runs]) == 0
    assert "records checked: 4, with findings: 0" in capsys.readouterr().out

    monkeypatch.setattr(runner, "run", lambda *_, **__: pytest.fail("ran again"))
    assert main([*arguments, "--dry-run"]) == 0
    assert "0 of 4 runs to make" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "already done: naive, seed 0; joint, seed 0; naive, seed 1; joint, seed 1" in capsys.readouterr().out
    assert main([*arguments, "--seeds", "0", "1", "2", "--dry-run"]) == 0
    assert "2 of 6 runs to make; by the runs of other seeds" in capsys.readouterr().out  # known from the pack
    assert records_in(tmp_path) == []


def test_records_of_newer_code_stop_a_run(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(arguments) == 0
    path = records_in(tmp_path)[0]
    path.write_text(path.read_text("utf-8").replace('"schema": 1', '"schema": 2'), encoding="utf-8")
    before = path.read_bytes()
    monkeypatch.setattr(runner, "run", lambda *_, **__: pytest.fail("ran again"))
    assert main(arguments) == 2
    assert f"error: {path} is a record of schema 2" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_the_table_is_made_again_from_records_alone(
    arguments: list[str], config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments)
    ran = capsys.readouterr().out
    config.unlink()
    assert main(["table", str(tmp_path / "runs")]) == 0
    again = capsys.readouterr().out
    for name in ("naive", "joint"):
        row = next(line for line in ran.splitlines() if line.startswith(f"│ {name} "))
        assert row in again.splitlines()


def test_a_comparison_that_is_written_nowhere_is_printed(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments)
    capsys.readouterr()
    assert main(["table", str(tmp_path / "runs"), "--compare"]) == 0
    printed = capsys.readouterr().out
    assert "| strategy | accuracy, % | n | published |" in printed
    assert next(line for line in printed.splitlines() if line.startswith("| `naive` |")).count("|") == 11


def test_a_changed_config_is_not_mixed_with_old_records(arguments: list[str], config: Path, tmp_path: Path) -> None:
    once = [*arguments, "--strategies", "naive", "--seeds", "0"]
    main(once)
    config.write_text(yaml.safe_dump({**TINY, "training": {**TINY["training"], "lr": 0.02}}), encoding="utf-8")
    main(once)
    files = records_in(tmp_path)
    assert len(files) == 2
    assert len({record.config["training"]["lr"] for record in find_records(tmp_path / "runs")}) == 2


def test_a_failing_run_is_recorded_and_the_others_go_on(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runner.run

    def sometimes(config: Any, *, strategy: str, seed: int, **more: Any) -> Any:
        if (strategy, seed) == ("naive", 0):
            raise ZeroDivisionError("one over nothing")
        return real(config, strategy=strategy, seed=seed, **more)

    monkeypatch.setattr(runner, "run", sometimes)
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert "naive, seed 0 failed: ZeroDivisionError: one over nothing" in out
    assert "1 failed" in out
    states = {(r.strategy, r.seed): r.status for r in find_records(tmp_path / "runs")}
    assert states == {("naive", 0): "failed", ("naive", 1): "done", ("joint", 0): "done", ("joint", 1): "done"}
    logs = {log.stem: log.read_text(encoding="utf-8") for log in (tmp_path / "runs" / "tiny" / "naive").glob("*.log")}
    (stem,) = [stem for stem, text in logs.items() if "Traceback" in text]
    assert stem == next(p.stem for p in records_in(tmp_path) if p.parent.name == "naive" and "seed0" in p.name)

    monkeypatch.setattr(runner, "run", real)
    assert main(arguments) == 0  # what failed is tried again
    assert {r.status for r in find_records(tmp_path / "runs")} == {"done"}


def test_a_broken_record_is_run_again_and_said(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = [*arguments, "--strategies", "naive", "--seeds", "0"]
    main(once)
    (path,) = records_in(tmp_path)
    path.write_text('{"schema": 1', encoding="utf-8")
    assert main(["table", str(tmp_path / "runs")]) == 2
    assert str(path) in capsys.readouterr().err
    assert main(once) == 0
    assert f"run again, because {path}" in capsys.readouterr().out
    assert json.loads(path.read_text(encoding="utf-8"))["status"] == "done"


def test_ctrl_c_loses_the_current_run_only(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runner.run

    def interrupted(config: Any, *, strategy: str, seed: int, **more: Any) -> Any:
        if strategy == "joint":
            raise KeyboardInterrupt
        return real(config, strategy=strategy, seed=seed, **more)

    monkeypatch.setattr(runner, "run", interrupted)
    assert main(arguments) == 130
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.parent.name for path in records_in(tmp_path)] == ["naive"]


def test_a_dry_run_writes_nothing(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("to run") == 4
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_says_what_it_costs_by_the_runs_of_other_seeds(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["run", str(config), "--out", str(tmp_path / "runs"), "--seeds"]
    main([*base, "0", "--strategies", "naive"])
    capsys.readouterr()
    assert main([*base, "0", "1", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "3 of 4 runs to make; by the runs of other seeds 0.0 min, one after the other" in said
    assert "of 2 no seed was run yet, so their cost is not known" in said


def test_set_given_again_changes_more(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["--set", "training.epochs=2", "--set", "training.lr=0.2", "training.momentum=0.5"]
    assert main(["run", str(config), "--out", str(tmp_path / "runs"), "--dry-run", *changes]) == 0
    assert "epochs-2-lr-0.2-momentum-0.5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--strategies", "naiv"], "did you mean 'naive'"),
        (["--threads", "0"], "--threads must be 1 or more"),
        (["--workers", "0"], "--workers must be 1 or more"),
        (["--seeds", "-1"], "--seeds must be whole numbers"),
        (["--device", "cuda:99"], "--device cuda:99 cannot be used here"),
        (["--device", "abacus"], "--device abacus cannot be used here"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main([*arguments, *more]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (["run", "tini.yaml"], "there is no config tini.yaml; did you mean 'tiny.yaml'?"),
        (["run", "tiny.yaml", "list.yaml"], "list.yaml must hold a mapping with keys like stream, model, training"),
        (["features", "tini.yaml"], "there is no config tini.yaml; did you mean 'tiny.yaml'?"),
        (["search", "tini.yaml", "--strategies", "ewc"], "there is no config tini.yaml; did you mean 'tiny.yaml'?"),
        (["regimes", "tini.yaml"], "there is no matrix tini.yaml; did you mean 'tiny.yaml'?"),
        (["pretrain", "tini.yaml"], "there is no config of a backbone tini.yaml; did you mean 'tiny.yaml'?"),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_a_file_that_is_not_there_is_said_before_seconds_of_imports(
    given: list[str], answer: str, config: Path
) -> None:
    (config.parent / "list.yaml").write_text("- 1", encoding="utf-8")
    program = (
        "import sys; from benchmarks.__main__ import main; code = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-c", program, *given],
        cwd=config.parent, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, f"error: {answer}\n")


def test_a_warning_for_the_user_shows_no_line_of_our_code() -> None:
    ours, theirs = str(Path(runner.__file__)), __file__
    assert told_of_warning("2 images are grey", UserWarning, ours, 1, "warn_user(") == "warning: 2 images are grey\n"
    assert "x = old()" in told_of_warning("old", DeprecationWarning, ours, 1, "x = old()")
    assert "y = theirs()" in told_of_warning("odd", UserWarning, theirs, 1, "y = theirs()")


def test_missing_data_is_one_line_and_leaves_nothing(
    arguments: list[str], config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(yaml.safe_dump({**TINY, "stream": {"dataset": "mnist", "n_experiences": 5}}), encoding="utf-8")
    assert main([*arguments, "--data-root", str(tmp_path / "empty")]) == 2
    err = capsys.readouterr().err
    assert "train-images-idx3-ubyte" in err
    assert "--download" in err
    assert not (tmp_path / "runs").exists()


def test_an_empty_folder_has_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(tmp_path)]) == 2
    assert "there are no records" in capsys.readouterr().err


@pytest.fixture
def regimes(tmp_path: Path) -> list[str]:
    raw = small(methods=["naive", "naive+settle", "naive+src"])
    raw["base"]["training"] = {**raw["base"]["training"], "epochs": 1}
    matrix = write_matrix_file(tmp_path, raw)
    out = str(tmp_path / "runs")
    return ["regimes", str(matrix), "--seeds", "0", "--only", "sgd", "slow", "--out", out, "--threads", "1"]


def table_rows(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith((" plain ", " lower rate ", " mean of training "))]


def test_a_matrix_is_run_shown_and_not_run_again(
    regimes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tmp_path / "regimes.md"
    document.write_text("<!-- table: begin -->\n<!-- table: end -->\n", encoding="utf-8")
    assert main([*regimes, "--methods", "naive"]) == 0
    first = capsys.readouterr().out
    assert [path.parent.name for path in records_in(tmp_path)] == ["naive", "naive"]
    assert [row.split()[-2:] for row in table_rows(first)] == [["-", "-"]] * 3  # auto and its differences are to come

    assert main([*regimes, "--write", str(document)]) == 0
    out = capsys.readouterr().out
    assert "already done: 2 of 6 runs" in out
    picture = tmp_path / "runs" / "small" / "heat_map.png"
    assert picture.stat().st_size > 10_000
    assert str(picture) in out
    assert len(records_in(tmp_path)) == 6
    assert "| **mean of training** |" in document.read_text(encoding="utf-8")

    monkeypatch.setattr(runner, "run", lambda *_, **__: pytest.fail("ran again"))
    assert main(regimes) == 0
    assert table_rows(capsys.readouterr().out) == table_rows(out)
    assert main([*regimes, "--table-only"]) == 0
    assert table_rows(capsys.readouterr().out) == table_rows(out)
    assert main(["collect", str(tmp_path / "runs")]) == 0
    capsys.readouterr()
    assert main([*regimes, "--table-only"]) == 0
    assert table_rows(capsys.readouterr().out) == table_rows(out)


def test_a_failing_run_of_a_matrix_is_told_by_the_exit_status(
    regimes: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run", lambda *_, **__: 1 / 0)
    assert main([*regimes, "--methods", "naive"]) == 1
    out = capsys.readouterr().out
    assert "small-digits-sgd: naive, seed 0 failed: ZeroDivisionError" in out
    assert "2 failed" in out
    assert [row.split()[-1] for row in table_rows(out)] == ["1", "1", "-"]  # lost


def test_a_dry_run_of_a_matrix_writes_nothing(
    regimes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*regimes, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count("to run") == 6
    assert "to run  small-digits-slow: naive+src, seed 0  " in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--table-only"], "has no records of"),
        (["--only", "sdg"], "has no regime 'sdg'; did you mean 'sgd'?"),
        (["--datasets", "mnist"], "has no dataset 'mnist'"),
        (["--methods", "navie"], "has no method 'navie'; did you mean 'naive'?"),
        (["--workers", "0"], "--workers must be 1 or more"),
        (["--write", "nowhere.md"], "nowhere.md cannot be read"),
    ],
)
def test_mistakes_about_a_matrix_are_answered_in_one_line_before_anything_runs(
    regimes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main([*regimes, *more]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_two_files_of_one_name_are_refused_and_one_file_twice_is_one(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other" / config.name
    other.parent.mkdir()
    other.write_text(yaml.safe_dump({**TINY, "training": {**TINY["training"], "lr": 0.3}}), encoding="utf-8")
    out = ["--out", str(tmp_path / "runs"), "--strategies", "naive", "--seeds", "0", "--dry-run"]
    assert main(["run", str(config), str(other), *out]) == 2
    assert f"{other} is the second config called tiny" in capsys.readouterr().err
    assert main(["run", str(config), str(config), *out]) == 0
    assert "1 of 1 runs to make" in capsys.readouterr().out


def test_a_file_is_no_folder_of_records(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    for place in ("notes.txt", "notes.txt/runs"):
        assert main(["run", str(config), "--out", str(tmp_path / place), "--dry-run"]) == 2
        assert "notes.txt is a file; give a folder for the records" in capsys.readouterr().err


def test_several_configs_are_one_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for name in ("first", "second"):
        files.append(tmp_path / f"{name}.yaml")
        raw = {**TINY, "name": name, "training": {**TINY["training"], "epochs": 1}}
        files[-1].write_text(yaml.safe_dump(raw), encoding="utf-8")
    arguments = ["run", *map(str, files), "--strategies", "naive", "--seeds", "1", "2", "--out", str(tmp_path / "runs")]
    assert main([*arguments, "--dry-run"]) == 0
    *said, cost = capsys.readouterr().out.splitlines()
    assert "runs to make" in cost
    planned = [line.split("  ")[1].strip() for line in said]
    assert planned == [f"{name}: naive, seed {seed}" for seed in (1, 2) for name in ("first", "second")]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "first: accuracy in percent" in out
    assert "second: accuracy in percent" in out
    assert sorted(path.parent.name for path in (tmp_path / "runs").rglob("accuracy.png")) == ["first", "second"]


def test_records_are_checked_run_again_and_made_ready_for_a_pull_request(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = tmp_path / "runs", tmp_path / "mine"
    main(["run", str(config), "--strategies", "naive", "--seeds", "0", "--out", str(runs), "--threads", "1"])
    assert main(["verify", str(runs)]) == 0
    assert main(["verify", str(runs), "--rerun"]) == 0
    assert len(list(runs.rglob("verified-seed0-*.json"))) == 1
    assert main(["submit", str(runs), "--out", str(out), "--allow-dirty", "--note", "tiny"]) == 0
    assert {path.name for path in out.iterdir()} == {"tiny.jsonl", "manifest.json", "README.md"}
    pack = out / "tiny.jsonl"
    pack.write_text(pack.read_text("utf-8").replace('"seed":0', '"seed":1'), encoding="utf-8")
    capsys.readouterr()
    assert main(["verify", str(out)]) == 1
    said = capsys.readouterr().out
    assert "SHA-256 is not that of the manifest" in said
    assert "it was changed" in said


def test_a_page_is_made_of_records(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", str(config), "--seeds", "0", "--out", str(tmp_path / "runs")])
    capsys.readouterr()
    assert main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "site")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "site" / "index.html")
    assert "tiny" in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
