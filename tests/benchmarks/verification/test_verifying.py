"""verify: what is right passes, each untruth is found by its field, and a repeat on this machine is the same run."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.config import RunConfig, resolve
from benchmarks.data import DataError, Dataset
from benchmarks.loading import Places
from benchmarks.records import Record, RecordError, config_hash, find_records, record_path, write_record
from benchmarks.runner import run
from benchmarks.verification import repeating
from benchmarks.verification import verifying as module
from benchmarks.verification.checks import check_record
from benchmarks.verification.findings import Finding
from benchmarks.verification.marks import is_verified, mark_path, read_mark
from benchmarks.verification.repeating import TOLERANCE, compare
from benchmarks.verification.restoring import config_of
from benchmarks.verification.verifying import verify
from lab_samples import TINY
from src_plugin.errors import ConfigError, SRCError

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"
N_TEST = [91, 90, 269]
AFTER = [[90 / 91, 0.0, 0.0], [45 / 91, 72 / 90, 0.0], [13 / 91, 18 / 90, 250 / 269]]
BEFORE = [AFTER[0], [0.0, 81 / 90, 0.0], [0.0, 0.0, 260 / 269]]
ORIGIN: dict[str, Any] = {
    "versions": {
        **{"python": "3.11.7", "torch": "2.8.0", "torchvision": None, "avalanche-lib": "0.6.0"},
        **{"numpy": "2.4.6", "numba": "0.68.1", "scikit-learn": "1.9.1", "src-plugin": "0.1.0"},
    },
    "commit": "0123456789" * 4,
    "tree_clean": True,
    "hardware": {"cpu": "a processor", "cores": 2, "threads": 1, "device": "cpu"},
}
REPORT = {"decision": "slept", "reason": "new classes crowd out others", "seconds": 0.1}


def raw_record(strategy: str = "naive", **parts: Any) -> dict[str, Any]:
    """Return a record of TINY by hand, as JSON has it; `parts` are those of the config that differ."""
    config = resolve(RunConfig.model_validate({**TINY, **parts}), strategy)
    sleeps = "+" in strategy
    return {
        "schema": 1,
        "status": "done",
        "error": None,
        "config_name": "tiny",
        "config": json.loads(json.dumps(config)),
        "strategy": strategy,
        "seed": 3,
        "class_order": list(range(10)),
        "experiences": [["0", "1"], ["2", "3"], ["4", "5", "6", "7", "8", "9"]],
        "n_test": N_TEST,
        "accuracy": AFTER,
        "accuracy_before_sleep": BEFORE if sleeps else AFTER,
        "accuracy_by": None,
        "final_accuracy": (13 + 18 + 250) / 450,
        "sleep_reports": [REPORT] * 3 if sleeps else [],
        "features": None,
        "kept_bytes": 600 if sleeps else 0,
        "seconds": {"train": 1.0, "sleep": 0.5 if sleeps else 0.0, "total": 2.0},
        **ORIGIN,
    }


def write(raw: dict[str, Any], folder: Path, *, name: str | None = None) -> Path:
    """Write a record where it belongs, by what it says itself, or under another name."""
    where = {key: raw[key] for key in ("config_name", "strategy")}
    own = record_path(folder, seed=raw.get("seed", 3), hash8=config_hash(raw["config"]), **where)
    path = own if name is None else folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path


def findings_of(raw: dict[str, Any], folder: Path) -> list[Finding]:
    return check_record(write(raw, folder))[1]


@pytest.fixture
def console() -> Console:
    return Console(width=400, record=True, file=io.StringIO())


OWN_IMAGES: dict[str, Any] = {
    "stream": {**TINY["stream"], "dataset": "image_folder", "folder": ["photos.zip"]},
    "backbone": {"name": "resnet18", "weights": "random"},
}

SOUND: dict[str, dict[str, Any]] = {
    "naive": raw_record(),
    "with sleep": raw_record("naive+src"),
    "sleep after every second": {
        **raw_record("naive+src", sleep={"every": 2}),
        **{"sleep_reports": [REPORT], "accuracy_before_sleep": [AFTER[0], BEFORE[1], AFTER[2]]},
    },
    "joint": {
        **raw_record("joint"),
        **{"accuracy": AFTER[2:], "accuracy_before_sleep": AFTER[2:], "kept_bytes": None},
    },
    "diverged": {
        **raw_record(),
        **{"status": "diverged", "error": "loss is nan", "final_accuracy": None},
        **{"accuracy": AFTER[:1], "accuracy_before_sleep": AFTER[:1]},
    },
    "failed": {
        **raw_record(),
        **{"status": "failed", "error": "no", "final_accuracy": None, "kept_bytes": None},
        **{"accuracy": None, "accuracy_before_sleep": None, "class_order": [], "experiences": [], "n_test": []},
    },
    "features of images of one's own": {
        **raw_record("naive", **OWN_IMAGES),
        **{"features": {"key": "a"}, "experiences": [["ant", "bee"], ["cat", "dog"], list("efghij")]},
    },
    "first experiences of a search": {
        **raw_record(stream={**TINY["stream"], "first": 2, "validation": True}),
        **{"accuracy": [[1.0, 0.0], [0.5, 0.8]], "accuracy_before_sleep": [[1.0, 0.0], [0.5, 0.8]], "n_test": [40, 35]},
        **{"class_order": [0, 1, 2, 3], "experiences": [["0", "1"], ["2", "3"]], "final_accuracy": 48 / 75},
    },
}


@pytest.mark.parametrize("raw", SOUND.values(), ids=SOUND)
def test_what_is_right_has_no_finding(tmp_path: Path, raw: dict[str, Any]) -> None:
    assert [str(finding) for finding in findings_of(raw, tmp_path)] == []


def test_all_committed_records_are_right() -> None:
    paths = [
        next(iter(sorted(folder.glob("seed*.json")))) for folder in {p.parent for p in RESULTS.rglob("seed*.json")}
    ]
    assert len(paths) > 100
    assert [str(f) for path in paths for f in check_record(path)[1] if not f.is_warning] == []


def in_entry(value: float) -> list[list[float]]:
    return [[90 / 91, value, 0.0], *AFTER[1:]]


def with_steps(steps: int) -> dict[str, Any]:
    config = raw_record("naive+src")["config"]
    numbers = {**config["sleep"]["numbers"], "steps": steps}
    return {**config, "sleep": {**config["sleep"], "numbers": numbers}}


RETURNS = {"classes_per_experience": None, "samples_per_experience": None, "experiences": [[0, 1], [1], [1]]}
SLEPT = raw_record("naive+src")
FIXED_SLEEP = {key: value for key, value in SLEPT.items() if key != "config"}
NOTHING_RIGHT = [[0.0] * 3] * 3
UNTRUE: dict[str, tuple[dict[str, Any], str, str]] = {
    "wrong final": ({"final_accuracy": 0.7}, "record", "one that agrees with itself"),
    "no test images": ({"n_test": [0, 0, 0]}, "file", "a record"),
    "no number of right answers": (
        {"accuracy": in_entry(0.1234), "accuracy_before_sleep": in_entry(0.1234)},
        r"accuracy\[0\]\[1\]",
        "a multiple of 1/90",
    ),
    "rounded": ({"accuracy_before_sleep": in_entry(0.0111)}, r"accuracy_before_sleep\[0\]\[1\]", "multiple of 1/90"),
    "slept without sleep": ({"accuracy_before_sleep": BEFORE}, r"accuracy_before_sleep\[1\]", "nothing slept"),
    "one row of three": ({"accuracy": AFTER[2:], "accuracy_before_sleep": AFTER[2:]}, "accuracy", "^3, one for each"),
    "no way that counts": ({"accuracy_by": {"mean": BEFORE, "outputs": BEFORE}}, "accuracy_by", "accuracy itself"),
    "a rounded way": ({"accuracy_by": {"a": AFTER, "b": in_entry(0.33)}}, r"accuracy_by.b\[0\]\[1\]", "multiple"),
    "other order": ({"class_order": [1, 0, *range(2, 10)]}, "class_order", r"^\[0, 1, 2"),
    "the order of another seed": (
        {"config": raw_record(stream={**TINY["stream"], "class_order": "seeded"})["config"]},
        "class_order",
        "config.stream and seed 3 give",
    ),
    "other names": ({"experiences": [["0", "7"], ["2", "3"], list("456189")]}, r"experiences\[0\]", "'1'"),
    "other sizes": ({"experiences": [["0"], ["1", "2", "3"], list("456789")]}, "experiences", r"^\[2, 2, 6\]"),
    "more test images": (
        {
            **{key: NOTHING_RIGHT for key in ("accuracy", "accuracy_before_sleep")},
            "final_accuracy": 0.0,
            "n_test": [9] * 3,
        },
        "n_test",
        "^450, the test images",
    ),
    "more columns": (
        {key: [[*row, 0.0] for row in AFTER] for key in ("accuracy", "accuracy_before_sleep")}
        | {"n_test": [*N_TEST, 1]}
        | {"final_accuracy": (13 + 18 + 250) / 451},
        "n_test",
        "^3, one for each experience",
    ),
    "a report too few": ({**SLEPT, "sleep_reports": [REPORT] * 2}, "sleep_reports", "^3: one after every 1 of 3"),
    "reports of no sleep": ({"sleep_reports": [REPORT]}, "sleep_reports", "^0: it does not sleep"),
    "an odd report": (
        {**SLEPT, "sleep_reports": [{**REPORT, "decision": "ill"}] * 3},
        r"sleep_reports\[0\].decision",
        "awake",
    ),
    "seconds of no sleep": ({"seconds": {"train": 1.0, "sleep": 0.5, "total": 2.0}}, "seconds.sleep", "^0: naive"),
    "too short": ({"seconds": {"train": 1.5, "sleep": 0.0, "total": 1.0}}, "seconds.total", "1.500"),
    "shorter than its sleeps": (
        {**SLEPT, "seconds": {"train": 1.0, "sleep": 0.2, "total": 2.0}},
        "seconds.sleep",
        "0.300",
    ),
    "keeps less than nothing": ({"kept_bytes": -1}, "kept_bytes", "0 or more"),
    "does not say what it keeps": ({"kept_bytes": None}, "kept_bytes", "naive counts what it keeps"),
    "features of no backbone": ({"features": {"key": "a"}}, "features", "there is no backbone"),
    "no features of a backbone": ({"config": raw_record("naive", **OWN_IMAGES)["config"]}, "features", "resnet18"),
    "joint counts what it keeps": ({**SOUND["joint"], "kept_bytes": 0}, "kept_bytes", "joint keeps all images"),
    "two names of one class": (
        {
            **{"config": raw_record(stream={**OWN_IMAGES["stream"], **RETURNS})["config"]},
            **{"class_order": [0, 1], "experiences": [["ant", "bee"], ["bee"], ["wasp"]], "n_test": [9]},
            **{key: [[0.0]] * 3 for key in ("accuracy", "accuracy_before_sleep")},
            **{"final_accuracy": 0.0},
        },
        r"experiences\[2\]",
        "'bee'",
    ),
    "no version of torch": ({"versions": {**ORIGIN["versions"], "torch": None}}, "versions.torch", "a version"),
    "no processor": ({"hardware": {"threads": 1}}, "hardware.cpu", "made on"),
    "threads in words": ({"hardware": {**ORIGIN["hardware"], "threads": "two"}}, "hardware.threads", "1 or more"),
    "no schema": ({"schema": ...}, "schema", "1"),
    "no such data": ({"config": raw_record(stream={**TINY["stream"], "dataset": "digit"})["config"]}, "config", "run"),
    "no sleep in its config": ({**FIXED_SLEEP, "config": {**SLEPT["config"], "sleep": None}}, "config.sleep", "absent"),
    "a seed that is none": (
        {"seed": -1, "config": raw_record(stream={**TINY["stream"], "class_order": "seeded"})["config"]},
        "seed",
        "from 0",
    ),
    "short commit": ({"commit": "0123456"}, "commit", "all hexadecimal digits"),
    "a number as text": ({"seed": "3"}, "seed", "^3, as `run` writes it"),
    "infinite": ({"seconds": {"train": 1.0, "sleep": 0.0, "total": math.inf}}, "file", "a record"),
    "missing": ({"seed": ...}, "seed", "Field required"),
    "unknown key": ({"accuracies": []}, "accuracies", "not permitted"),
    "error of a run that is done": ({"error": "no"}, "error", "null"),
    "numbers of a failed run": ({"status": "failed", "error": "no"}, "accuracy", "nothing"),
    "all rows of a diverged run": (
        {"status": "diverged", "error": "no", "final_accuracy": None},
        "accuracy",
        "fewer than 3",
    ),
    "numbers that the preset has not": (
        {"config": with_steps(900), **FIXED_SLEEP},
        "config.sleep.numbers.steps",
        "^800",
    ),
    "a key that nobody has": ({"config": {**raw_record()["config"], "luck": 7}}, "config.luck", "^absent"),
    "a whole number for another": (
        {"config": {**raw_record()["config"], "training": {**raw_record()["config"]["training"], "momentum": 0}}},
        "config.training.momentum",
        r"^0\.0",
    ),
    "unknown strategy": (
        {"strategy": "naiv", "config": {**raw_record()["config"], "strategy": "naiv"}},
        "config",
        "one that it can run",
    ),
}


@pytest.mark.parametrize(("changes", "field", "expected"), UNTRUE.values(), ids=UNTRUE)
def test_an_untruth_is_found_by_its_field(tmp_path: Path, changes: dict[str, Any], field: str, expected: str) -> None:
    path = write({key: value for key, value in {**raw_record(), **changes}.items() if value is not ...}, tmp_path)
    found = [finding for finding in check_record(path)[1] if not finding.is_warning]
    told = "\n".join(map(str, found))
    assert any(re.fullmatch(field, f.field) and re.search(expected, f.expected) for f in found), told
    assert all(finding.path == path for finding in found)


def test_a_record_in_another_place_is_found(tmp_path: Path) -> None:
    path = write(raw_record(), tmp_path, name="else/naiv/seed4-00000000.json")
    found = {finding.field: finding.expected for finding in check_record(path)[1]}
    assert found == {
        "folder of the config": "tiny, after its config_name",
        "folder": "naive, after its strategy",
        "file name": f"seed3-{config_hash(raw_record()['config'])}.json, after its seed and the hash of the config",
    }


def test_a_changed_config_no_longer_has_its_name(tmp_path: Path) -> None:
    path = write(raw_record(), tmp_path)
    raw = raw_record(training={**TINY["training"], "lr": 0.2})
    path.write_text(json.dumps(raw), encoding="utf-8")
    assert [finding.field for finding in check_record(path)[1]] == ["file name"]


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00", '{"seconds": NaN}'])
def test_a_file_that_is_no_record_is_found(tmp_path: Path, content: str) -> None:
    path = tmp_path / "seed0-00000000.json"
    path.write_text(content, encoding="utf-8")
    record, found = check_record(path)
    assert record is None
    assert found
    assert str(found[0]).startswith(str(path))


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


def test_numbers_that_a_sleep_does_not_read_are_a_warning(tmp_path: Path) -> None:
    # Records had them once, and those that are committed must stay readable; `resolve` leaves them out today.
    raw = raw_record("naive+settle")
    raw["config"]["sleep"]["numbers"]["depth"] = 0.3
    (finding,) = findings_of(raw, tmp_path)
    assert finding.is_warning
    assert finding.found == "also depth"


# -- from a record back to a config ------------------------------------------------------------------------------------

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "no sleep": ("naive", {}),
    "auto": ("naive+src", {}),
    "settling": ("naive+settle", {}),
    "levelling": ("naive+level", {}),
    "only": ("naive+only", {"sleep": {"set": {"settle": True, "steps": 50}}}),
    "every other": ("naive+src", {"sleep": {"every": 2}}),
    "changed": ("naive+src", {"sleep": {"set": {"depth": 0.5, "steps": [400, 800], "settle": False}}}),
    "changed and not read": ("naive+settle", {"sleep": {"set": {"depth": 0.5, "inc": 0.1, "steps": 5}}}),
    "changed by the suffix": ("naive+settle", {"sleep": {"set": {"replay": True}}}),
    "steps given, not measured": ("naive+src", {"sleep": {"set": {"inc": 0.1, "dec": [0.1, 0.2, 0.3], "depth": 2}}}),
    "no threshold is reached": ("naive+src", {"sleep": {"set": {"thresholds": [math.inf, 1.0, 2.0]}}}),
    "paper": ("naive+src", {"sleep": {"preset": "paper/split_mnist", "reference": "seen_classes"}}),
    "paper, changed": ("naive+src", {"sleep": {"preset": "paper/split_mnist", "set": {"inc": None, "max_rate": 20}}}),
    "fraction of a memory": ("replay", {"settings": {"memory_fraction": 0.5, "ewc_lambda": 7.0}}),
    "size of a memory": ("der+src", {"settings": {"memory_size": 40, "der_alpha": 1}}),
    "number of a method": ("ewc", {"settings": {"ewc_lambda": 1000}}),
    "permuted": ("naive", {"stream": {"dataset": "digits", "permutations": 3, "scale": 2.5}}),
    "coming back": ("naive+src", {"stream": {"dataset": "digits", "experiences": [[0, 1], list(range(10))]}}),
    "few images": (
        "naive",
        {"stream": {"dataset": "digits", "n_experiences": 5, "images_per_experience": [10, 0.5, 3, 4, 5]}},
    ),
    "backbone": (
        "naive+src",
        {
            "stream": {"dataset": "image_folder", "folder": ["photos.zip"], "n_experiences": 2, "scale": "first"},
            "backbone": {"name": "resnet18", "weights": "random", "seed": 1, "cached": False},
        },
    ),
}


def resolved(strategy: str, parts: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a record as it comes back from its file."""
    text = json.dumps(resolve(RunConfig.model_validate({**TINY, **parts}), strategy), allow_nan=False)
    return json.loads(text)


