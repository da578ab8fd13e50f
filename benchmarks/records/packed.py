"""Packs: the JSON files of a folder in one text file beside it. Whoever reads files of records does so by this module.

`split_mnist.jsonl` stands for the files of the folder `split_mnist`, one line each, in the order of their names:

    {"pack": 1}                                                                  the form of the file
    {"block": "1f0c2a9b", "is": {"cpu": "AMD EPYC", "cores": 2, ...}}            what several records say alike
    {"file": "naive/seed0-9123d24f.json", "sha256": "...", "holds": {"hardware": "#1f0c2a9b", "seed": 0, ...}}

A block is named by the first digits of the SHA-256 of its text; "#" and its name stand in its place. A list of reports
is held as rows, each begun by the block of its keys. "#accuracy" stands for the same matrix, where nothing slept. All
else stands as it was, so that `jq` and `grep` find it, and each file comes back byte by byte. The SHA-256 of a line is
that of its record as compact JSON, keys sorted.

A pack may be compressed, `split_mnist.jsonl.gz`; then `zcat` and `zgrep` show it.

A file on the disk and one in a pack have the same path. Where both are, the one on the disk counts: it is the newer.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.errors import NewerRecordError, RecordError

FORM = 1
SUFFIX, COMPRESSED = ".jsonl", ".jsonl.gz"
SHARED = ("class_order", "config", "experiences", "features", "hardware", "n_test", "versions")
"""Fields that stand as blocks, whatever their length, so that a line depends on its own record alone."""
REPORTS = ("nights", "sleep_reports")
SHARED_BY_REPORTS = ("layers", "reason", "sizes", "skipped")
SAME = {"accuracy_before_sleep": "accuracy"}
"""Fields in whose place "#" and the name of another stand, where both hold the same."""
CURE = "take the file from git again, or remove the line and collect its record again"


@dataclass(frozen=True)
class Pack:
    """A pack as it was read: its lines are decoded when asked for.

    Attributes:
        path: Its file, `<folder>.jsonl` or `<folder>.jsonl.gz`.
        lines: The number, from 1, and the text of the line of each file.
        blocks: What each block stands for.
    """

    path: Path
    lines: Mapping[str, tuple[int, str]]
    blocks: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Return the folder whose files it holds."""
        return self.path.with_name(self.path.name.removesuffix(".gz").removesuffix(SUFFIX))

    @property
    def paths(self) -> Iterator[Path]:
        """Yield the path of each file."""
        return map(self.folder.joinpath, self.lines)

    def text(self, name: str) -> str:
        """Return a file as compact JSON, keys sorted.

        Raises:
            RecordError: Its line was changed; the message has its number.
        """
        number, line = self.lines[name]
        where = f"{self.path}:{number}"
        try:
            given = json.loads(line)
            text = compact(_unpacked(given["holds"], self.blocks))
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"{where}: {name} cannot be put together ({error!r}); {CURE}") from error
        if digest(text) != given["sha256"]:
            raise RecordError(f"{where}: {name} is not what its SHA-256 says: it was changed; {CURE}")
        return text


def compact(tree: Any) -> str:
    """Return JSON without spaces, keys sorted."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)


def as_written(tree: Any) -> bytes:
    """Return the content of the file of a record: JSON, keys sorted, a line for each value."""
    return (json.dumps(tree, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def digest(text: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_files(place: Path, pattern: str) -> list[Path]:
    """Return all files of a name in a folder, at any depth, on the disk and in packs, in the order of their paths.

    Args:
        place: A folder, on the disk or in a pack; or a pack.
        pattern: Of file names, e.g. "seed*.json".

    Raises:
        RecordError: There is no such folder or pack, or a pack cannot be read.
    """
    if not is_folder(place):
        raise RecordError(f"{place} is no folder; `python -m benchmarks run <config>` makes records")
    packs = [pack for end in (SUFFIX, COMPRESSED) for pack in place.rglob(f"*{end}")]
    below = (path for pack in packs for path in read_pack(pack).paths)
    packed = {path for path in (*_packed_in(place), *below) if fnmatch(path.name, pattern)}
    return sorted({*place.rglob(pattern), *packed})


def is_folder(place: Path) -> bool:
    """Return whether this is a folder on the disk, or a pack, or a folder in a pack; errors as of `read_pack`."""
    return place.is_dir() or any(True for _ in _packed_in(place))


def _packed_in(place: Path) -> Iterator[Path]:
    """Yield the files of a pack, or of the folder that a pack or a part of one stands for."""
    if place.name.endswith((SUFFIX, COMPRESSED)) and place.is_file():
        yield from read_pack(place).paths
    for folder in (place, *place.parents[:1]):
        pack = _beside(folder)
        if pack is not None:
            yield from (path for path in pack.paths if path.is_relative_to(place))


def exists(path: Path) -> bool:
    """Return whether there is a file of this path, on the disk or in a pack."""
    return path.exists() or _holder(path) is not None


def read_text(path: Path) -> str:
    """Return a file as text: as it is on the disk, or as compact JSON from its pack.

    Raises:
        OSError: There is no such file, or it cannot be read.
        RecordError: Its pack cannot be read, or its line was changed.
    """
    held = None if path.exists() else _holder(path)
    return path.read_text(encoding="utf-8") if held is None else held[0].text(held[1])


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, byte by byte, on the disk or in a pack; errors as of `read_text`."""
    held = None if path.exists() else _holder(path)
    return path.read_bytes() if held is None else as_written(json.loads(held[0].text(held[1])))


