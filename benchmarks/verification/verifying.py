"""verify(): records are checked, and on request repeated; what is wrong is said, what is confirmed gets a mark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.console import say
from benchmarks.records.environment import commit
from benchmarks.records.record import Record
from benchmarks.streams.loading import Places, load_for
from benchmarks.verification.checks import HAS_NUMBERS, check_record
from benchmarks.verification.findings import Finding, records_under, short
from benchmarks.verification.manifest import MANIFEST, check_manifest
from benchmarks.verification.marks import write_mark
from benchmarks.verification.repeating import Comparison, compare, repeat
from benchmarks.verification.restoring import config_of
from src_plugin.errors import SRCError


def verify(
    paths: Sequence[Path],
    *,
    console: Console,
    rerun: bool = False,
    seeds: Sequence[int] | None = None,
    places: Places | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> int:
    """Check records; with `rerun`, run those that are right again and mark what is confirmed.

    Args:
        paths: Records, and folders of them.
        console: Where findings and progress go.
        rerun: Repeat runs that measured something and have no finding; failed and skipped ones have nothing to repeat.
        seeds: Repeat those of these seeds only; None for all.
        places: Where the data are; None is `data` alone.
        device: Where runs are repeated.
        threads: Threads of torch; None takes as many as each record had.

    Returns:
        Exit status: 0 if all is as it should be, warnings or not; 1 if there are findings.

    Raises:
        SRCError: There is nothing to check or to repeat, or the data are not there; nothing was repeated then.
    """
    files = records_under(paths)
    records: dict[Path, Record] = {}
    findings: list[Finding] = _folder_findings(paths)
    for path in files:
        record, found = check_record(path)
        findings += found
        if record is not None and all(finding.is_warning for finding in found):
            records[path] = record
    tell(findings, console=console)
    n_wrong = len(files) - len(records)
    say(console, f"records checked: {len(files):,}, with findings: {n_wrong:,}")
    status = int(any(not finding.is_warning for finding in findings))
    if not rerun:
        return status
    chosen = {p: r for p, r in records.items() if r.status in HAS_NUMBERS and (seeds is None or r.seed in seeds)}
    if not chosen and not status:
        what = "a run that measured something" + (f" with seed {' or '.join(map(str, seeds))}" if seeds else "")
        raise SRCError(f"there is nothing to repeat: of {len(files)} records none is of {what}")
    return max(status, _repeat_all(chosen, console=console, places=places or Places(), device=device, threads=threads))


def _repeat_all(
    chosen: Mapping[Path, Record], *, console: Console, places: Places, device: str, threads: int | None
) -> int:
    data = {}  # of all, so that what is missing is said before hours of runs; equal ones are the same object
    for path, record in chosen.items():
        data[path] = load_for(config_of(record), places, console=console)
    seconds = math.fsum(record.seconds.total for record in chosen.values())
    say(console, f"runs to repeat: {len(chosen):,}, {seconds:.0f} s by their own clocks")
    n_confirmed = 0
    for path, record in chosen.items():
        try:
            again = repeat(record, data=data[path], device=device, threads=threads)
        except Exception as error:
            ended = Finding(path, "run", f"ended in {type(error).__name__}: {error}", f"{record.status}, as recorded")
            tell([ended], console=console)
            continue
        comparison = compare(record, again)
        tell(
            [Finding(path, field, short(found), wanted) for field, found, wanted in comparison.problems],
            console=console,
        )
        if comparison.holds:
            n_confirmed += 1
            say(console, f"{path}: {_in_words(comparison)}; wrote {write_mark(path, again, comparison).name}")
    say(console, f"runs confirmed: {n_confirmed:,} of {len(chosen):,}")
    if n_confirmed and commit()[1] is not True:
        say(console, "warning: no commit names the code that repeated them, and the marks say so; commit first")
    return int(n_confirmed < len(chosen))


def _in_words(comparison: Comparison) -> str:
    if not comparison.where:
        return "equal to the bit"
    return f"at most {comparison.largest:.2f} points apart, in {comparison.where}, within {comparison.tolerance}"


def _folder_findings(paths: Sequence[Path]) -> list[Finding]:
    """Check the manifests of submissions: each record is the one that was submitted."""
    manifests = dict.fromkeys(found for path in paths if path.is_dir() for found in sorted(path.rglob(MANIFEST)))
    return [finding for manifest in manifests for finding in check_manifest(manifest)]


def tell(findings: Sequence[Finding], *, console: Console) -> None:
    """Print findings, each on a line; a warning that several records share once, with their number."""
    for finding in findings:
        if not finding.is_warning:
            say(console, finding, style="red")
    shared: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        if finding.is_warning:
            shared.setdefault((finding.field, finding.found, finding.expected), []).append(finding)
    for group in shared.values():
        more = f" (and {len(group) - 1:,} more records)" if len(group) > 1 else ""
        say(console, f"warning: {group[0]}{more}", style="yellow")
