"""Fetching: goes on where it stopped, keeps nothing wrong, says what to do; unpacking writes nowhere else."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from rich.console import Console

from benchmarks.data.fetch import Archive, fetch, unpack, verify
from benchmarks.errors import DataError
from image_samples import needs_safe_tar

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server:
    """A web server of one file, which can break off, refuse ranges, or answer with errors.

    Attributes:
        content: What it sends.
        with_ranges: Whether it honours them.
        cut_after: How many bytes each answer breaks off after, in turn; then none does.
        answers: Codes of errors to answer with, in turn; then none.
        asked: The range that each request asked for, None without.
    """

    def __init__(self) -> None:
        self.content = CONTENT
        self.with_ranges = True
        self.wrong_range = False
        self.cut_after: list[int] = []
        self.answers: list[int] = []
        self.asked: list[str | None] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/birds.tgz"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                server.asked.append(wanted)
                if server.answers:
                    self.send_error(server.answers.pop(0))
                    return
                start = int(re.findall(r"\d+", wanted)[0]) if wanted and server.with_ranges else 0
                if start >= len(server.content):
                    self.send_error(416)
                    return
                body = server.content[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                if start:
                    stated = start + server.wrong_range
                    self.send_header("Content-Range", f"bytes {stated}-{len(server.content) - 1}/{len(server.content)}")
                self.end_headers()
                self.wfile.write(body[: server.cut_after.pop(0)] if server.cut_after else body)

        return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def archive(url: str, content: bytes = CONTENT) -> Archive:
    return Archive(title="Birds", url=url, file="birds.tgz", md5=hashlib.md5(content).hexdigest(), holds="birds")


def get(server: Server, folder: Path, console: Console, content: bytes = CONTENT) -> Path:
    return fetch(archive(server.url, content), folder, console=console, pause=0.0)


def test_a_file_is_fetched_once_and_said_so(server: Server, tmp_path: Path, console: Console) -> None:
    path = get(server, tmp_path / "new/folder", console)
    assert path == tmp_path / "new/folder/birds.tgz"
    assert path.read_bytes() == CONTENT
    assert not path.with_name("birds.tgz.part").exists()
    said = console.file.getvalue()
    assert f"fetching Birds: {server.url} -> {path}" in said
    assert "300.0/300.0 kB" in said  # the line of progress
    assert get(server, path.parent, console) == path
    assert server.asked == [None]


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server, tmp_path: Path, console: Console) -> None:
    server.cut_after = [100_000, 50_000]
    assert get(server, tmp_path, console).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]
    assert "the connection ended after 100000 of 300000 bytes); going on from 100000 bytes" in console.file.getvalue()


def test_a_later_call_goes_on_where_an_earlier_one_stopped(server: Server, tmp_path: Path, console: Console) -> None:
    server.cut_after = [100_000, 0, 0, 0]
    with pytest.raises(DataError, match="goes on from the 100000 bytes"):
        get(server, tmp_path, console)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["birds.tgz.part"]
    server.asked.clear()
    assert get(server, tmp_path, console).read_bytes() == CONTENT
    assert server.asked == ["bytes=100000-"]


def test_a_server_without_ranges_begins_anew(server: Server, tmp_path: Path, console: Console) -> None:
    server.with_ranges = False
    server.cut_after = [100_000]
    assert get(server, tmp_path, console).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-"]


def test_a_server_without_ranges_that_always_stops_at_the_same_byte_is_given_up(
    server: Server, tmp_path: Path, console: Console
) -> None:
    server.with_ranges = False
    server.cut_after = [100_000] * 100
    with pytest.raises(DataError, match="could not be fetched"):
        get(server, tmp_path, console)
    assert len(server.asked) == 4  # one that got further than nothing, three that did not get further


def test_another_range_than_asked_for_is_not_glued_on(server: Server, tmp_path: Path, console: Console) -> None:
    server.cut_after = [100_000]
    server.wrong_range = True
    assert get(server, tmp_path, console).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", None]


def test_a_part_that_is_whole_already_is_taken(server: Server, tmp_path: Path, console: Console) -> None:
    (tmp_path / "birds.tgz.part").write_bytes(CONTENT)
    assert get(server, tmp_path, console).read_bytes() == CONTENT
    assert server.asked == ["bytes=300000-"]


def test_a_part_that_is_too_long_is_fetched_anew(server: Server, tmp_path: Path, console: Console) -> None:
    (tmp_path / "birds.tgz.part").write_bytes(CONTENT + b"more")
    assert get(server, tmp_path, console).read_bytes() == CONTENT
    assert server.asked == ["bytes=300004-", None]


def test_another_file_is_refused_and_removed(server: Server, tmp_path: Path, console: Console) -> None:
    server.content = b"<html>please log in</html>"
    with pytest.raises(DataError, match=r"is not the published birds\.tgz of Birds: MD5 \w+, expected \w+; it was"):
        get(server, tmp_path, console)
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_a_part_of_another_file_is_refused_and_the_next_call_begins_anew(
    server: Server, tmp_path: Path, console: Console
) -> None:
    (tmp_path / "birds.tgz.part").write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match="removed"):
        get(server, tmp_path, console)
    assert get(server, tmp_path, console).read_bytes() == CONTENT


def test_a_wrong_file_that_somebody_put_there_is_refused_and_kept(
    server: Server, tmp_path: Path, console: Console
) -> None:
    (tmp_path / "birds.tgz").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"birds\.tgz is not the published .* Remove it"):
        get(server, tmp_path, console)
    assert (tmp_path / "birds.tgz").read_bytes() == b"mine"
    assert server.asked == []


def test_what_the_server_does_not_have_is_not_asked_for_again(server: Server, tmp_path: Path, console: Console) -> None:
    server.answers = [404] * 9
    with pytest.raises(DataError, match="404 Not Found"):
        get(server, tmp_path, console)
    assert server.asked == [None]


def test_a_server_that_is_busy_is_asked_again(server: Server, tmp_path: Path, console: Console) -> None:
    server.answers = [503, 429]
    assert get(server, tmp_path, console).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_without_a_network_the_message_has_file_folder_and_address(tmp_path: Path, console: Console) -> None:
    closed = Server()
    closed.close()
    with pytest.raises(DataError) as caught:
        get(closed, tmp_path / "data", console)
    for part in ("Birds could not be fetched", "refused", f"copy birds.tgz from {closed.url} into {tmp_path / 'data'}"):
        assert part in str(caught.value)


def test_a_folder_that_cannot_be_made_is_named(server: Server, tmp_path: Path, console: Console) -> None:
    (tmp_path / "data").write_bytes(b"a file, not a folder")
    with pytest.raises(DataError, match=r"cannot be written: .*--data-root"):
        get(server, tmp_path / "data", console)


def test_a_full_disk_is_not_taken_for_the_network(
    server: Server, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, block: bytes) -> int:
            raise OSError(28, "No space left on device")

    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", *rest: Full() if mode in ("wb", "ab") else real(path, mode, *rest)
    )
    with pytest.raises(DataError, match="No space left on device; make room"):
        get(server, tmp_path, console)
    assert server.asked == [None]


def test_two_at_once_fetch_once(server: Server, tmp_path: Path, console: Console) -> None:
    with FileLock(tmp_path / ".birds.tgz.lock"):  # as another process holds it
        waiting = threading.Thread(target=get, args=(server, tmp_path, console))
        waiting.start()
        while "waiting for it" not in console.file.getvalue():
            assert waiting.is_alive()
        (tmp_path / "birds.tgz").write_bytes(CONTENT)
    waiting.join()
    assert server.asked == []


def tar(members: dict[str, bytes | str]) -> bytes:
    """Return a tgz; a string is where a symbolic link points."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def put(folder: Path, content: bytes) -> tuple[Archive, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "birds.tgz"
    path.write_bytes(content)
    return archive("http://example.org/birds.tgz", content), path


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@needs_safe_tar
def test_the_folder_in_it_is_unpacked_and_nothing_else(tmp_path: Path, console: Console) -> None:
    published, path = put(tmp_path, tar({"birds/a/1.txt": b"one", "./birds/2.txt": b"two", "other.txt": b"no"}))
    found = unpack(published, path, tmp_path, console=console)
    assert found == tmp_path / "birds"
    assert (found / "a/1.txt").read_bytes() == b"one"
    assert (found / "2.txt").read_bytes() == b"two"
    assert visible(tmp_path) == ["birds", "birds.tgz"]
    assert "unpacking birds.tgz" in console.file.getvalue()
    path.unlink()  # there already: not needed again
    assert unpack(published, path, tmp_path, console=console) == found


