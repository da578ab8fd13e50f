"""Records and published numbers -> CSV, Markdown and static pages: report()."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.console import say
from src_plugin.errors import ConfigError, SRCError

MARK = "report.json"  # by which a folder is known as a report, and may be replaced

__all__ = ["report"]


def report(folders: Sequence[Path], *, out: Path, console: Console) -> Path:
    """Turn records into a folder of pages that can be opened from disk or put on any web server.

    The folder is made beside the old one and takes its place when it is whole.

    Args:
        folders: Where records lie, at any depth.
        out: The folder to be made; it is empty, an earlier report, or not there yet.
        console: Where is said what was made.

    Returns:
        The page to open first, <out>/index.html.

    Raises:
        ConfigError: `out` holds something else, or lies among the records.
        RecordError: There is no such folder, or a file is not a valid record.
        SRCError: There are no records, or a package that draws the pages is missing.
    """
    check_place(folders, out)
    try:
        from benchmarks.report.page import write_pages
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("altair", "vl_convert", "jinja2"):
            raise
        raise SRCError(
            f"a report needs {error.name}, which is not installed: pip install altair vl-convert-python jinja2"
        ) from error
    from benchmarks.records.published import load_published
    from benchmarks.report.rows import make_benchmarks
    from benchmarks.report.runs import read_runs

    runs = read_runs(folders, console=console)
    benchmarks = make_benchmarks(runs, load_published())
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        write_pages(benchmarks, made)
        (made / MARK).write_text(
            json.dumps({"benchmarks": len(benchmarks), "runs": len(runs)}) + "\n", encoding="utf-8"
        )
        made.chmod(0o755)  # mkdtemp gives 0700, which no web server could read
        replace_folder(made, out)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    page = out / "index.html"
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    say(console, f"{len(runs):,} runs on {len(benchmarks)} benchmarks, {size / 1e6:.1f} MB: {page}")
    return page


def check_place(folders: Sequence[Path], out: Path) -> None:
    """Refuse a folder in which a report would cover something else.

    Raises:
        ConfigError: It holds something else, or lies among the records.
    """
    if out.is_file():
        raise ConfigError(f"{out} is a file; name a new folder: --out site")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise ConfigError(f"{out} holds other files, which a report would replace; name a new or an empty folder")
    for folder in folders:
        if out.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                f"{out} lies in {folder}, whose records the next report would read twice; name a folder outside"
            )


def replace_folder(new: Path, old: Path) -> None:
    """Put a folder in the place of another, which is removed when the new one stands there."""
    aside = new.with_name(f"{new.name}.old")
    if old.exists():
        old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)
