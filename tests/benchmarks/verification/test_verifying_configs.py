"""verify: the config of a record is made again from the record."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.configs.run import RunConfig, resolve
from benchmarks.records.packed import find_files
from benchmarks.records.record import RECORD_FILES, Record, config_hash, read_record
from benchmarks.verification.checks import check_record
from benchmarks.verification.restoring import config_of
from lab_samples import TINY
from places import RESULTS
from src_plugin.errors import ConfigError
from verification_samples import (
    findings_of,
    raw_record,
)

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "no sleep": ("naive", {}),
    "auto": ("naive+src", {}),
    "settling": ("naive+settle", {}),
    "levelling": ("naive+level", {}),
    "only": ("naive+only", {"sleep": {"set": {"engine": "simulated", "settle": True, "steps": 50}}}),
    "every other": ("naive+src", {"sleep": {"every": 2}}),
    "simulated": ("naive+simulated", {}),
    "as before": ("naive+before", {}),
    "changed": ("naive+src", {"sleep": {"set": {"fractions": [0.5, 0.1, 0], "settle": False}}}),
    "as by default before": ("naive+src", {"sleep": {"set": {"depth": 0.25}}}),
    "changed step sizes": ("naive+src", {"sleep": {"set": {"depth": 0.25, "depression": [0.5, 0.1, 0]}}}),
    "a changed depth": ("naive+src", {"sleep": {"set": {"depth": 0.3}}}),
    "changed and not read": ("naive+settle", {"sleep": {"set": {"depression": [0.5, 0.1, 0], "depth": 2}}}),
    "changed words": ("naive+src", {"sleep": {"set": {"noise": "binary", "prior": "equal"}}}),
    "a changed word of three": ("naive+src", {"sleep": {"set": {"engine": "simulated"}}}),
    "changed and simulated": ("naive+src", {"sleep": {"set": {"engine": "simulated", "depth": 0.5, "steps": 9}}}),
    "changed by the suffix": ("naive+settle", {"sleep": {"set": {"replay": True}}}),
    "steps given, not measured": (
        "naive+src",
        {"sleep": {"set": {"engine": "simulated", "inc": 0.1, "dec": [0.1, 0.2, 0.3], "depth": 2}}},
    ),
    "no threshold is reached": (
        "naive+src",
        {"sleep": {"set": {"engine": "simulated", "thresholds": [math.inf, 1.0, 2.0]}}},
    ),
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
    for path in {path.parent: path for path in find_files(RESULTS, RECORD_FILES)}.values():  # one of each folder
        record = read_record(path)
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
