"""Is a record what it says? Checked against itself and its config: no data and no network are needed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.configs.run import RunConfig, StreamConfig, resolve
from benchmarks.data.sets import DATA_SETS
from benchmarks.records.packed import read_text
from benchmarks.records.record import Record, finite, leaves
from benchmarks.streams.loading import check_dataset
from benchmarks.streams.splitting import split_classes
from benchmarks.verification.findings import Finding, Problem, short
from benchmarks.verification.marks import mark_findings
from benchmarks.verification.restoring import config_of
from src_plugin.config import SleepConfig
from src_plugin.errors import ConfigError
from strategies import find_row

HAS_NUMBERS = ("done", "diverged")  # the states of a run that measured something
NEEDED_VERSIONS = ("python", "torch", "numpy", "numba", "avalanche-lib", "src-plugin")
NEEDED_HARDWARE: dict[str, type] = {"cpu": str, "device": str, "cores": int, "threads": int}


def check_record(path: Path) -> tuple[Record | None, list[Finding]]:
    """Read a record and check all that can be checked without its data.

    Args:
        path: Its file, <config name>/<strategy>/seed<k>-<hash>.json.

    Returns:
        The record, None if it cannot be read as one; and what is wrong with it, in the order of the checks.
    """
    try:
        raw = json.loads(read_text(path))
        if finite(raw) != raw:
            raise ValueError("it has numbers that are not finite")
        record = Record.model_validate(raw)
    except ValidationError as error:
        return None, [_of_schema(path, item) for item in error.errors()]
    except (OSError, ValueError, ArithmeticError, RecursionError) as error:
        return None, [Finding(path, "file", f"not readable ({error})", "a record as `run` writes it, in JSON")]
    problems = [*_place_problems(record, path), *_type_problems(record, raw)]
    problems += [problem for check in CHECKS for problem in check(record)]
    warned = list(_warnings(record))
    try:
        config = config_of(record)
        check_dataset(config)
        again = resolve(config, record.strategy)
    except ConfigError as error:
        problems.append(("config", f"refused by this checkout ({error})", "one that it can run"))
    else:
        idle = _idle_numbers(record, again)
        problems += _config_problems(record, again, apart_from=idle)
        problems += [problem for check in CONFIG_CHECKS for problem in check(record, config)]
        if idle:
            also = f"also {', '.join(name.rpartition('.')[2] for name in idle)}"
            warned.append(("config.sleep.numbers", also, "what this sleep reads alone; `run` makes such a record anew"))
    findings = [Finding(path, field, short(found), expected) for field, found, expected in problems]
    findings += [Finding(path, field, short(found), expected, is_warning=True) for field, found, expected in warned]
    return record, findings + mark_findings(path)


def _of_schema(path: Path, item: Mapping[str, Any]) -> Finding:
    where = ".".join(str(part) for part in item["loc"])
    if not where:  # said by a check of the whole record
        return Finding(path, "record", str(item["msg"]).removeprefix("Value error, "), "one that agrees with itself")
    found = "missing" if item["type"] == "missing" else short(item["input"])
    return Finding(path, where, found, f"another value: {item['msg']}")


def _place_problems(record: Record, path: Path) -> Iterator[Problem]:
    found = ("", "", *Path(os.path.abspath(path)).parts)[-3:]
    wanted = (record.config_name, record.strategy, f"seed{record.seed}-{record.hash}.json")
    whys = ("config_name", "strategy", "seed and the hash of the config")
    for field, here, there, why in zip(
        ("folder of the config", "folder", "file name"), found, wanted, whys, strict=True
    ):
        if here != there:
            yield field, here, f"{there}, after its {why}"


def _type_problems(record: Record, raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what reads as the right value and is written otherwise, e.g. a number as text."""
    written = record.model_dump(by_alias=True)
    if "schema" not in raw:
        yield "schema", "absent", "1"
    for key, value in raw.items():
        expected = written.get(key, "absent")
        if json.dumps(value, sort_keys=True) != json.dumps(expected, sort_keys=True):
            yield key, value, f"{short(expected)}, as `run` writes it"


def _config_problems(record: Record, again: Mapping[str, Any], *, apart_from: Sequence[str]) -> Iterator[Problem]:
    there, here = leaves(record.config), leaves(again)
    for key in sorted({*there, *here} - set(apart_from)):
        found, wanted = there.get(key, "absent"), here.get(key, "absent")
        if json.dumps(found) != json.dumps(wanted):  # 1 is not 1.0 in a hash
            yield f"config.{key}", found, f"{short(wanted)}, as this checkout resolves the same config"


def _idle_numbers(record: Record, again: Mapping[str, Any]) -> list[str]:
    """Return keys of the sleep's numbers that records once had and this sleep does not read: they move nothing."""
    if again["sleep"] is None:
        return []
    known = SleepConfig().to_dict()
    given, read = (record.config.get("sleep") or {}).get("numbers", {}), again["sleep"]["numbers"]
    return [f"sleep.numbers.{name}" for name in given if name in known and name not in read]


