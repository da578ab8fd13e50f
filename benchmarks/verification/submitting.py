"""submit(): records of a run of one's own -> one folder for a pull request: records, manifest, text.

    <out>/<config name>.jsonl   a pack of the records, from which each comes back byte by byte
    <out>/manifest.json         SHA-256 of each, counts, versions, what was left out
    <out>/README.md             the table made from them, and how to check it

`out` belongs below benchmarks/results/others. Nothing is submitted that `verify` finds fault with.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console

from benchmarks.console import say
from benchmarks.errors import SubmitError
from benchmarks.files import write_whole
from benchmarks.records.environment import commit
from benchmarks.records.packed import SUFFIX, as_written, compact, exists, pack_lines, read_bytes
from benchmarks.records.record import Record, record_path
from benchmarks.tables.readme import markdown_table
from benchmarks.tables.results import group_records
from benchmarks.tables.summary import describe
from benchmarks.verification.checks import check_record
from benchmarks.verification.findings import Finding, records_under
from benchmarks.verification.manifest import MANIFEST, Entry, Manifest
from benchmarks.verification.marks import mark_path
from benchmarks.verification.private import warn_of_private
from benchmarks.verification.verifying import tell

README = "README.md"
LEFT_OUT = {".log": "logs", ".checkpoint": "checkpoints", ".png": "pictures", ".safetensors": "models"}


def submit(
    folders: Sequence[Path],
    *,
    out: Path,
    console: Console,
    note: str = "",
    allow_dirty: bool = False,
    allow_failed: bool = False,
) -> Path:
    """Write what a pull request with results needs.

    Args:
        folders: Records, and folders of them, e.g. runs.
        out: The folder to be made; it must not be there.
        console: Where is said what was found, written and left out.
        note: What a reader should know, e.g. why these runs were made; it opens the README.
        allow_dirty: Take records of code that no commit names, too: of a tree with changes, or from outside git.
        allow_failed: Take records of failed and skipped runs, too. Those that diverged are results like others.

    Returns:
        The folder, which appears whole or not at all.

    Raises:
        SubmitError: `verify` finds fault with a record; one is of a dirty tree or without numbers and that is not
            allowed; two are of one run and differ; or there is something at `out`.
        RecordError: There are no records.
    """
    if os.path.lexists(out):
        raise SubmitError(f"{out} is there already, and a submission replaces nothing; give another --out")
    files = records_under(folders)
    records = _checked(files, console)
    _refuse(records, allow_dirty=allow_dirty, allow_failed=allow_failed)
    contents = _placed(records)
    warn_of_private(records, note, console)
    left_out = _left_out(folders, files)
    manifest = _manifest(contents, left_out=left_out, note=note)
    text = json.dumps(manifest.model_dump(by_alias=True), sort_keys=True, indent=1, allow_nan=False) + "\n"
    files_made = _packs(contents)
    files_made[PurePosixPath(MANIFEST)] = text.encode()
    files_made[PurePosixPath(README)] = _readme([record for _, record in contents.values()], manifest).encode()
    _write_folder(out, files_made)
    for line in (
        f"records: {len(contents):,}, with {MANIFEST} and {README} in {out}",
        f"left out: {_in_words(left_out)}",
    ):
        say(console, line)
    return out


def _checked(files: Sequence[Path], console: Console) -> dict[Path, Record]:
    records: dict[Path, Record] = {}
    findings: list[Finding] = []
    for path in files:
        record, found = check_record(path)
        own = [finding for finding in found if finding.path == path]  # marks are left out
        findings += own
        if record is not None and all(finding.is_warning for finding in own):
            records[path] = record
    tell(findings, console=console)
    if len(records) < len(files):
        raise SubmitError(f"{len(files) - len(records)} of {len(files)} records are not right; see above")
    return records


def _refuse(records: Mapping[Path, Record], *, allow_dirty: bool, allow_failed: bool) -> None:
    dirty = [path for path, record in records.items() if record.tree_clean is not True]
    failed = [path for path, record in records.items() if record.status in ("failed", "skipped")]
    if dirty and not allow_dirty:
        raise SubmitError(
            f"{_some(dirty)} of code that no commit names, so nobody can repeat it; commit, run again and submit "
            "that, or allow it: --allow-dirty"
        )
    if failed and not allow_failed:
        raise SubmitError(f"{_some(failed)} of a run without numbers; remove it, or allow it: --allow-failed")


def _some(paths: Sequence[Path]) -> str:
    return f"{paths[0]} is" if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1:,} other records are"


def _placed(records: Mapping[Path, Record]) -> dict[PurePosixPath, tuple[bytes, Record]]:
    """Return the content of each file by its place in the submission."""
    contents: dict[PurePosixPath, tuple[bytes, Record]] = {}
    for path, r in records.items():
        place = record_path(Path(), config_name=r.config_name, strategy=r.strategy, seed=r.seed, hash8=r.hash)
        content = read_bytes(path)
        if content != as_written(json.loads(content)):
            raise SubmitError(f"{path} was written by other code than `run`, and would not stay as it is; run it again")
        there, _ = contents.setdefault(PurePosixPath(place.as_posix()), (content, r))
        if there != content:
            raise SubmitError(f"{path} and another record of the same run, {place}, differ; submit one of them")
    return dict(sorted(contents.items()))


def _packs(contents: Mapping[PurePosixPath, tuple[bytes, Record]]) -> dict[PurePosixPath, bytes]:
    """Return the packs of the submission: one for each config."""
    packs: dict[PurePosixPath, dict[str, str]] = {}
    for place, (content, record) in contents.items():
        files = packs.setdefault(PurePosixPath(f"{record.config_name}{SUFFIX}"), {})
        files[str(place.relative_to(record.config_name))] = compact(json.loads(content))
    return {place: ("\n".join(pack_lines(files)) + "\n").encode() for place, files in packs.items()}


def _left_out(folders: Sequence[Path], files: Sequence[Path]) -> dict[str, int]:
    """Count what lies in the folders and is no record, by kind."""
    taken = {path.resolve() for path in files}
    others = {path.resolve() for folder in folders if folder.is_dir() for path in folder.rglob("*") if path.is_file()}
    marks = {path.resolve() for path in map(mark_path, files) if exists(path)}
    kinds = Counter(
        "marks of repeats" if path in marks else LEFT_OUT.get(path.suffix, "other files")
        for path in (others | marks) - taken
        if path.suffix != SUFFIX
    )
    return dict(sorted(kinds.items()))


def _manifest(
    contents: Mapping[PurePosixPath, tuple[bytes, Record]], *, left_out: dict[str, int], note: str
) -> Manifest:
    entries = [
        Entry(path=str(place), sha256=hashlib.sha256(content).hexdigest(), status=record.status)
        for place, (content, record) in contents.items()
    ]
    own = [record for _, record in contents.values()]
    counts = {"records": len(own), "configs": len(group_records(own)), "strategies": len({r.strategy for r in own})}
    return Manifest(
        records=entries,
        counts=counts | dict(sorted(Counter(r.status for r in own).items())),
        seeds=sorted({r.seed for r in own}),
        versions=_different([r.versions for r in own]),
        hardware=_different([r.hardware for r in own]),
        commits=sorted({(r.commit, r.tree_clean) for r in own}, key=str),
        left_out=left_out,
        checked_by=commit(),
        note=note,
    )


def _different(facts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each of some mappings once."""
    return list({json.dumps(fact, sort_keys=True): fact for fact in facts}.values())


