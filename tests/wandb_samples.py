"""For the tests of the mirror in W&B: a run made by hand, wandb without a home, a reader of its files, and a server."""

from __future__ import annotations

import http.server
import io
import json
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.records.record import Record, record_path, write_record
from benchmarks.tracking import logger as wandb_logger
from benchmarks.tracking import settings as wandb_settings
from lab_samples import CONFIG, make_record
from src_plugin.report import BalanceReport, LevelReport, SettleReport, SimulationReport, SleepReport

KEY = "0123456789abcdef0123456789abcdef01234567"

REPORT: dict[str, Any] = SleepReport(
    decision="slept",
    reason="it was time",
    layers=["0", "classifier.2"],
    sizes=[64, 20, 10],
    sleep=SimulationReport(steps=3000, strength=0.2, rates=[0.5, 0.25, 0.0]),
    balance=BalanceReport(noise_strength=float("inf"), expected_share=0.5, share_trained=0.9, share_slept=0.8),
    settle=SettleReport(share_settled=0.55, settled_at=0.7),
    level=LevelReport(share_levelled=0.5),
    weight_change=[3.0, 1.0],
    weight_norm=[12.0, 0.0],
    seconds=0.25,
).to_dict()
SLEPT: dict[str, float] = {
    "sleep/slept": 1.0,
    "sleep/steps": 3000,
    "sleep/strength": 0.2,
    "sleep/expected_share": 0.5,
    "sleep/share_trained": 0.9,
    "sleep/share_slept": 0.8,
    "sleep/share_settled": 0.55,
    "sleep/share_levelled": 0.5,
    "sleep/settled_at": 0.7,
    "sleep/rate/input": 0.5,
    "sleep/rate/0": 0.25,
    "sleep/rate/classifier.2": 0.0,
    "sleep/weight_change/0": 0.25,  # 3 / 12; the other layer had no weights, and the noise was infinite: left out
}
FIRST: dict[str, float] = {
    "experience": 1,
    **{f"{when}/experience_1": 1.0 for when in ("after_sleep", "before_sleep")},
    **{f"{when}/experience_2": 0.0 for when in ("after_sleep", "before_sleep")},
    **{f"{when}/mean_seen": 1.0 for when in ("after_sleep", "before_sleep")},
}
SECOND: dict[str, float] = {
    "experience": 2,
    "after_sleep/experience_1": 1 / 3,
    "after_sleep/experience_2": 0.8,
    "after_sleep/mean_seen": (1 / 3 + 0.8) / 2,
    "before_sleep/experience_1": 0.1,
    "before_sleep/experience_2": 0.9,
    "before_sleep/mean_seen": 0.5,
}
SUMMARY: dict[str, Any] = {
    "status": "done",
    "kept_bytes": 0,
    "train_seconds": 1.0,
    "sleep_seconds": 0.0,
    "total_seconds": 1.5,
    "final_accuracy": 0.45,
    "average_accuracy": (1 / 3 + 0.8) / 2,
    "forgetting": 2 / 3,
    "backward_transfer": -2 / 3,
}


def slept_record(**changes: Any) -> Record:
    """Return `lab_samples.RAW` as a run of naive+src that slept after its second experience, with changes."""
    sleep = {"preset": "auto", "every": 2, "numbers": {"depth": 0.2, "thresholds": None}}
    config = {**CONFIG, "strategy": "naive+src", "sleep": sleep}
    report = {**REPORT, "noise_strength": None}
    return make_record(**{"strategy": "naive+src", "config": config, "sleep_reports": [report], **changes})


def file_of(record: Record, out: Path) -> Path:
    """Write a record where it belongs."""
    facts = {"config_name": record.config_name, "strategy": record.strategy, "seed": record.seed}
    path = record_path(out, **facts, hash8=record.hash)
    write_record(record, path)
    return path