def _check_origin(record: Record) -> Iterator[Problem]:
    if record.commit != "unknown" and not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", record.commit):
        yield "commit", repr(record.commit), "all hexadecimal digits of a commit"
    for name in NEEDED_VERSIONS:
        if not record.versions.get(name):
            yield f"versions.{name}", record.versions.get(name, "absent"), "a version"
    for name, kind in NEEDED_HARDWARE.items():
        found = record.hardware.get(name)
        if not found or not isinstance(found, kind) or (isinstance(found, int) and found < 1):
            yield f"hardware.{name}", found, "what the run was made on" if kind is str else "a number, 1 or more"


def _warnings(record: Record) -> Iterator[Problem]:
    if record.commit == "unknown":
        yield "commit", "unknown", "the commit of the code that ran: run from a checkout in git"
    elif record.tree_clean is not True:
        yield "tree_clean", record.tree_clean, "True: commit first, then run, so that the code can be found"


def _check_costs(record: Record) -> Iterator[Problem]:
    seconds = record.seconds
    if seconds.train + seconds.sleep > seconds.total + 1e-6:
        expected = f"at least those of training and sleep, {seconds.train + seconds.sleep:.3f}"
        yield "seconds.total", f"{seconds.total:.3f}", expected
    if not 0 <= record.seed < 2**32:
        yield "seed", record.seed, "a whole number from 0 to 2^32 - 1"
    if record.kept_bytes is not None and record.kept_bytes < 0:
        yield "kept_bytes", record.kept_bytes, "0 or more"


def _check_status(record: Record) -> Iterator[Problem]:
    if record.status == "done" and record.error is not None:
        yield "error", record.error, "null: the run is done"
    if record.status != "done" and record.final_accuracy is not None:
        yield "final_accuracy", record.final_accuracy, f"null: the run is {record.status}"
    if record.status in HAS_NUMBERS:
        return
    measured = ("accuracy", "accuracy_by", "calibration", "features", "kept_bytes", "sleep_reports")
    for field in (*measured, "experiences", "n_test"):
        if getattr(record, field) not in (None, []):
            yield field, getattr(record, field), f"nothing: the run {record.status}"


def _check_stream(record: Record, config: RunConfig) -> Iterator[Problem]:
    """Compute anew which classes come when: by the config, and the seed where it decides."""
    if record.status not in HAS_NUMBERS:
        return
    stream, given = config.stream, record.experiences
    if not given or not all(given):
        yield "experiences", given, "the names of the classes of each"
        return
    n_classes = _n_classes(stream, given)
    known = DATA_SETS.get(stream.dataset)
    if known is not None and n_classes != known.n_classes:
        yield "experiences", f"of {n_classes} classes", f"{known.n_classes} classes, as {stream.dataset} has them"
        return
    try:
        classes = split_classes(stream, n_classes=n_classes, seed=record.seed)[: stream.first]
    except ValueError as error:  # of NumPy for a seed that is none
        yield "config.stream", f"not possible ({error})", f"a split of {n_classes} classes"
        return
    why = f"which config.stream and seed {record.seed} give"
    order = list(dict.fromkeys(chain.from_iterable(classes)))
    if record.class_order != order:
        yield "class_order", record.class_order, f"{short(order)}, {why}"
    sizes = [len(group) for group in classes]
    if [len(group) for group in given] != sizes:
        yield "experiences", f"of {short([len(group) for group in given])} classes", f"{short(sizes)}, {why}"
        return
    yield from _name_problems(stream, classes, given)
    yield from _column_problems(record, config, classes)


def _n_classes(stream: StreamConfig, given: Sequence[Sequence[str]]) -> int:
    """Return how many classes a data set must have, by how its stream is cut and the first of its experiences."""
    if stream.experiences is not None:
        return len(set(chain.from_iterable(stream.experiences)))
    if isinstance(stream.class_order, list):
        return len(stream.class_order)
    if stream.classes_per_experience is not None:
        return sum(stream.classes_per_experience)
    return len(given[0]) * (stream.n_experiences or 1)


def _name_problems(
    stream: StreamConfig, classes: Sequence[Sequence[int]], given: Sequence[Sequence[str]]
) -> Iterator[Problem]:
    sources = [stream.dataset, *stream.then] if stream.then else [stream.dataset] * len(classes)
    names: dict[tuple[str, int], str] = {}  # what a class is called must be the same whenever it comes
    for i, (source, labels, group) in enumerate(zip(sources, classes, given, strict=False)):
        if source in DATA_SETS:
            names |= {(source, label): name for label, name in enumerate(DATA_SETS[source].class_names)}
        wanted = [names.setdefault((source, label), name) for label, name in zip(labels, group, strict=True)]
        if list(group) != wanted:
            yield f"experiences[{i}]", group, f"{short(wanted)}, the names of its classes {short(list(labels))}"


