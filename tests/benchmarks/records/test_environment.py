"""What a record says of its origin: enough to repeat it, nothing about people or folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.records import environment


def test_versions_name_what_moves_numbers() -> None:
    versions = environment.versions()
    assert {"python", "torch", "numpy", "avalanche-lib", "src-plugin"} <= versions.keys()
    assert versions["torch"]
    assert versions["src-plugin"]


def test_a_missing_package_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("no-such-package", "src-plugin"))
    assert environment.versions()["no-such-package"] is None


def test_outside_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    environment.commit.cache_clear()
    try:
        assert environment.commit() == ("unknown", None)
    finally:
        environment.commit.cache_clear()


def test_hardware_is_counted_and_names_no_folder() -> None:
    hardware = environment.hardware("cpu")
    assert hardware["device"] == "cpu"
    assert int(hardware["cores"]) >= 1
    assert int(hardware["threads"]) >= 1
    text = json.dumps([hardware, environment.versions(), environment.commit()])
    assert str(Path.home()) not in text
    assert str(environment.ROOT) not in text
