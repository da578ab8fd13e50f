"""What the overview shows: families of benchmarks, a line for each, what all of it is and how to cite it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.records.environment import ROOT
from benchmarks.records.record import Record
from benchmarks.report.rows import Benchmark, Row
from benchmarks.report.runs import slug
from benchmarks.tables.results import Result

SENTENCE = (
    "Networks that learn one experience after the other forget the earlier ones; here stands what Sleep Replay "
    "Consolidation, a sleep after each experience, keeps of them, beside methods that store examples and methods that "
    "store none."
)
FAMILIES = {
    "suites": ("Suites", "Split data sets, each strategy over several seeds."),
    "paper": (
        "Tables of strategies",
        "Strategies with and without sleep, beside published numbers where there are any.",
    ),
    "regimes": ("Regimes", "One factor of the training or of the stream at a time."),
    "search": (
        "Searches",
        "How numbers of methods were chosen: on held-out training images of the first experiences. No test image was "
        "seen, so nothing here is a result.",
    ),
}
"""Folder of records -> its heading and a word on it, in the order of the pages; others come between, by name."""


def families_of(benchmarks: Sequence[Benchmark]) -> list[dict[str, Any]]:
    """Return the folders of records with their benchmarks, as the overview and the navigation show them."""
    present = sorted({benchmark.family for benchmark in benchmarks})
    known = [name for name in FAMILIES if name in present]
    order = [*(name for name in known if name != "search"), *(n for n in present if n not in FAMILIES)]
    families = []
    for name in [*order, *(name for name in known if name == "search")]:
        title, note = FAMILIES.get(name, (name or "Benchmarks", ""))
        own = [benchmark for benchmark in benchmarks if benchmark.family == name]
        families.append(
            {
                "name": name,
                "slug": slug(f"in-{name}" if name else "benchmarks"),
                "title": title,
                "note": note,
                "count": len(own),
                "benchmarks": [_line(benchmark, title) for benchmark in own],
            }
        )
    return families


def _line(benchmark: Benchmark, family: str) -> dict[str, Any]:
    """Return what the overview shows of a benchmark."""
    means = [(100 * row.mean, row.sleeps == "on") for row in benchmark.rows if row.mean is not None]
    values = [value for value, _ in means]
    label = f"means of {len(means)} strategies, {min(values):.1f} to {max(values):.1f} %" if means else "no run is done"
    words = (benchmark.name, benchmark.dataset, family, *(row.name for row in benchmark.rows))
    return {
        "name": benchmark.name,
        "slug": benchmark.slug,
        "page": f"benchmarks/{benchmark.slug}.html",
        "dataset": benchmark.dataset,
        "n_experiences": benchmark.n_experiences,
        "n_runs": len(benchmark.measured),
        "lost": lost_in_words(record for record in benchmark.records if not record.experiences),
        "strip": sorted(((f"{value:.2f}", sleeps) for value, sleeps in means), key=lambda tick: tick[1]),
        "strip_label": label,
        "pair": pair_of(benchmark.rows),
        "joint": next((row for row in benchmark.rows if row.name == "joint"), None),
        "words": " ".join(words).lower(),
    }


def pair_of(rows: Sequence[Row]) -> dict[str, Result] | None:
    """Return a strategy without and with sleep to stand for a benchmark: naive if there is one, else the first."""
    slept = [row for row in rows if row.sleeps == "on" and row.gain is not None]
    slept.sort(key=lambda row: (row.base != "naive", not row.name.endswith("+src")))
    for row in slept:
        if row.against is not None:
            return {"plain": row.against, "slept": row}
    return None


def lost_in_words(records: Iterable[Record]) -> str:
    """Return what became of runs that are not done, e.g. "2 diverged, 1 failed"."""
    counts = Counter(record.status for record in records if record.status != "done")
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def citation(path: Path = ROOT / "CITATION.cff") -> dict[str, str] | None:
    """Return what to cite, from CITATION.cff: the article as `text` and `url`, and the `software`; None without it."""
    if not path.is_file():
        return None
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    article = raw.get("preferred-citation") or raw
    names = [
        author.get("name") or f"{author['family-names']} {author['given-names'][:1]}" for author in article["authors"]
    ]
    place = " ".join(str(article[key]) for key in ("journal", "volume") if key in article)
    place += f", {article['start']}" if "start" in article else ""
    year = f" ({article['year']})" if "year" in article else ""
    text = f"{', '.join(names)}{year}. {article['title']}." + (f" {place}." if place else "")
    url = f"https://doi.org/{article['doi']}" if "doi" in article else ""
    return {
        "text": text,
        "url": url,
        "software": f"{raw['title']}, version {raw['version']}" if article is not raw else "",
    }