@pytest.mark.parametrize(("strategy", "parts"), KINDS.values(), ids=KINDS)
def test_a_config_made_from_a_record_resolves_to_it(strategy: str, parts: dict[str, Any]) -> None:
    config = resolved(strategy, parts)
    record = Record.model_validate({**raw_record(), "strategy": strategy, "config": config})
    again = resolve(config_of(record), strategy)
    assert again == config
    assert config_hash(again) == config_hash(config)


def test_every_kind_of_committed_config_is_made_again() -> None:
    old = set()
    for folder in {path.parent for path in RESULTS.rglob("seed*.json")}:
        path = min(folder.glob("seed*.json"))
        record = Record.model_validate_json(path.read_text(encoding="utf-8"))
        again = resolve(config_of(record), record.strategy)
        if again != record.config:
            assert [f.field for f in check_record(path)[1]] == ["config.sleep.numbers"]
            old.add(record.config_name)
    assert old <= {
        "paper_split_mnist",
        "paper_split_fashion_mnist",
    }  # from before numbers that are not read were left out


ODD_CONFIGS: dict[str, dict[str, Any]] = {
    "no stream": {"stream": None},
    "no preset": {"sleep": {"preset": "autos", "reference": "none", "every": 1, "changed": [], "numbers": {}}},
    "no numbers": {"sleep": {"preset": "auto", "reference": "none", "every": 1, "changed": []}},
    "numbers as a list": {"sleep": {"preset": "auto", "reference": "none", "every": 1, "changed": [], "numbers": [1]}},
    "a sleep in words": {"sleep": "deep"},
    "text for a number": {"training": {"lr": "fast"}},
}


