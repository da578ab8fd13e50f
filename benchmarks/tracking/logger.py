"""RunLog: the mirror of one run in Weights & Biases (W&B). A sink: the record stays the truth.

| in W&B | what |
|---|---|
| config | the resolved config, seed, versions, commit; with the record also class order, test images, hardware |
| history, over `experience` (from 1) | `metrics_of`: accuracies before and after the sleep, and what the sleep did |
| tables | `accuracy_after_sleep`, `accuracy_before_sleep`: the two matrices, fractions, a row per experience trained |
| summary | `summary_of`: what benchmarks/records/metrics.py makes of the matrix, status, seconds, bytes kept |
| artifact | `record-<id>`: the record's file |

The id of a run is made of its config's hash, config name, strategy, seed and commit, so a run that is mirrored again
replaces itself. (W&B gives an id once: a run deleted there can only be restored there.) Its group is what a mean over
seeds may be taken of: config name, strategy and hash.

Host, user, folders, packages, git state, code and system metrics are not given to W&B, and wandb's own error reports
are off. Whatever W&B does, a run goes on: at the first trouble there is one warning, and nothing more is sent.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Unpack

from benchmarks.files import write_whole
from benchmarks.records.environment import commit, versions
from benchmarks.records.metrics import average_accuracy, backward_transfer, forgetting, pooled_accuracy
from benchmarks.records.observer import Facts
from benchmarks.records.packed import read_bytes
from benchmarks.records.record import Record, config_hash
from benchmarks.tracking.settings import WandbSettings, discretion, load_wandb, quiet, without_key
from src_plugin.errors import warn_user
from strategies import find_row

PATIENCE = 3
"""After so many runs in a row that could not be opened a process no longer tries: each try may wait `init_timeout`."""

SHARES = ("expected_share", "share_trained", "share_slept", "share_settled", "share_levelled")
SLEEP_NUMBERS = ("steps", "strength", "noise_strength", *SHARES, "settled_at", "kept_fraction")


def run_id(*, hash8: str, config_name: str, strategy: str, seed: int, commit: str) -> str:
    """Return the id of a run in W&B: the first 16 hexadecimal digits of the SHA-256 of what makes it what it is."""
    text = json.dumps([hash8, config_name, strategy, seed, commit])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def metrics_of(
    experience: int,
    *,
    before: Sequence[float],
    after: Sequence[float],
    n_seen: int,
    report: Mapping[str, Any] | None,
    train_seconds: float | None,
    sleep_seconds: float | None,
) -> dict[str, float]:
    """Return the metrics of one experience; what is unknown or not finite is left out.

    Args:
        experience: Its number, from 1.
        before: Row of the accuracy matrix before the sleep, fractions, shape (n_tests,).
        after: The same after it.
        n_seen: The first so many columns were learnt; `mean_seen` is their mean.
        report: A `SleepReport` as a dict; None if there was no sleep.
        train_seconds: Time of training, in s.
        sleep_seconds: Time of sleep, in s.
    """
    metrics: dict[str, Any] = {"experience": experience}
    for name, row in (("after_sleep", after), ("before_sleep", before)):
        metrics |= {f"{name}/experience_{j + 1}": value for j, value in enumerate(row)}
        metrics[f"{name}/mean_seen"] = sum(row[:n_seen]) / n_seen
    metrics |= {"time/train_seconds": train_seconds, "time/sleep_seconds": sleep_seconds}
    if report is not None:
        metrics |= _sleep_metrics(report)
    return {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}


def _sleep_metrics(report: Mapping[str, Any]) -> dict[str, float | None]:
    """Return what a sleep did: rates as fractions of its steps, changes of weights as fractions of their norm."""
    layers = list(report.get("layers") or ())
    metrics: dict[str, float | None] = {"sleep/slept": float(report.get("decision") == "slept")}
    metrics |= {f"sleep/{name}": report.get(name) for name in SLEEP_NUMBERS}
    metrics |= {f"sleep/rate/{name}": r for name, r in zip(["input", *layers], report.get("rates") or (), strict=False)}
    changes = zip(layers, report.get("weight_change") or (), report.get("weight_norm") or (), strict=False)
    for name, change, norm in changes:
        metrics[f"sleep/weight_change/{name}"] = change / norm if norm and change is not None else None
    return metrics


def summary_of(record: Record) -> dict[str, Any]:
    """Return the summary of a run; what is unknown is left out."""
    summary: dict[str, Any] = {"status": record.status, "error": record.error, "kept_bytes": record.kept_bytes}
    summary |= {f"{part}_seconds": seconds for part, seconds in record.seconds.model_dump().items()}
    if record.status == "done" and record.accuracy:
        summary |= {
            "final_accuracy": record.final_accuracy,
            "average_accuracy": average_accuracy(record.accuracy),
            "forgetting": forgetting(record.accuracy),
            "backward_transfer": backward_transfer(record.accuracy),
        }
        ways = record.accuracy_by or {}
        summary |= {f"final_accuracy_by/{way}": pooled_accuracy(m[-1], record.n_test) for way, m in ways.items()}
    return {name: value for name, value in summary.items() if value is not None}


class RunLog:
    """The mirror of one run; `open` makes it.

    As a context manager it closes itself: an exception that passes through marks the run as failed.

    Attributes:
        name: Config, strategy and seed, for people.
        id: The run's id in W&B; in a sweep the sweep gives its own.
        trouble: What W&B could not do; None as long as all is well.
    """

    unanswered: ClassVar[int] = 0  # runs in a row, of this process, that could not be opened

    def __init__(self, name: str, *, id: str, settings: WandbSettings, at_once: bool) -> None:
        self.name = name
        self.id = id
        self.trouble: str | None = None
        self._settings = settings
        self._at_once = at_once
        self._run: Any = None

    @classmethod
    def open(
        cls,
        config: Mapping[str, Any],
        *,
        config_name: str,
        strategy: str,
        seed: int,
        settings: WandbSettings,
        provenance: Mapping[str, Any] | None = None,
        at_once: bool | None = None,
    ) -> RunLog:
        """Begin to mirror a run.

        Args:
            config: The resolved config, see `benchmarks.configs.run.resolve`.
            config_name: Its name.
            strategy: What is run.
            seed: Under which seed.
            settings: Where it is mirrored.
            provenance: "commit" and "versions" of a finished run; None for those of this process.
            at_once: Whether all experiences are learnt as one; None asks the table of strategies.

        Raises:
            ConfigError: See `WandbSettings.decided`.
        """
        settings = settings.decided()
        made = provenance or {"commit": commit()[0], "versions": versions()}
        hash8 = config_hash(config)
        id = run_id(hash8=hash8, config_name=config_name, strategy=strategy, seed=seed, commit=made["commit"])
        at_once = find_row(strategy)[0].at_once if at_once is None else at_once
        log = cls(f"{config_name}/{strategy}/seed{seed}", id=id, settings=settings, at_once=at_once)
        if settings.mode == "disabled":
            return log
        sleeps = "sleep" if config.get("sleep") else "no sleep"
        given: dict[str, Any] = {
            "id": log.id,
            "name": log.name,
            "group": f"{config_name}/{strategy}/{hash8}",
            "job_type": strategy,
            "tags": list(dict.fromkeys([config["stream"]["dataset"], strategy, sleeps, *settings.tags])),
            "config": {**config, "config_name": config_name, "hash": hash8, "seed": seed, **made},
        }
        if cls.unanswered < PATIENCE:
            log._try("could not be opened", lambda: log._begin(given))
            cls.unanswered = 0 if log.trouble is None else cls.unanswered + 1
        else:
            log.trouble = f"was not opened: {PATIENCE} runs before could not be"
        return log

    def experience(self, i: int, **facts: Unpack[Facts]) -> None:
        """Log what was measured after one experience.

        Args:
            i: Its number, from 0, as everywhere in the code; W&B counts from 1, as the pictures do.
            facts: What was measured, see `benchmarks.records.observer.Facts`.
        """
        if self._run is None:
            return

        def log() -> None:
            n_tests = len(facts["after"])
            self._run.log(metrics_of(i + 1, n_seen=n_tests if self._at_once else min(i + 1, n_tests), **facts))

        self._try(f"experience {i + 1} could not be logged", log)

    def close(self, record: Record, *, picture: Path | None = None, path: Path | None = None) -> None:
        """Log the finished record and end the run: as failed if the record says so.

        Args:
            record: What the run found.
            picture: Its picture, if there is one.
            path: The record's file, if it is written; it becomes an artifact.
        """
        if self._run is None:
            return
        self._try("record could not be logged", lambda: self._log_record(record, picture=picture, path=path))
        self._end(exit_code=1 if record.status == "failed" else 0)
        if self.trouble is None:
            self._try("could not be marked as mirrored", lambda: _mark(record, self._settings))

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(exit_code=0 if error is None else 1)

    def _begin(self, given: Mapping[str, Any]) -> None:
        wandb, settings = load_wandb(), self._settings
        settings.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            mode=settings.mode,
            project=settings.project,
            entity=settings.entity,
            dir=str(settings.folder),
            reinit="create_new",  # leaves other runs of this process alone
            settings=quiet(settings, finish_timeout_raises=True),
            **given,
        )
        self._run.define_metric("experience")
        self._run.define_metric("*", step_metric="experience")

    def _log_record(self, record: Record, *, picture: Path | None, path: Path | None) -> None:
        wandb, run = load_wandb(), self._run
        facts = record.model_dump(include={"versions", "commit", "tree_clean", "hardware", "features"})
        facts |= record.model_dump(include={"class_order", "experiences", "n_test"})
        run.config.update(facts, allow_val_change=True)
        run.summary.update(summary_of(record))
        if record.status != "done":
            run.tags = (*run.tags, record.status)
        matrices = {"accuracy_after_sleep": record.accuracy, "accuracy_before_sleep": record.accuracy_before_sleep}
        columns = ["trained", *(f"experience_{j + 1}" for j in range(len(record.n_test)))]
        media: dict[str, Any] = {
            name: wandb.Table(columns=columns, data=[[i + 1, *row] for i, row in enumerate(matrix)])
            for name, matrix in matrices.items()
            if matrix
        }
        if picture is not None:
            media["picture"] = wandb.Image(str(picture))
        if media:
            run.log(media)
        if path is not None:
            artifact = wandb.Artifact(f"record-{self.id}", type="record")
            with artifact.new_file(path.name, mode="wb") as file:
                file.write(read_bytes(path))
            run.log_artifact(artifact)

    def _end(self, *, exit_code: int) -> None:
        run, self._run = self._run, None
        if run is not None:
            self._try("could not be closed", lambda: run.finish(exit_code=exit_code))

    def _try(self, what: str, act: Callable[[], None]) -> None:
        """Do something with W&B; at its first failure warn, and go on without."""
        with discretion(self._settings.folder):
            try:
                act()
            except Exception as problem:
                run, self._run = self._run, None
                self.trouble = f"{what}: {without_key(f'{type(problem).__name__}: {problem}')}"
                if run is not None:
                    with suppress(Exception):  # one warning is enough
                        run.finish(exit_code=1)
                cure = "`python -m benchmarks wandb-sync` makes its mirror from the record"
                warn_user(f"W&B: {self.name} {self.trouble}. The run goes on; {cure}")


def _place(record: Record, settings: WandbSettings) -> tuple[Path, str, str]:
    """Return the file of marks of a run, the mark for these settings, and what it says of this very record."""
    id = run_id(
        hash8=record.hash,
        commit=record.commit,
        config_name=record.config_name,
        strategy=record.strategy,
        seed=record.seed,
    )
    target = f"{settings.mode} {settings.entity or ''}/{settings.project}"
    text = json.dumps(record.model_dump(by_alias=True), sort_keys=True)  # sorted, as a record that was read is
    digest = hashlib.sha256(text.encode()).hexdigest()
    return settings.folder / "wandb" / "mirrored" / f"{id}.json", target, digest


def is_mirrored(record: Record, settings: WandbSettings) -> bool:
    """Return whether this very record was mirrored completely, in this mode, for this project.

    W&B is not asked: every complete mirror leaves a mark in <dir>/wandb/mirrored.

    Args:
        record: A finished run.
        settings: As `WandbSettings.decided` gives them.
    """
    path, target, digest = _place(record, settings)
    return _marks(path).get(target) == digest


def _mark(record: Record, settings: WandbSettings) -> None:
    path, target, digest = _place(record, settings)
    write_whole(path, json.dumps({**_marks(path), target: digest}, sort_keys=True, indent=1).encode())


def _marks(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # no mark, or a spoilt one: the run is mirrored again, which replaces it
        return {}