EVIL = {
    "dots": {"birds/ok.txt": b"", "birds/../../evil.txt": b"evil"},
    "a link that leads out": {"birds/link": "../../", "birds/link/evil.txt": b"evil"},
    "an absolute link": {"birds/link": "/tmp"},
}


@needs_safe_tar
@pytest.mark.parametrize("members", EVIL.values(), ids=EVIL)
def test_a_member_that_leads_out_is_refused(members: dict[str, bytes | str], tmp_path: Path, console: Console) -> None:
    published, path = put(tmp_path / "data", tar(members))
    with pytest.raises(DataError, match=r"birds\.tgz cannot be unpacked"):
        unpack(published, path, tmp_path / "data", console=console)
    assert visible(tmp_path / "data") == ["birds.tgz"]
    assert visible(tmp_path) == ["data"]


@needs_safe_tar
def test_an_archive_without_the_folder_is_refused(tmp_path: Path, console: Console) -> None:
    published, path = put(tmp_path, tar({"fish/1.txt": b"one"}))
    with pytest.raises(DataError, match="it holds no folder birds"):
        unpack(published, path, tmp_path, console=console)


@needs_safe_tar
def test_nothing_is_unpacked_that_is_not_the_published_file(tmp_path: Path, console: Console) -> None:
    published, path = put(tmp_path, tar({"birds/1.txt": b"one"}))
    path.write_bytes(tar({"birds/1.txt": b"two"}))
    with pytest.raises(DataError, match="is not the published"):
        unpack(published, path, tmp_path, console=console)
    assert visible(tmp_path) == ["birds.tgz"]


@needs_safe_tar
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, console: Console) -> None:
    published, path = put(tmp_path, tar({"birds/1.txt": b"one", "birds/2.txt": CONTENT})[:-5000])
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(published, path, tmp_path, console=console)
    assert visible(tmp_path) == ["birds.tgz"]


def test_a_python_that_cannot_unpack_safely_unpacks_nothing(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    published, path = put(tmp_path, tar({"birds/1.txt": b"one"}))
    with pytest.raises(DataError, match=r"cannot unpack .*birds\.tgz safely; update it to 3\.11\.4"):
        unpack(published, path, tmp_path, console=console)
    assert visible(tmp_path) == ["birds.tgz"]


def test_a_missing_file_is_no_published_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"birds\.tgz cannot be read: .*No such file"):
        verify(archive("http://example.org/birds.tgz"), tmp_path / "birds.tgz")
