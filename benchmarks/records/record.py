"""Record: what one run found, in one JSON file that is written once. Tables and pictures come from records only.

The matrix is the truth: metrics are computed from it when read. Unknown is null, a number is a number.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmarks.errors import NewerRecordError, RecordError
from benchmarks.files import write_whole
from benchmarks.records.metrics import pooled_accuracy
from benchmarks.records.packed import as_written, find_files, read_text

RECORD_FILES = "seed*.json"
"""Names of the files of records."""


class Seconds(BaseModel):
    """Where the time went, in s; measuring accuracy is in `total` only."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    train: float = Field(ge=0)
    sleep: float = Field(ge=0)
    total: float = Field(ge=0)


class Record(BaseModel):
    """One run of one strategy under one seed.

    Attributes:
        config: Everything that can move a number: stream, model, training, sleep (with all its numbers) and strategy.
        accuracy: Fractions, shape (n_trained, n_tests), after training and sleep; None if nothing was measured. There
            is a column for each experience that brought something new, see `benchmarks.streams.stream.Stream`.
        accuracy_before_sleep: The same matrix just before each sleep; equal to `accuracy` where nothing slept.
        accuracy_by: The same matrix for each way of answering, the one of `accuracy` first, where a method has several
            (iCaRL: nearest class mean, and the outputs of the network).
        final_accuracy: Accuracy over all test images after the last experience.
        n_test: Test images of each column.
        calibration: Of each row of `accuracy`, before and after the sleep, over test images of what was seen so far:
            `ece`, `brier`, `nll` and `class_mean` as `benchmarks.runs.calibration` has them. None in a pair where the
            method answers otherwise than by its outputs; None altogether with several heads, and in records before it
            was measured.
        sleep_reports: One per sleep, as the plugin gave them.
        features: Where the inputs came from: hashes of the images, and backbone, weights and preprocessing if there was
            one; None for pixels of a published data set, whose files are checked.
        kept_bytes: What the strategy kept from one experience to the next besides the model; None of a run without
            numbers, and of strategies that keep all images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=())

    schema_version: Literal[1] = Field(default=1, alias="schema")
    status: Literal["done", "diverged", "failed", "skipped"]
    error: str | None = None
    config_name: str
    config: dict[str, Any]
    strategy: str
    seed: int
    class_order: list[int]
    experiences: list[list[str]]
    n_test: list[int]
    accuracy: list[list[float]] | None = None
    accuracy_before_sleep: list[list[float]] | None = None
    accuracy_by: dict[str, list[list[float]]] | None = None
    final_accuracy: float | None = None
    calibration: list[dict[Literal["before", "after"], dict[str, float | None] | None]] | None = None
    sleep_reports: list[dict[str, Any]] = Field(default_factory=list)
    features: dict[str, Any] | None = None
    kept_bytes: int | None = None
    seconds: Seconds
    versions: dict[str, str | None]
    commit: str
    tree_clean: bool | None
    hardware: dict[str, str | int]

    @model_validator(mode="after")
    def _is_consistent(self) -> Record:
        if (self.accuracy is None) != (self.accuracy_before_sleep is None):
            raise ValueError("accuracy and accuracy_before_sleep must both be there, or neither")
        if self.accuracy is not None and self.accuracy_before_sleep is not None:
            if len(self.accuracy) != len(self.accuracy_before_sleep):
                raise ValueError("accuracy and accuracy_before_sleep differ in their number of rows")
            others = [row for matrix in (self.accuracy_by or {}).values() for row in matrix]
            for row in (*self.accuracy, *self.accuracy_before_sleep, *others):
                if len(row) != len(self.n_test):
                    raise ValueError(f"a row of accuracy has {len(row)} entries for {len(self.n_test)} experiences")
                if not all(0.0 <= value <= 1.0 for value in row):
                    raise ValueError("accuracy holds values outside [0, 1]; percent belongs in printed tables only")
        if self.calibration is not None and len(self.calibration) != len(self.accuracy or ()):
            raise ValueError("calibration and accuracy differ in their number of rows")
        if self.status == "done":
            if not self.accuracy:
                raise ValueError("status is 'done', but there is no accuracy")
            if len(self.accuracy) not in (1, len(self.experiences)):
                raise ValueError(f"{len(self.accuracy)} rows of accuracy for {len(self.experiences)} experiences")
            expected = pooled_accuracy(self.accuracy[-1], self.n_test)
            if self.final_accuracy is None or abs(self.final_accuracy - expected) > 1e-9:
                raise ValueError(f"final_accuracy is {self.final_accuracy}, but the matrix gives {expected}")
        elif self.error is None:
            raise ValueError(f"status is {self.status!r}, but error does not say why")
        return self

    @property
    def hash(self) -> str:
        """The first eight digits of the SHA-256 of the config: part of the file name."""
        return config_hash(self.config)


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the first eight hexadecimal digits of the SHA-256 of a resolved config, keys sorted."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def record_path(out: Path, *, config_name: str, strategy: str, seed: int, hash8: str) -> Path:
    """Return where the record of a run lies: <out>/<config name>/<strategy>/seed<k>-<hash>.json."""
    return out / config_name / strategy / f"seed{seed}-{hash8}.json"


def finite(value: Any) -> Any:
    """Return a copy of a JSON tree in which infinities and NaN are None: JSON has no word for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def as_bytes(record: Record) -> bytes:
    """Return what the file of a record holds."""
    return as_written(record.model_dump(by_alias=True))


