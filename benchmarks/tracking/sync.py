"""Records -> Weights & Biases (W&B): what was run without it, or could not be sent, is mirrored from its record."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from benchmarks.console import say
from benchmarks.records.packed import find_files, is_folder
from benchmarks.records.record import RECORD_FILES, Record, read_record, reports_by_experience
from benchmarks.tracking.logger import PATIENCE, RunLog, is_mirrored
from benchmarks.tracking.settings import WandbSettings, sending
from src_plugin.errors import ConfigError, SRCError


def log_record(record: Record, *, path: Path, settings: WandbSettings, picture: Path | None = None) -> str | None:
    """Mirror a finished run from its record, by the calls that a running one makes.

    A record does not say how long each training took, so that this is left out.

    Args:
        record: What the run found.
        path: Its file, <out>/<config name>/<strategy>/seed<k>-<hash>.json; wandb's files lie in <out>/wandb unless
            the settings say otherwise.
        settings: Where it is mirrored.
        picture: Its picture, if there is one.

    Returns:
        None if all went well, else what did not; there was a warning then.

    Raises:
        ConfigError: See `WandbSettings.decided`.
    """
    reports = reports_by_experience(record)
    before, after = record.accuracy_before_sleep or [], record.accuracy or []
    with RunLog.open(
        record.config,
        config_name=record.config_name,
        strategy=record.strategy,
        seed=record.seed,
        settings=settings.decided(beside=path.absolute().parents[2]),
        provenance={"commit": record.commit, "versions": record.versions},
        at_once=record.status == "done" and len(after) == 1,
    ) as log:
        for i, rows in enumerate(zip(before, after, strict=True)):
            report = reports.get(i)
            log.experience(
                i,
                before=rows[0],
                after=rows[1],
                report=report,
                train_seconds=None,
                sleep_seconds=None if report is None else report.get("seconds"),
            )
        log.close(record, picture=picture, path=path)
    return log.trouble


def sync(folder: Path, *, settings: WandbSettings, console: Console) -> int:
    """Mirror every record of a folder that was not mirrored yet; a picture beside it (.png for .json) goes with it.

    What was interrupted is gone on with by the same command.

    Args:
        folder: Where the records are.
        settings: Where they are mirrored.
        console: Where messages go.

    Returns:
        Exit status: 0 if all are mirrored, 1 if one could not be.

    Raises:
        ConfigError: See `WandbSettings.decided`; or the mode is "disabled".
        SRCError: There is no record.
        RecordError: A file is not a valid record.
    """
    settings = settings.decided(beside=folder)
    if settings.mode == "disabled":
        raise ConfigError("W&B is disabled, so there is nothing to do; the mode must be online or offline")
    paths = find_files(folder, RECORD_FILES) if is_folder(folder) else []
    if not paths:
        raise SRCError(f"there are no records in {folder}; `python -m benchmarks run <config>` makes them")
    records = {path: read_record(path) for path in paths}
    todo = {path: record for path, record in records.items() if not is_mirrored(record, settings)}
    done, in_a_row = 0, 0
    for path, record in todo.items():
        picture = path.with_suffix(".png")
        trouble = log_record(record, path=path, settings=settings, picture=picture if picture.is_file() else None)
        done, in_a_row = (done + 1, 0) if trouble is None else (done, in_a_row + 1)
        if in_a_row == PATIENCE:
            say(console, "W&B does not answer; the same command goes on later", style="yellow")
            break
    before = len(records) - len(todo)
    say(console, f"mirrored {done} of {len(todo)} runs ({settings.mode}); {before} were already")
    if settings.mode == "offline" and done:
        say(console, f"to send them: {sending(settings)}")
    return 0 if done == len(todo) else 1
