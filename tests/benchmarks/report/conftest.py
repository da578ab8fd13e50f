"""Folders of records made by hand, and the pages made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
import vl_convert
from rich.console import Console

from benchmarks.report import report
from report_samples import LEADERBOARD, write_runs


@pytest.fixture
def console() -> Console:
    """Return a console that keeps what is printed, in `console.file`."""
    return Console(file=StringIO(), width=200)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the pages of LEADERBOARD; the bundle of Vega, which takes seconds, is left empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vl_convert, "javascript_bundle", lambda **_: "")
        yield _make(tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="session")
def whole_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the pages of LEADERBOARD with all that a browser needs."""
    return _make(tmp_path_factory.mktemp("whole"))


def _make(folder: Path) -> Path:
    write_runs(folder / "records", LEADERBOARD)
    return report([folder / "records"], out=folder / "site", console=Console(file=StringIO())).parent


@pytest.fixture
def make(tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that writes records and makes pages of them, without Vega."""
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda **_: "")

    def make_site(*records, family: str = "") -> Path:
        write_runs(tmp_path / "records", {family: list(records)})
        return report([tmp_path / "records"], out=tmp_path / "site", console=console).parent

    return make_site