@pytest.mark.parametrize("change", ODD_CONFIGS.values(), ids=ODD_CONFIGS)
def test_an_odd_config_is_a_finding_and_no_crash(tmp_path: Path, change: dict[str, Any]) -> None:
    raw = raw_record("naive+src")
    with pytest.raises(ConfigError):
        config_of(Record.model_validate({**raw, "config": {**raw["config"], **change}}))
    found = findings_of({**raw, "config": {**raw["config"], **change}}, tmp_path)
    assert [finding.field for finding in found] == ["config"]


# -- repeats -----------------------------------------------------------------------------------------------------------


def changed(record: Record, *, right: int = 0, **changes: Any) -> Record:
    """Return a record with so many right answers less in the last entry of its matrix, consistent in itself."""
    raw = record.model_dump(by_alias=True)
    last, n = raw["accuracy"][-1], raw["n_test"]
    last[-1] = (round(last[-1] * n[-1]) - right) / n[-1]
    raw["final_accuracy"] = sum(round(value * k) for value, k in zip(last, n, strict=True)) / sum(n)
    return Record.model_validate({**raw, **changes})


BY_HAND = Record.model_validate(raw_record("naive+src"))
ELSEWHERE = {"hardware": {**ORIGIN["hardware"], "cpu": "another processor"}}


