"""Archives: fetched from their public address, checked against their published MD5, unpacked without leaving a folder.

The downloads of torch, torchvision and pooch begin anew after an interruption, and 1.2 GB over a bad line then never
arrive. So this is urllib, which brings redirects and proxies, with HTTP ranges; locks are filelock's, on which torch
itself depends, and progress is rich's. MD5 is what the publishers give: it tells a broken or another file, and is all
that can be checked.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from benchmarks.console import say
from benchmarks.data.known import Archive
from benchmarks.errors import DataError

BLOCK = 1 << 20  # bytes
SILENCE = 30.0  # s without a byte before a connection counts as broken
WORTH_ANOTHER_TRY = frozenset({408, 425, 429})  # of the answers 400 to 499: too slow, too early, too often


def fetch(
    archive: Archive, folder: Path, *, console: Console | None = None, attempts: int = 3, pause: float = 1.0
) -> Path:
    """Bring an archive into a folder, unless it is there; what is returned has the published checksum.

    What has come so far lies beside it as <file>.part; an interrupted download goes on from there, in this call or a
    later one, and begins anew where the server does not answer with ranges. Processes that ask at once take turns.

    Args:
        archive: What to fetch.
        folder: Where it belongs; made if need be.
        console: Where the progress is shown; None is standard error.
        attempts: How many times in a row may bring nothing new before it is given up.
        pause: Before the second attempt, in s; doubled after each that brought nothing.

    Returns:
        The path of the archive.

    Raises:
        DataError: It cannot be fetched, or is not the published file; the message has file, folder and address.
    """
    console = console or Console(stderr=True)
    target = folder / archive.file
    if not target.exists():
        with _alone(target, console):
            if not target.exists():
                _receive_whole(archive, target, console=console, attempts=attempts, pause=pause)
                return target
    verify(archive, target)
    return target


def verify(archive: Archive, path: Path) -> None:
    """Check a file against the published MD5; a file that somebody else put there is not removed.

    Raises:
        DataError: It is another file, or cannot be read.
    """
    found = _md5(path)
    if found != archive.md5:
        raise DataError(
            f"{path} is not the published {archive.file} of {archive.title}: MD5 {found}, expected {archive.md5}. "
            f"Remove it, and {archive.by_hand(path.parent)} or let it be fetched"
        )


def unpack(archive: Archive, path: Path, folder: Path, *, console: Console | None = None) -> Path:
    """Unpack the folder that a tar archive holds, after checking its MD5; whole or not at all.

    Members outside that folder are left out; one that would be written elsewhere, by "..", an absolute name or a link,
    is refused (tarfile's filter "data").

    Args:
        archive: What it should be.
        path: The file.
        folder: Where the unpacked folder goes.
        console: Where the progress is shown; None is standard error.

    Returns:
        The unpacked folder; if it is there already nothing is done.

    Raises:
        DataError: Not the published file, damaged, refused, or no room.
    """
    console = console or Console(stderr=True)
    target = folder / archive.holds
    if not hasattr(tarfile, "data_filter"):  # before Python 3.11.4
        raise DataError(f"this Python cannot unpack {path} safely; update it to 3.11.4 or later, or unpack it by hand")
    with _alone(target, console):
        if target.is_dir():
            return target
        verify(archive, path)
        try:
            with tempfile.TemporaryDirectory(dir=folder, prefix=f".{archive.holds}.") as temporary:
                _extract(path, Path(temporary), holds=archive.holds, console=console)
                os.rename(Path(temporary) / archive.holds, target)
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise DataError(
                f"{path} cannot be unpacked into {folder}: {error}; make room, or fetch it again"
            ) from error
    return target


def _receive_whole(archive: Archive, target: Path, *, console: Console, attempts: int, pause: float) -> None:
    part = target.with_name(f"{target.name}.part")
    say(console, f"fetching {archive.title}: {archive.url} -> {target}")
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    furthest, fruitless = _size(part), 0
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(archive.file, total=None)
        while True:
            try:
                reason = _receive(archive.url, part, progress=progress, bar=bar)
            except _WriteError as error:
                raise DataError(f"{archive.file} cannot be written to {part}: {error}; make room there") from error
            except urllib.error.HTTPError as error:
                reason = f"the server answers {error.code} {error.reason}"
                error.close()
                if error.code == 416 and part.exists():  # nothing beyond what we have: it is whole, or not this file
                    if _md5(part) == archive.md5:
                        break
                    part.unlink()
                elif 400 <= error.code < 500 and error.code not in WORTH_ANOTHER_TRY:
                    fruitless = attempts
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
            if reason is None:
                break
            size = _size(part)
            furthest, fruitless = (size, 0) if size > furthest else (furthest, fruitless + 1)
            if fruitless >= attempts:
                raise DataError(
                    f"{archive.title} could not be fetched: {reason}. Try again, which goes on from the {size} bytes "
                    f"that are there, or {archive.by_hand(target.parent)}"
                )
            say(progress.console, f"interrupted ({reason}); going on from {size} bytes")
            time.sleep(pause * 2 ** max(fruitless - 1, 0))
    found = _md5(part)
    if found != archive.md5:
        part.unlink()
        raise DataError(
            f"what {archive.url} sent is not the published {archive.file} of {archive.title}: MD5 {found}, expected "
            f"{archive.md5}; it was removed. Try again, or {archive.by_hand(target.parent)}"
        )
    os.replace(part, target)


class _WriteError(Exception):
    """The disk, not the network."""


def _receive(url: str, part: Path, *, progress: Progress, bar: TaskID) -> str | None:
    """Receive what is missing of a file; return why that is not all, or None."""
    start = _size(part)
    headers = {"User-Agent": "src-plugin", **({"Range": f"bytes={start}-"} if start else {})}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SILENCE) as response:
        if response.status == 206 and _first_byte(response) != start:
            part.unlink()
            return "the server sent another range than was asked for"
        start = start if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        progress.update(bar, total=total, completed=start)
        try:
            file = part.open("ab" if start else "wb")
        except OSError as error:
            raise _WriteError(error) from error
        with file:
            while block := response.read(BLOCK):
                try:
                    file.write(block)
                except OSError as error:
                    raise _WriteError(error) from error
                progress.update(bar, advance=len(block))
    size = _size(part)
    return None if total in (None, size) else f"the connection ended after {size} of {total} bytes"


def _first_byte(response: http.client.HTTPResponse) -> int | None:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _extract(path: Path, folder: Path, *, holds: str, console: Console) -> None:
    n = 0
    with (
        Progress(TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), console=console) as bar,
        bar.open(path, "rb", description=f"unpacking {path.name}") as raw,
        tarfile.open(fileobj=raw, mode="r|*") as tar,
    ):
        for member in tar:
            if member.name.removeprefix("./").startswith(f"{holds}/"):
                tar.extract(member, folder, filter="data")
                n += 1
    if n == 0:
        raise tarfile.TarError(f"it holds no folder {holds}")


@contextmanager
def _alone(target: Path, console: Console) -> Iterator[None]:
    """Let one process at a time make `target`."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f".{target.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(console, f"another process is making {target}; waiting for it")
            lock.acquire()
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error}; choose another --data-root") from error
    try:
        yield
    finally:
        lock.release()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}; check --data-root") from error
