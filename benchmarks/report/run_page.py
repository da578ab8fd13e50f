"""What the page of one run shows: its facts, its sleeps stage by stage, its config and where it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from benchmarks.records.metrics import average_accuracy, backward_transfer, forgetting
from benchmarks.records.record import Record
from benchmarks.report.export import bytes_text, seconds_text
from benchmarks.report.points import phase_points
from benchmarks.report.runs import Run, columns_of
from benchmarks.tables.results import sleep_label
from benchmarks.tables.summary import percent

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the same text, ten times as fast, where it was compiled
SLEEP_COLUMNS = (
    ("rates, %", "spikes per unit and step, by layer, the inputs first"),
    ("weights changed, %", "norm of the change over that of the weights before, by layer"),
    (
        "new classes win, %",
        "share of noise: after training, after the sleep, after settling; in brackets their fair share",
    ),
    ("settled at", "1 is the slept head, 0 the other end of the line"),
    ("steps", "of sleep"),
    ("s", "seconds of wall time"),
)


def run_context(run: Run, siblings: Sequence[Run], dates: Mapping[str, str]) -> dict[str, Any]:
    """Return what the template `run.html` shows of a run.

    Args:
        run: The run.
        siblings: Runs of the same strategy and config under any seed, itself among them.
        dates: Commit -> its date.
    """
    record = run.record
    ways = list((record.accuracy_by or {}).items())
    is_drawable = record.status == "done" and len(record.accuracy or []) > 1
    return {
        "run": run,
        "r": record,
        "siblings": sorted(siblings, key=lambda other: other.record.seed),
        "facts": _facts(run),
        "columns": columns_of([record]),
        "trained": trained_names(len(record.accuracy or [])),
        "others": ways[1:],
        "data": {"phases": phase_points([run], next(iter(record.accuracy_by or {}), ""), "run")}
        if is_drawable
        else None,
        "sleep_columns": SLEEP_COLUMNS,
        "sleeps": [_sleep(report) for report in record.sleep_reports],
        "config": as_yaml(record.config | ({"features": features} if (features := _features(record)) else {})),
        "environment": _environment(record, dates),
    }


def trained_names(n_rows: int) -> list[str]:
    """Return what the rows of an accuracy matrix are: "after 1", ...; joint training has one."""
    return ["after all"] if n_rows == 1 else [f"after {i + 1}" for i in range(n_rows)]


def as_yaml(tree: Mapping[str, Any]) -> str:
    """Return a tree as YAML for people, lists of numbers on one line."""
    return yaml.dump(dict(tree), Dumper=DUMPER, default_flow_style=None, allow_unicode=True, width=100)


def _features(record: Record) -> Mapping[str, Any] | None:
    return getattr(record, "features", None)


def _facts(run: Run) -> list[tuple[str, str]]:
    record = run.record
    matrix = record.accuracy if record.status == "done" else None  # else the end they are about was not reached
    numbers = {
        "average over experiences": average_accuracy(matrix) if matrix else None,
        "forgetting": forgetting(matrix) if matrix else None,
        "backward transfer": backward_transfer(matrix) if matrix else None,
    }
    facts: list[tuple[str, str]] = [("status", record.status)]
    if record.final_accuracy is not None:
        images = f"{sum(record.n_test):,} test images"
        facts.append(("final accuracy", f"{percent(record.final_accuracy)} % of {images} of all classes"))
    facts += [(name, f"{percent(value)} %") for name, value in numbers.items() if value is not None]
    facts.append(("sleep", sleep_label(record.config.get("sleep") or {}) or "none"))
    facts.append(("kept", bytes_text(record.kept_bytes) or "not counted"))
    seconds = record.seconds
    times = f"{seconds_text(seconds.train)} s of training, {seconds_text(seconds.sleep)} s of sleep"
    facts.append(("time", f"{times}, {seconds_text(seconds.total)} s with measuring"))
    if record.class_order:  # of a run that failed before it was drawn there is none
        facts.append(("class order", ", ".join(map(str, record.class_order))))
    return [*facts, ("provenance", run.provenance)]


def _sleep(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return one line of the table of sleeps; reports of older versions may have fewer fields."""
    norms, changes = report.get("weight_norm") or [], report.get("weight_change") or []
    shares = [report.get(key) for key in ("share_trained", "share_slept", "share_settled", "share_levelled")]
    wins = " \N{RIGHTWARDS ARROW} ".join(f"{100 * share:.0f}" for share in shares if share is not None)
    fair = report.get("expected_share")
    settled_at = report.get("settled_at")
    values = (
        " / ".join(f"{100 * rate:.2g}" for rate in report.get("rates") or []),
        " / ".join(f"{100 * change / norm:.2g}" for change, norm in zip(changes, norms, strict=False) if norm),
        wins + (f" ({100 * fair:.0f})" if wins and fair is not None else ""),
        "" if settled_at is None else f"{settled_at:.2f}",
        f"{report.get('steps') or 0:,}",
        seconds_text(report.get("seconds")),
    )
    skipped = report.get("skipped") or {}
    reason = report.get("reason", "")
    return {
        "decision": report.get("decision", ""),
        "reason": reason,
        "skipped": list(skipped.items()),
        "values": values,
    }


def _environment(record: Record, dates: Mapping[str, str]) -> list[tuple[str, str]]:
    state = {True: "", False: ", with changed files", None: ""}[record.tree_clean]
    date = f" of {dates[record.commit]}" if record.commit in dates else ""
    facts = [("commit", f"{record.commit}{date}{state}")]
    facts += [(name, str(value)) for name, value in sorted(record.hardware.items())]
    return facts + [(name, version or "not installed") for name, version in sorted(record.versions.items())]
