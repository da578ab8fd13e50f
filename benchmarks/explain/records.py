"""Records of what was explained: one JSON file for each config and seed, written once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.configs.run import RunConfig, resolve
from benchmarks.data.sets import DATA_SETS
from benchmarks.errors import RecordError
from benchmarks.files import write_whole
from benchmarks.records.packed import as_written, find_files, is_folder, read_text
from benchmarks.records.record import config_hash

Told = dict[str, Any]

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
"""Name -> what people read, in the order of tables."""


def path_of(out: Path, config: RunConfig, seed: int) -> Path:
    """Return where a record of a config, as `held_out` or the like has it, lies.

    Its name does not begin with "seed": those are records of runs.
    """
    hash8 = config_hash(resolve(config, "naive+src"))
    return out / f"{config.name}-seed{seed}-{hash8}.json"


def write(record: Told, path: Path) -> None:
    """Write a record, all of it or nothing."""
    write_whole(path, as_written(record))


def read(path: Path) -> Told:
    """Read a record.

    Raises:
        RecordError: It cannot be read.
    """
    try:
        found: Told = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    return found


def read_all(folder: Path) -> list[Told]:
    """Return all records of a folder, by name; none where there is no folder."""
    return [read(path) for path in paths_in(folder)]


def paths_in(folder: Path) -> list[Path]:
    """Return where all records of a folder lie, by name; none where there is no folder."""
    return find_files(folder, "*-seed*.json") if is_folder(folder) else []


def groups_of(records: Sequence[Told]) -> dict[str, list[Told]]:
    """Return records by what people read: data set and optimizer, where that tells all configs apart."""
    configs: dict[tuple[str, str], list[Told]] = {}
    for record in records:
        configs.setdefault((record["config_name"], config_hash(record["config"])), []).append(record)
    names = [label_of(group[0]) for group in configs.values()]
    if len(set(names)) < len(names):
        names = [" ".join(key) for key in configs]
    return dict(sorted(zip(names, configs.values(), strict=True), key=lambda item: _place(item[1][0])))


def _place(record: Told) -> tuple[str, int, str]:
    """Return what to sort by: data set, then optimizer."""
    config = record["config"]
    optimizer = list(OPTIMIZERS).index(config["training"]["optimizer"])
    return config["stream"]["dataset"], optimizer, record["config_name"]


def label_of(record: Told) -> str:
    """Return data set and optimizer, for people."""
    stream, training = record["config"]["stream"], record["config"]["training"]
    inputs = " features" if "backbone" in record["config"] else ""
    known = DATA_SETS.get(stream["dataset"])
    return f"{known.title if known else stream['dataset']}{inputs}, {OPTIMIZERS[training['optimizer']]}"


def is_gated(record: Told) -> bool:
    """Whether its sleep had the published, gated rule."""
    return record["config"]["sleep"]["numbers"]["gate_width"] is not None