def _column_problems(record: Record, config: RunConfig, classes: Sequence[Sequence[int]]) -> Iterator[Problem]:
    """Find columns that are not there, or test images that a data set does not have."""
    stream, n_test = config.stream, record.n_test
    seen: set[int] = set()
    n_columns = 0
    for group in classes:
        n_columns += stream.experiences is None or not seen.issuperset(group)
        seen.update(group)
    if len(n_test) != n_columns:
        yield "n_test", f"of {len(n_test)} columns", f"{n_columns}, one for each experience with new test images"
    elif min(n_test) < 1:
        yield "n_test", n_test, "1 or more in each column"
    elif (
        not stream.validation
        and stream.first is None
        and stream.class_shares is None
        and not (config.backbone and config.backbone.unreadable == "skip")
    ):
        sources = [stream.dataset, *(stream.then or ())] * (stream.permutations or 1)
        n = sum(DATA_SETS[source].n_test for source in sources if source in DATA_SETS)
        if all(source in DATA_SETS for source in sources) and sum(n_test) != n:
            yield "n_test", f"{sum(n_test)} in all", f"{n}, the test images there are"


def _check_matrices(record: Record, config: RunConfig) -> Iterator[Problem]:
    after, before, n_test = record.accuracy, record.accuracy_before_sleep, record.n_test
    if record.status not in HAS_NUMBERS or after is None or before is None:
        return
    row, suffix = find_row(record.strategy)
    n_rows = 1 if row.at_once else len(record.experiences)
    if record.status == "done" and len(after) != n_rows:
        yield "accuracy", f"of {len(after)} rows", f"{n_rows}, one for each experience that is trained on"
    if record.status == "diverged" and len(after) >= n_rows:
        yield "accuracy", f"of {len(after)} rows", f"fewer than {n_rows}: the run diverged before its end"
    ways = record.accuracy_by or {}
    if ways and after not in ways.values():
        yield "accuracy_by", f"of the ways {', '.join(ways)}", "accuracy itself under one of them"
    matrices = {"accuracy": after, "accuracy_before_sleep": before, **{f"accuracy_by.{k}": m for k, m in ways.items()}}
    for name, matrix in matrices.items():
        if len(matrix) != len(after):
            yield name, f"of {len(matrix)} rows", f"{len(after)}, as accuracy has"
        odd = [
            (i, j, value, n)
            for i, entries in enumerate(matrix)
            for j, (value, n) in enumerate(zip(entries, n_test, strict=True))
            if n < 1 or value != round(value * n) / n
        ]
        if odd:
            i, j, value, n = odd[0]
            more = f"; so are {len(odd) - 1} other entries" if len(odd) > 1 else ""
            yield f"{name}[{i}][{j}]", f"{value!r}, no number of right answers", f"a multiple of 1/{n}{more}"
    for i, (a, b) in enumerate(zip(after, before, strict=True)):
        if a != b and not (suffix and (i + 1) % config.sleep.every == 0):
            yield f"accuracy_before_sleep[{i}]", b, f"{short(a)}, as in accuracy: nothing slept after experience {i}"


def _check_sleep(record: Record, config: RunConfig) -> Iterator[Problem]:
    if record.status not in HAS_NUMBERS:
        return
    _, suffix = find_row(record.strategy)
    reports, spent = record.sleep_reports, record.seconds.sleep
    n = len(record.accuracy or ()) // config.sleep.every if suffix else 0
    may_have_slept = bool(suffix) and record.status == "diverged"  # in the experience that has no row
    if not n <= len(reports) <= n + may_have_slept:
        why = f"one after every {config.sleep.every} of {len(record.accuracy or ())}" if suffix else "it does not sleep"
        yield "sleep_reports", f"{len(reports)} reports", f"{n}: {why}"
    if not suffix and spent:
        yield "seconds.sleep", spent, f"0: {record.strategy} does not sleep"
    for k, report in enumerate(reports):
        if report.get("decision") not in ("slept", "awake"):
            yield f"sleep_reports[{k}].decision", report.get("decision", "absent"), "slept or awake"
    told = [report.get("seconds") for report in reports]
    if not all(isinstance(value, (int, float)) for value in told):
        yield "sleep_reports", "without seconds", "a number of seconds in each"
    elif (total := sum(told)) > spent + 1e-6:  # type: ignore[arg-type]
        yield "seconds.sleep", f"{spent:.3f}", f"at least those of its reports, {total:.3f}"


def _check_keeping(record: Record, config: RunConfig) -> Iterator[Problem]:
    if record.status not in HAS_NUMBERS:
        return
    row, _ = find_row(record.strategy)
    if row.is_counted and record.kept_bytes is None:
        yield "kept_bytes", None, f"a number: {record.strategy} counts what it keeps"
    if not row.is_counted and record.kept_bytes is not None:
        yield "kept_bytes", record.kept_bytes, f"null: {record.strategy} keeps all images"
    if config.backbone is not None and not record.features:
        yield "features", record.features, f"where the features of {config.backbone.name} came from"
    if config.backbone is None and record.features is not None:
        yield "features", record.features, "null: there is no backbone in the config"


CHECKS: tuple[Callable[[Record], Iterator[Problem]], ...] = (_check_origin, _check_costs, _check_status)
CONFIG_CHECKS: tuple[Callable[[Record, RunConfig], Iterator[Problem]], ...] = (
    *(_check_stream, _check_matrices),
    *(_check_sleep, _check_keeping),
)