def _readme(records: Sequence[Record], manifest: Manifest) -> str:
    """Return the text of the pull request; its numbers come from the records."""
    names = sorted({record.config_name for record in records})
    left_out = _in_words(manifest.left_out)
    parts = [
        f"# Results on {', '.join(names[:3])}" + (f" and {len(names) - 3} more configs" if len(names) > 3 else ""),
        manifest.note.strip(),
        "Accuracy over all test images after the last experience; mean and standard deviation over seeds.",
        markdown_table(records),
        f"{describe(records)}.",
        f"`{MANIFEST}` has the SHA-256 of each record, all versions and commits. Left out: {left_out}.",
        "To check the records; to repeat the runs of one seed, and mark what is confirmed (FOLDER is this one):",
        "    python -m benchmarks verify FOLDER\n"
        f"    python -m benchmarks verify FOLDER --rerun --seeds {manifest.seeds[0]} --data-root DIR",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _in_words(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} ({count:,})" for kind, count in left_out.items()) or "nothing"


def _write_folder(out: Path, contents: Mapping[PurePosixPath, bytes]) -> None:
    """Write a folder beside its place and move it there when it is whole; what is there already stays.

    Raises:
        SubmitError: It cannot be written, or something is there; nothing is left behind then.
    """
    made: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        for place, content in contents.items():
            write_whole(made / place, content)
        made.chmod(0o755)  # mkdtemp gives 0700
        made.rename(out)
    except OSError as error:
        raise SubmitError(f"{out} cannot be made: {error.strerror}; make room, or give another --out") from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)  # once moved, there is nothing
