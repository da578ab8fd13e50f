"""collect(): the files of records in folders -> packs, which hold them byte by byte in few files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from benchmarks.errors import RecordError
from benchmarks.files import write_whole
from benchmarks.records.packed import COMPRESSED, SUFFIX, Pack, as_pack, as_written, compact, pack_lines, read_pack
from benchmarks.records.record import RECORD_FILES, read_record

OTHERS = "*-seed*.json"
"""Names of the files of marks of repeats, and of what was explained."""


def collect(
    folders: Sequence[Path], *, out: Path | None = None, compress: bool = False, console: Console
) -> list[Path]:
    """Put the records of some folders into packs, `<config name>.jsonl`, marks of repeats and nights included.

    A record is never overwritten: where another one is packed under its path, both stay, unless the packed run failed
    or was skipped. What was packed before stays line by line as it was.

    Args:
        folders: Where `run`, `regimes`, `search` and `explain` left records, at any depth.
        out: Where packs are written or added to, each as deep as its records lay below their folder; files stay then.
            None puts packs beside the folders of the files, and removes those files.
        compress: Make new packs compressed; one that is there stays as it is.
        console: Where is said what was made.

    Returns:
        The packs.

    Raises:
        RecordError: There are no files of records, one is not as `run` writes it, it differs from what is packed, or a
            pack cannot be read; nothing was written.
    """
    groups: dict[Path, dict[str, Path]] = {}
    for folder in folders:
        for held, path in _files_in(folder):
            target = held.resolve() if not held.name else held
            if out is not None:
                target = out / (held.relative_to(folder) if held != folder and folder in held.parents else target.name)
            group = groups.setdefault(_pack_of(target, compress=compress), {})
            other = group.setdefault(path.relative_to(held).as_posix(), path)
            if other.read_bytes() != path.read_bytes():
                raise RecordError(f"{other} and {path} are of one run and differ; collect one of them")
    if not groups:
        raise RecordError(f"there are no files of records in {', '.join(map(str, folders))}; nothing to collect")
    texts = {pack: {name: _text(path) for name, path in group.items()} for pack, group in groups.items()}
    for pack, files in texts.items():
        _added(pack, files, groups[pack])
    for pack, files in texts.items():
        n = _write(pack, files, groups[pack])
        if out is None:
            _remove(groups[pack].values(), files.values())
        console.print(f"{pack}: {n} added, {len(read_pack(pack).lines)} in all", highlight=False, soft_wrap=True)
    return list(groups)


def _pack_of(folder: Path, *, compress: bool) -> Path:
    plain, compressed = (folder.parent / f"{folder.name}{end}" for end in (SUFFIX, COMPRESSED))
    return compressed if compressed.exists() or (compress and not plain.exists()) else plain


def _files_in(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the files of records below a folder, each after the folder that a pack of it stands for."""
    if not folder.is_dir():
        raise RecordError(f"{folder} is no folder; give folders of records, e.g. runs")
    for path in sorted({*folder.rglob(RECORD_FILES), *folder.rglob(OTHERS)}):
        is_of_run = path.name.startswith(("seed", "verified-seed"))  # <config name>/<strategy>/<file>
        yield (path.parent.parent if is_of_run else path.parent), path


def _text(path: Path) -> str:
    """Return a file as compact JSON, once it is known that it comes back byte by byte."""
    content = path.read_bytes()
    if path.name.startswith("seed"):
        read_record(path)
    try:
        tree = json.loads(content)
        if as_written(tree) == content:
            return compact(tree)
        what = "it is not as this project writes it, so that it would not come back byte by byte"
    except ValueError as error:
        what = str(error)
    raise RecordError(f"{path} cannot be collected: {what}; make it again, or keep it elsewhere")


def _added(path: Path, files: Mapping[str, str], sources: Mapping[str, Path]) -> tuple[Pack | None, dict[str, str]]:
    """Return the pack so far, None without one, and what is to be added to it."""
    if not path.exists():
        return None, dict(files)
    pack, added = read_pack(path), {}
    for name, text in files.items():
        packed = pack.text(name) if name in pack.lines else None
        if packed == text:
            continue
        is_final = not name.rpartition("/")[2].startswith("verified-") and packed is not None
        if is_final and json.loads(packed or "").get("status") not in ("failed", "skipped"):
            raise RecordError(
                f"{sources[name]} differs from {name} in {path}:{pack.lines[name][0]}, and no record is overwritten; "
                "remove the file, or keep it elsewhere"
            )
        added[name] = text
    return pack, added


def _write(path: Path, files: Mapping[str, str], sources: Mapping[str, Path]) -> int:
    """Add files to a pack, one process at a time, and return how many were not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".collect.lock"):
        before, added = _added(path, files, sources)
        if added:
            write_whole(path, as_pack(path, pack_lines(added, before)))
        after = read_pack(path)
        for name, text in files.items():
            if after.text(name) != text:
                raise RecordError(f"{path}: {name} does not come back as it was; its file stays, take the pack away")
    return len(added)


def _remove(paths: Iterable[Path], texts: Iterable[str]) -> None:
    """Remove files that are packed now, and folders that are empty then; what changed meanwhile stays."""
    for path, text in zip(paths, texts, strict=True):
        if path.read_bytes() == as_written(json.loads(text)):
            path.unlink()
            with suppress(OSError):  # not empty: logs and pictures stay
                path.parent.rmdir()
                path.parent.parent.rmdir()