def write_record(record: Record, path: Path) -> None:
    """Write a record so that a reader finds all of it or nothing."""
    write_whole(path, as_bytes(record))


def read_record(path: Path) -> Record:
    """Read and check a record, on the disk or in a pack (`benchmarks.records.packed`).

    Raises:
        RecordError: The file cannot be read, is not JSON, does not fit the schema, contradicts itself, or its name
            belongs to another config or seed; the message names the file and what is wrong.
        NewerRecordError: It is of a newer schema.
    """
    cure = "if it is a run's, remove it and `run` makes it again; else keep it elsewhere"
    try:
        record = Record.model_validate_json(read_text(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    except ZeroDivisionError as error:
        raise RecordError(f"{path} is not a valid record: n_test counts no test image; {cure}") from error
    except ValidationError as error:
        refuse_newer(path, [item["input"] for item in error.errors() if item["loc"] == ("schema",)])
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "record"
        raise RecordError(f"{path} is not a valid record: {where}: {first['msg']}; {cure}") from error
    expected = f"seed{record.seed}-{record.hash}.json"
    if path.name != expected:
        raise RecordError(f"{path} holds the record {expected}: its name or its content was changed; {cure}")
    return record


def refuse_newer(path: Path, schemas: Sequence[Any]) -> None:
    """Raise NewerRecordError where a file says that it is of a newer schema: it is no broken file to be made again."""
    own = Record.model_fields["schema_version"].default
    for found in schemas:
        if isinstance(found, int) and found > own:
            what = f"{path} is a record of schema {found}, and this code reads {own}"
            raise NewerRecordError(f"{what}: newer code wrote it; take that, or give another folder")


def find_records(folder: Path) -> Iterator[Record]:
    """Yield every record under a folder or in a pack, in the order of their paths.

    Raises:
        RecordError: There is no such folder, or one file is not a valid record.
    """
    for path in find_files(folder, RECORD_FILES):
        yield read_record(path)


def reports_by_experience(record: Record) -> dict[int, dict[str, Any]]:
    """Return the reports of a run's sleeps by the number, from 0, of the experience that each followed.

    There is one for every `every`-th experience, see `SRCPlugin`.
    """
    every = (record.config.get("sleep") or {}).get("every", 1)
    return {(k + 1) * every - 1: report for k, report in enumerate(record.sleep_reports)}


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a tree of mappings by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return found