def read_pack(path: Path) -> Pack:
    """Read a pack, unless it was read before and is the same still.

    Raises:
        RecordError: It is of another kind, or a line of it is torn; the message has its number.
        NewerRecordError: It is of a newer form.
    """
    try:
        now = path.stat()
        return _read_pack(path, now.st_mtime_ns, now.st_size, now.st_ino)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error


@lru_cache(maxsize=1024)
def _read_pack(path: Path, *_: int) -> Pack:
    lines: dict[str, tuple[int, str]] = {}
    blocks: dict[str, Any] = {}
    for number, text in enumerate(_content(path).decode("utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
            if number == 1:
                _check_form(path, line["pack"])
            elif "block" in line:
                blocks[line["block"]] = line["is"]
            else:
                lines[line["file"]] = (number, text)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, RecordError):
                raise
            raise RecordError(f"{path}:{number}: the line is torn, or not of a pack ({error!r}); {CURE}") from error
    if not lines:
        raise RecordError(f"{path} holds no record; {CURE}")
    return Pack(path, lines, blocks)


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.name.endswith(COMPRESSED) else content


def as_pack(path: Path, lines: Sequence[str]) -> bytes:
    """Return the content of a pack's file, compressed if its name says so; same lines, same bytes."""
    content = ("\n".join(lines) + "\n").encode()
    return gzip.compress(content, mtime=0) if path.name.endswith(COMPRESSED) else content


def _check_form(path: Path, form: Any) -> None:
    if not isinstance(form, int) or form < 1:
        raise RecordError(f"{path}:1: the form of the pack is {form!r}; expected a number from 1; {CURE}")
    if form > FORM:
        raise NewerRecordError(f"{path}:1: the pack is of form {form}, and this code reads {FORM}; take newer code")


def pack_lines(files: Mapping[str, str], before: Pack | None = None) -> list[str]:
    """Return the lines of a pack.

    Args:
        files: What is added: the compact JSON of each file by its name. Of a name that is there it takes the place.
        before: The pack so far; its lines stay as they are, so that adding shows as added lines.
    """
    lines = {} if before is None else {name: text for name, (_, text) in before.lines.items()}
    blocks = {} if before is None else dict(before.blocks)
    for name, text in files.items():
        holds = _packed(json.loads(text), blocks)
        lines[name] = compact({"file": name, "sha256": digest(text), "holds": holds})
    used = "\n".join(lines.values())
    kept = [compact({"block": name, "is": blocks[name]}) for name in sorted(blocks) if f'"#{name}"' in used]
    return [compact({"pack": FORM}), *kept, *(lines[name] for name in sorted(lines, key=_place))]


def _place(name: str) -> tuple[tuple[str, ...], int, str]:
    """Return what a file is sorted by: strategy, seed as a number, hash."""
    path = PurePosixPath(name)
    seed = path.name.partition("seed")[2].partition("-")[0]
    return path.parts[:-1], int(seed) if seed.isdecimal() else -1, path.name


def _packed(tree: Mapping[str, Any], blocks: dict[str, Any]) -> dict[str, Any]:
    """Return a record with blocks in the place of what is shared; blocks that are new are added."""

    def block(value: Any) -> str:
        name = digest(compact(value))[:8]
        blocks[name] = value
        return f"#{name}"

    def row(report: Mapping[str, Any]) -> list[Any]:
        keys = sorted(report)
        values = [block(report[k]) if k in SHARED_BY_REPORTS and report[k] else report[k] for k in keys]
        return [block(keys), *values]

    packed = {key: block(value) if key in SHARED and value else value for key, value in tree.items()}
    for key in REPORTS:
        if tree.get(key):
            packed[key] = [row(report) for report in tree[key]]
    for key, other in SAME.items():
        if packed.get(key) and packed[key] == packed.get(other):
            packed[key] = f"#{other}"
    return packed


def _unpacked(tree: Mapping[str, Any], blocks: Mapping[str, Any]) -> dict[str, Any]:
    def get(value: Any) -> Any:
        return blocks[value[1:]] if value else value

    whole = {key: get(value) if key in SHARED else value for key, value in tree.items()}
    whole |= {key: whole[other] for key, other in SAME.items() if whole.get(key) == f"#{other}"}
    for key in REPORTS:
        rows = whole.get(key) or ()
        found = [zip(get(row[0]), row[1:], strict=True) for row in rows]
        if found:
            whole[key] = [{k: get(value) if k in SHARED_BY_REPORTS else value for k, value in row} for row in found]
    return whole


def _beside(folder: Path) -> Pack | None:
    """Return the pack that stands for a folder."""
    paths = (folder.parent / f"{folder.name}{end}" for end in (SUFFIX, COMPRESSED))
    return next((read_pack(path) for path in paths if folder.name and path.is_file()), None)


def _holder(path: Path) -> tuple[Pack, str] | None:
    """Return the pack that holds a file, and the file's name in it."""
    for folder in path.parents[:2]:
        pack = _beside(folder)
        if pack is not None and (name := path.relative_to(folder).as_posix()) in pack.lines:
            return pack, name
    return None