def test_equal_matrices_confirm_each_other() -> None:
    found = compare(BY_HAND, BY_HAND)
    assert (found.holds, found.largest, found.where, found.tolerance) == (True, 0.0, "", 0.0)


def test_on_the_same_machine_one_image_is_too_much() -> None:
    found = compare(BY_HAND, changed(BY_HAND, right=1))
    assert not found.holds
    assert found.largest == pytest.approx(100 / 269)
    ((field, _, expected),) = found.problems
    assert field == "accuracy[2][2]"
    assert "equal to the bit, on the same versions and hardware" in expected
    assert BY_HAND.commit in expected  # the code may be another: this is the one to check out


@pytest.mark.parametrize(("right", "holds"), [(6, True), (7, False)])  # 6 of 269 are 2.2 points, 7 are 2.6
def test_elsewhere_matrices_may_differ_by_the_tolerance(right: int, holds: bool) -> None:
    found = compare(BY_HAND, changed(BY_HAND, right=right, **ELSEWHERE))
    assert found.holds is holds
    assert found.tolerance == TOLERANCE
    assert found.where == "accuracy[2][2]"
    assert found.largest == pytest.approx(100 * right / 269)


@pytest.mark.parametrize(
    "change",
    [{"versions": {**ORIGIN["versions"], "torch": "2.9"}}, {"hardware": {**ORIGIN["hardware"], "threads": 2}}],
    ids=["versions", "threads"],
)
def test_other_versions_and_threads_are_elsewhere_too(change: dict[str, Any]) -> None:
    assert compare(BY_HAND, changed(BY_HAND, right=1, **change)).holds


