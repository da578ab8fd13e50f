"""A suite that is killed, meets a full disk, a wrong clock or a twin ends with the records of an undisturbed one."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.__main__ import main
from lab_samples import TINY
from places import ROOT

KILLS = 20
CONFIG = {
    "name": "survivor",
    "stream": {"dataset": "digits", "n_experiences": 5},
    "model": {"hidden": [50, 50]},
    "training": {"lr": 0.05, "batch_size": 20, "epochs": 4},
    "settings": {"memory_fraction": 0.05},
    "strategies": ["naive", "naive+src", "lwf", "si+src", "replay", "icarl_mlp+src", "joint"],
}
TIMES = ("seconds", "hardware")  # the clock, and the load of the machine

# A process that never computes itself forks one that runs the suite, and kills it after a random time.
KILLER = """
import os, random, signal, sys, time
import torch
import benchmarks.runs.runner, benchmarks.runs.suite, benchmarks.tables.picture, benchmarks.streams.loading
from benchmarks.__main__ import main

torch.set_num_threads(1)
kills, longest, arguments = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
draw, done = random.Random(0), 0
while True:
    child = os.fork()
    if not child:
        os._exit(main(arguments))
    end = time.monotonic() + (draw.uniform(0, longest) if done < kills else 600)
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.002)
    if ended != (0, 0):
        break
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    done += 1
print("killed", done, "times, then", os.waitstatus_to_exitcode(ended[1]))
"""


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / f"{config['name']}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def arguments(config: Path, out: Path, *more: str) -> list[str]:
    return ["run", str(config), "--seeds", "0", "1", "--threads", "1", "--out", str(out), *more]


def timeless(tree: Any) -> Any:
    """Return a record's content without what a clock said."""
    if isinstance(tree, dict):
        return {key: timeless(value) for key, value in tree.items() if key not in TIMES}
    return [timeless(value) for value in tree] if isinstance(tree, list) else tree


def results(out: Path) -> dict[str, str]:
    """Return every record as text, by its path."""
    records = {path.relative_to(out).as_posix(): path for path in out.rglob("seed*.json")}
    return {name: json.dumps(timeless(json.loads(path.read_text(encoding="utf-8")))) for name, path in records.items()}


@pytest.mark.slow
def test_killed_twenty_times_at_random_it_ends_with_the_same_records(tmp_path: Path) -> None:
    config = write_config(tmp_path, CONFIG)

    def suite(out: str, *, kills: int, longest: float) -> str:
        command = [sys.executable, "-W", "ignore", "-c", KILLER, str(kills), str(longest)]
        ran = subprocess.run(
            [*command, *arguments(config, tmp_path / out)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return f"{ran.stdout.strip().splitlines()[-1]} {ran.stderr}".strip()

    started = time.monotonic()
    assert suite("calm", kills=0, longest=0) == "killed 0 times, then 0"
    longest = (time.monotonic() - started) / KILLS  # too short for all to be done before the last kill
    assert suite("killed", kills=KILLS, longest=longest) == f"killed {KILLS} times, then 0"
    calm, killed = results(tmp_path / "calm"), results(tmp_path / "killed")
    assert len(calm) == 2 * len(CONFIG["strategies"])
    assert killed == calm
    assert not list((tmp_path / "killed").rglob("*.checkpoint"))


@pytest.mark.slow
def test_two_suites_on_one_folder_do_each_other_no_harm(tmp_path: Path) -> None:
    config = write_config(tmp_path, CONFIG)
    assert main(arguments(config, tmp_path / "one")) == 0
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks", *arguments(config, tmp_path / "both")]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [suite.wait(timeout=300) for suite in both] == [0, 0]
    assert results(tmp_path / "both") == results(tmp_path / "one")
    assert not [path for path in (tmp_path / "both").rglob("*") if path.suffix in (".checkpoint", ".tmp")]


def test_a_half_written_record_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, TINY)
    assert main(arguments(config, tmp_path / "runs")) == 0
    whole = results(tmp_path / "runs")
    torn = next((tmp_path / "runs").rglob("seed1*.json"))
    torn.write_bytes(torn.read_bytes()[:1000])
    capsys.readouterr()
    assert main(arguments(config, tmp_path / "runs")) == 0
    assert f"run again, because {torn} is not a valid record" in capsys.readouterr().out
    assert results(tmp_path / "runs") == whole


def test_a_full_disk_leaves_no_half_record_and_the_next_call_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, TINY)
    assert main(arguments(config, tmp_path / "wanted")) == 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))  # a file may hold 500 bytes, a record is larger
    try:
        assert main(arguments(config, tmp_path / "runs")) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr()
    assert "seed0" in said.err
    assert "the same command goes on" in said.err
    assert results(tmp_path / "runs") == {}
    assert main(arguments(config, tmp_path / "runs")) == 0
    assert results(tmp_path / "runs") == results(tmp_path / "wanted")


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_config(tmp_path, TINY)
    assert main(arguments(config, tmp_path / "wanted")) == 0
    jumps = count()
    monkeypatch.setattr(time, "time", lambda: 1e9 * (-1) ** next(jumps))  # the year 2001, 1938, 2001, ...
    assert main(arguments(config, tmp_path / "runs")) == 0
    assert results(tmp_path / "runs") == results(tmp_path / "wanted")
    for path in (tmp_path / "runs").rglob("seed*.json"):
        seconds = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        assert all(0 <= value < 100 for value in seconds.values())