@contextmanager
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Start wandb anew in a home, and a current folder, without keys and settings; nobody answers at stdin."""
    import wandb

    for name in ("NETRC", *os.environ):
        if name == "NETRC" or name.startswith("WANDB_"):
            monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdin", closed)
    monkeypatch.setattr(wandb_logger.RunLog, "unanswered", 0)
    wandb.teardown()
    yield home
    wandb.teardown()


# --- a stand-in -------------------------------------------------------------------------------------------------------


class StubRun:
    """A run of wandb that keeps what it is told; one of its methods may raise."""

    tags = ("a",)

    def __init__(self, fails: str) -> None:
        self.told: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.summary: dict[str, Any] = {}
        self.config = SimpleNamespace(update=lambda *_, **__: None)
        self._fails = fails

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*given: Any, **named: Any) -> None:
            self.told.append((name, given, named))
            if name == self._fails:
                raise OSError(f"the network is gone, {os.environ['WANDB_API_KEY']}")

        return call

    @property
    def calls(self) -> list[str]:
        """What was called, in order."""
        return [name for name, _, _ in self.told]


def stub_wandb(monkeypatch: pytest.MonkeyPatch, *, fails: str = "") -> tuple[StubRun, list[dict[str, Any]]]:
    """Put a stand-in in wandb's place; return its one run, and what `init` was given each time."""
    run, inits = StubRun(fails), []

    def init(**given: Any) -> StubRun:
        inits.append({**given, "environment": dict(os.environ)})
        if fails == "init":
            raise TimeoutError("no answer")
        return run

    artifact = SimpleNamespace(new_file=lambda *_, **__: io.BytesIO())
    stub = SimpleNamespace(
        init=init, Settings=dict, Table=lambda **table: table, Artifact=lambda *_, **__: artifact, Image=str
    )
    for module in (wandb_logger, wandb_settings):
        monkeypatch.setattr(module, "load_wandb", lambda: stub)
    monkeypatch.setattr(wandb_logger.RunLog, "unanswered", 0)
    return run, inits


# --- what lies in wandb's own file ------------------------------------------------------------------------------------


@dataclass
class Mirror:
    """What a run-*.wandb says: the run, history rows, config, summary, artifacts by name, kinds of its records."""

    run: Any = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: list[Any] = field(default_factory=list)
    artifacts: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    exit_code: int | None = None
    kinds: set[str] = field(default_factory=set)


def read_log(path: Path) -> Iterator[bytes]:
    """Yield the records of a LevelDB log with wandb's header of 7 bytes.

    Blocks of 32 KiB hold pieces, each after its checksum (4 bytes), length (2) and kind (1: whole, 2 to 4: first,
    middle, last); a block's last bytes, too few for that, are empty. wandb 0.31 brings no reader in Python.
    """
    raw = path.read_bytes()
    assert raw[:4] == b":W&B"
    position, whole = 7, b""
    while position + 7 <= len(raw):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", raw, position)
        whole += raw[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


def _put(tree: dict[str, Any], item: Any) -> None:
    *parents, name = item.nested_key or [item.key]
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = json.loads(item.value_json)


def read_mirror(folder: Path, id: str) -> Mirror:
    """Read the one run of an id below a folder."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # its service writes the file, and may do so a moment after the run was finished
    mirror = Mirror()
    (path,) = folder.rglob(f"run-{id}.wandb")
    for raw in read_log(path):
        record = wandb_internal_pb2.Record.FromString(raw)
        kind = record.WhichOneof("record_type")
        mirror.kinds.add(kind)
        if kind == "run":
            mirror.run, mirror.tags = mirror.run or record.run, list(record.run.tags)
            for item in record.run.config.update:
                _put(mirror.config, item)
        elif kind == "history":
            mirror.rows.append({})
            for item in record.history.item:
                _put(mirror.rows[-1], item)
        elif kind in ("config", "summary"):
            for item in getattr(record, kind).update:
                _put(getattr(mirror, kind), item)
        elif kind == "metric":
            mirror.metrics.append(record.metric)
        elif kind == "artifact":
            mirror.artifacts[record.artifact.name] = record.artifact
        elif kind == "exit":
            mirror.exit_code = record.exit.exit_code
    return mirror


def measured(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row, or a config, without wandb's own entries."""
    return {name: value for name, value in row.items() if not name.startswith("_")}


# --- what goes over the network ---------------------------------------------------------------------------------------


class Server(http.server.ThreadingHTTPServer):
    """As much of W&B as a run needs; keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[bytes] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on."""
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Stay silent where wandb ends a connection."""

    def answer(self, query: dict[str, Any]) -> dict[str, Any]:
        """Answer a query of GraphQL, by its name."""
        given = query.get("variables") or {}
        name = query.get("operationName")
        if name == "UpsertBucket":
            project = {"id": "P", "name": given["project"], "entity": {"id": "E", "name": "team"}}
            bucket = {"id": "B", "name": given["name"], "displayName": given["displayName"], "config": "{}"}
            return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": 0, "project": project}, "inserted": True}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/upload/{file}"} for file in given["files"]]
            return {"createRunFiles": {"runID": "B", "uploadHeaders": [], "files": files}}
        if name == "CreateArtifact":
            known = {"id": "S", "latestArtifact": {"id": "A", "versionIndex": 0}}
            return {"createArtifact": {"artifact": {"id": "A", "state": "COMMITTED", "artifactSequence": known}}}
        if name == "Viewer":
            return {"viewer": {"id": "U", "entity": "team", "username": "user", "flags": "{}", "teams": {"edges": []}}}
        return {"project": None}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers whatever is asked."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        """Keep the body, answer a query."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.bodies.append(body)
        answer = {"data": self.server.answer(json.loads(body))} if self.path == "/graphql" else {}
        raw = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_PUT = do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Stay silent."""