def test_a_gpu_of_the_same_name_need_not_be_equal_to_the_bit() -> None:
    gpu = {"hardware": {**ORIGIN["hardware"], "device": "a GPU"}}
    assert compare(changed(BY_HAND, **gpu), changed(BY_HAND, right=1, **gpu)).tolerance == TOLERANCE


DIFFERENT = {
    "kept": ({"kept_bytes": 601}, "kept_bytes"),
    "names": ({"experiences": [["a", "b"], ["c"], ["d"]]}, "experiences"),
    "order": ({"class_order": [1, 0]}, "class_order"),
    "status": ({"status": "diverged", "error": "no", "final_accuracy": None}, "status"),
    "data": ({"features": {"key": "b", "data": {"train": "x"}}}, "features.data.train"),
    "another way": ({"accuracy_by": {"a": AFTER}}, "accuracy"),
}


@pytest.mark.parametrize(("change", "field"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_must_not_differ_anywhere(change: dict[str, Any], field: str) -> None:
    found = compare(BY_HAND, Record.model_validate({**BY_HAND.model_dump(by_alias=True), **change, **ELSEWHERE}))
    assert [problem[0] for problem in found.problems] == [field]


def test_versions_behind_features_may_differ() -> None:
    ours, theirs = ({"key": k, "backbone": {"versions": {"timm": k}}, "data": "x"} for k in "ab")
    assert compare(changed(BY_HAND, features=ours), changed(BY_HAND, features=theirs)).holds


@pytest.fixture(scope="module")
def made(digits_once: Dataset) -> Record:
    """Return a real run."""
    config = RunConfig.model_validate({**TINY, "training": {**TINY["training"], "epochs": 1}})
    record = run(config, strategy="naive+src", seed=3, data=digits_once)
    return record.model_copy(update={"tree_clean": True, "commit": ORIGIN["commit"]})


@pytest.fixture(scope="module")
def digits_once() -> Dataset:
    from benchmarks.data import load_digits

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

    monkeypatch.setattr("benchmarks.runner.run", fake)
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
