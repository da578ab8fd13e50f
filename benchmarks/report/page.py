"""Benchmarks -> one folder of static pages that need no network: an overview, a page per benchmark, a page per run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import vl_convert
from altair import SCHEMA_VERSION
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from benchmarks.records.environment import commit
from benchmarks.records.packed import read_bytes
from benchmarks.report import export
from benchmarks.report.benchmark_page import benchmark_context, commit_dates, records_line
from benchmarks.report.charts import chart_specs
from benchmarks.report.overview import SENTENCE, citation, families_of, lost_in_words
from benchmarks.report.rows import Benchmark
from benchmarks.report.run_page import run_context, trained_names
from benchmarks.report.runs import Run, columns_of
from benchmarks.tables.comparison import published_text
from benchmarks.tables.summary import percent
from src_plugin import __version__

TEMPLATES = Path(__file__).with_name("templates")
ASSETS = ("style.css", "page.js", "vega-licences.txt")


def write_pages(benchmarks: Sequence[Benchmark], folder: Path) -> None:
    """Write all pages, their assets, and copies of the records, into an empty folder."""
    site = _Site(benchmarks, folder)
    site.write_assets()
    site.write_index()
    for benchmark in benchmarks:
        site.write_benchmark(benchmark)
    site.write_runs()


class _Site:
    """What all pages share."""

    def __init__(self, benchmarks: Sequence[Benchmark], folder: Path) -> None:
        self.benchmarks = benchmarks
        self.folder = folder
        records = [record for benchmark in benchmarks for record in benchmark.records]
        self.records = records
        self.dates = commit_dates({record.commit for record in records})
        self.families = families_of(benchmarks)
        self.environment = _jinja()
        head, is_clean = commit()
        self.environment.globals["built"] = {
            "version": __version__,
            "commit": head,
            "tree_clean": is_clean,
            "vega": vl_convert.get_vega_version(),
            "vega_lite": SCHEMA_VERSION.removeprefix("v"),
        }

    def write(self, path: str, template: str, **context: Any) -> None:
        """Write a page; `root` leads from it to the folder of all."""
        root = "../" * path.count("/")
        text = self.environment.get_template(template).render(root=root, families=self.families, **context)
        _write(self.folder / path, text)

    def write_assets(self) -> None:
        for name in ASSETS:
            _write(self.folder / "assets" / name, (TEMPLATES / name).read_text(encoding="utf-8"))
        lite = ".".join(SCHEMA_VERSION.removeprefix("v").split(".")[:2])
        bundle = vl_convert.javascript_bundle(vl_version=lite)  # type: ignore[call-arg]  # the stub misses a default
        _write(self.folder / "assets/vega.js", bundle)
        specs = json.dumps(chart_specs(), separators=(",", ":"), sort_keys=True)
        _write(self.folder / "assets/charts.js", f"window.charts = {specs};\n")

    def write_index(self) -> None:
        _write(self.folder / "leaderboard.csv", export.csv_text(self.benchmarks))
        _write(self.folder / "leaderboard.md", export.markdown_text(self.benchmarks))
        self.write(
            "index.html",
            "index.html",
            sentence=SENTENCE,
            citation=citation(),
            n_runs=len(self.records),
            n_benchmarks=len(self.benchmarks),
            lost=lost_in_words(self.records),
            records_line=records_line(self.records, self.dates),
        )

    def write_benchmark(self, benchmark: Benchmark) -> None:
        family = next(family for family in self.families if family["name"] == benchmark.family)
        context = benchmark_context(benchmark, self.dates)
        self.write(f"benchmarks/{benchmark.slug}.html", "benchmark.html", family=family, **context)

    def write_runs(self) -> None:
        for benchmark in self.benchmarks:
            page = {"name": benchmark.name, "page": f"benchmarks/{benchmark.slug}.html"}
            siblings: dict[str, list[Run]] = {}
            for run in benchmark.runs:
                siblings.setdefault(run.record.hash, []).append(run)
            for run in benchmark.runs:
                self.write(run.page, "run.html", b=page, **run_context(run, siblings[run.record.hash], self.dates))
                copy = self.folder / run.copy
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(read_bytes(run.path))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _jinja() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    filters: dict[str, Callable[..., Any]] = {
        "accuracy": lambda row: _minus(export.accuracy_text(row)),
        "gain": lambda gain: _minus(export.gain_text(gain)),
        "p": export.p_text,
        "published": published_text,
        "percent": lambda value: "" if value is None else _minus(percent(value)),
        "seconds": export.seconds_text,
        "bytes": export.bytes_text,
        "yes_no": export.yes_no,
        "blank": lambda value: "" if value is None else value,
        "place": lambda fraction: f"{100 * fraction:.2f}",
        "url": quote,
        "breaking": lambda name: escape(name).replace("_", Markup("_<wbr>")),  # a line may end after "_"
        "columns": lambda row: columns_of([run.record for run in row.runs if run.record.status == "done"]),
        "trained": lambda row: trained_names(len(row.after)),
    }
    environment.filters.update(filters)
    return environment


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
