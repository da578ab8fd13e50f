"""A cluster of two Ray nodes on this machine: what one process finds, though a worker is killed on the way."""

from __future__ import annotations

import gc
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.__main__ import main, parse
from benchmarks.configs.files import load_config
from benchmarks.errors import ClusterError, WorkerError
from benchmarks.records.environment import ROOT, versions
from benchmarks.records.record import Record
from benchmarks.runs import cluster
from benchmarks.runs.attempt import Job
from benchmarks.runs.cluster import join
from benchmarks.runs.log import log_path
from benchmarks.runs.suite import plan, run_suite
from benchmarks.runs.workers import run_in_processes
from benchmarks.streams.loading import Places

WITHOUT_RAY = "Ray is not installed; `pip install ray` brings it"
SMALL = ["model.hidden=[60, 60]", "training.epochs=6"]


@pytest.fixture
def console() -> Console:
    return Console(width=200, record=True, file=io.StringIO())


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    """Start two nodes with one CPU each; return the address for here, and the one for outside."""
    pytest.importorskip("ray", reason=WITHOUT_RAY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        two = Cluster()
        node = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
        try:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # Ray leaves the client server's logs to be closed
                two.add_node(**node, ray_client_server_port=port)
                two.add_node(**node)
                gc.collect()
            yield {"host:port": two.address, "ray://": f"ray://127.0.0.1:{port}"}
        finally:
            two.shutdown()


@pytest.fixture
def address(addresses: dict[str, str]) -> str:
    return addresses["host:port"]


def jobs_in(out: Path) -> list[Job]:
    config = load_config(ROOT / "configs" / "split_digits.yaml", changes=SMALL)
    return plan(config, strategies=["naive", "naive+src"], seeds=[0, 1], out=out)


def without_times(record: Record) -> dict[str, Any]:
    def strip(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: strip(value) for key, value in tree.items() if key not in ("seconds", "hardware")}
        return [strip(value) for value in tree] if isinstance(tree, list) else tree

    return strip(record.model_dump())


def kill_one_at_work(jobs: list[Job], killed: list[int]) -> None:
    """Kill the first worker that has finished an experience and is not near the end of its run."""
    end = time.monotonic() + 90
    while not killed and time.monotonic() < end:
        for job in jobs:
            if not job.path.with_suffix(".checkpoint").exists() or job.path.exists():
                continue
            log = log_path(job.path).read_text(encoding="utf-8")
            if "experience 4 of 5" not in log:
                (process,) = re.findall(r"process (\d+)", log)
                os.kill(int(process), signal.SIGKILL)
                killed.append(int(process))
                break
        time.sleep(0.02)


@pytest.mark.slow
def test_a_worker_killed_on_a_cluster_of_two_nodes_loses_nothing(
    address: str, tmp_path: Path, console: Console
) -> None:
    jobs, killed = jobs_in(tmp_path / "cluster"), []
    killer = threading.Thread(target=kill_one_at_work, args=(jobs, killed), daemon=True)
    killer.start()
    made = run_suite(jobs, console=console, cluster=address)
    killer.join()
    alone = run_suite(jobs_in(tmp_path / "alone"), console=console, threads=1)
    assert [without_times(record) for record in made] == [without_times(record) for record in alone]
    assert {record.status for record in made} == {"done"}

    logs = [log_path(job.path).read_text(encoding="utf-8") for job in jobs]
    (cut,) = [log for log in logs if log.count("started on") == 2]
    assert f"process {killed[0]}" in cut
    assert re.search(r"goes on after experience [1-4] of 5", cut)
    assert "2 nodes with 2 CPUs; up to 2 runs at the same time" in console.export_text()
    assert sorted(path.suffix for path in jobs[0].path.parent.iterdir()) == [".json", ".json", ".log", ".log"]
    assert not list((tmp_path / "cluster").glob(".*"))  # the mark by which nodes saw the folder is gone


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["host:port", "ray://"])
def test_answers_come_as_they_are_ready_and_the_code_was_sent_along(
    kind: str, addresses: dict[str, str], console: Console
) -> None:
    def work(job: int) -> tuple[int, str]:
        import time

        import benchmarks

        time.sleep(job)
        return job, str(benchmarks.__file__)

    with join(addresses[kind], workers=2, threads=1, device="cpu", console=console) as joined:
        pool = joined.pool
        found = list(run_in_processes([4, 0, 1], work, pool=pool, finished=lambda job: None, console=console))
    assert [job for job, _ in found] == [0, 1, 4]
    assert not any(file.startswith(str(ROOT)) for _, file in found)


@pytest.mark.slow
def test_a_job_whose_workers_die_twice_is_said(address: str, tmp_path: Path, console: Console) -> None:
    def work(job: str) -> tuple[str, str]:
        import os

        with (tmp_path / job).open("a") as file:
            file.write("x")
        if job == "bad":
            os._exit(1)
        return job, job

    with (
        join(address, workers=2, threads=1, device="cpu", console=console) as joined,
        pytest.raises(WorkerError, match=r"for the second time.*the same command goes on"),
    ):
        list(run_in_processes(["good", "bad"], work, pool=joined.pool, finished=lambda job: None, console=console))
    assert (tmp_path / "bad").read_text() == "xx"


@pytest.mark.slow
def test_what_a_job_raises_is_raised_here(address: str, console: Console) -> None:
    def work(job: str) -> tuple[str, str]:
        raise OSError(28, "No space left on device")

    with (
        join(address, workers=2, threads=1, device="cpu", console=console) as joined,
        pytest.raises(OSError, match="No space left"),
    ):
        list(run_in_processes(["a", "b"], work, pool=joined.pool, finished=lambda job: None, console=console))


@pytest.mark.slow
def test_a_node_that_lacks_something_is_refused_by_its_name_before_anything_runs(
    address: str, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "versions", lambda: {**versions(), "torch": "1.0"})
    with pytest.raises(ClusterError, match=r"node .* of the cluster has torch .*, here 1\.0: .*Nothing was run"):
        run_suite(jobs_in(tmp_path), console=console, cluster=address)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def needed(tmp_path: Path, **changes: Any) -> cluster._Needed:
    mark = tmp_path / ".mark"
    mark.touch()
    config = load_config(ROOT / "configs" / "split_digits.yaml")
    given = {"folder": tmp_path, "marks": [mark], "configs": [config], "places": Places(), "versions": versions()}
    return cluster._Needed(**{**given, **changes})


def test_what_a_node_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # looking changes the folder, and a node's process has no other use
    (tmp_path / "data").mkdir()
    mnist = load_config(ROOT / "configs" / "split_mnist.yaml")
    assert cluster._look(needed(tmp_path)) is None
    lacks = {
        "has no /nowhere, where the command was started": {"folder": Path("/nowhere")},
        "does not share /nowhere, where records are kept": {"marks": [Path("/nowhere/.mark")]},
        "has not the data of split_mnist": {"configs": [mnist]},
    }
    for problem, changes in lacks.items():
        assert problem in str(cluster._look(needed(tmp_path, **changes)))


def test_without_ray_the_answer_says_what_to_install(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"--cluster needs Ray: pip install ray\. Nothing was run"):
        run_suite(jobs_in(tmp_path), console=console, cluster="auto")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_address_that_does_not_answer_is_said_in_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason=WITHOUT_RAY)
    assert cluster.PATIENCE == 20
    monkeypatch.setattr(cluster, "PATIENCE", 4)
    started = time.monotonic()
    arguments = ["run", str(ROOT / "configs" / "split_digits.yaml"), "--out", str(tmp_path)]
    assert main([*arguments, "--cluster", "127.0.0.1:9"]) == 2
    assert time.monotonic() - started < cluster.PATIENCE + 10
    error = capsys.readouterr().err
    assert error.startswith("error: the cluster 127.0.0.1:9 cannot be reached: no answer within 4 s. Nothing was run; ")
    assert "the records on disk stay; go on with --workers on this machine, or with the same command later" in error
    assert not list(tmp_path.iterdir())


def test_one_worker_is_no_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", str(ROOT / "configs" / "split_digits.yaml"), "--out", str(tmp_path), "--workers", "1"]
    assert main([*arguments, "--cluster", "auto"]) == 2
    assert "leave --cluster out, or give more --workers" in capsys.readouterr().err


SBATCH = ROOT / "configs" / "slurm" / "seeds.sbatch"


def test_the_slurm_file_asks_the_laboratory_for_one_seed_per_task(tmp_path: Path) -> None:
    assert subprocess.run(["bash", "-n", str(SBATCH)], check=False).returncode == 0
    python = tmp_path / "python"
    python.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    task = {"PATH": os.environ["PATH"], "PYTHON": str(python), "SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "4"}

    def asked(*more: str) -> Any:
        said = subprocess.run(["bash", str(SBATCH), *more], env=task, capture_output=True, text=True, check=True)
        dash_m, module, *arguments = said.stdout.splitlines()
        assert (dash_m, module) == ("-m", "benchmarks")
        return parse(arguments)

    options = asked()
    assert (options.command, options.configs) == ("run", [Path("configs/split_digits.yaml")])
    assert (options.seeds, options.workers, options.threads, options.out) == ([3], 4, 1, Path("runs"))
    assert all((ROOT / path).is_file() for path in options.configs)
    options = asked("configs/split_mnist.yaml", "--data-root", "/scratch/my data")
    assert (options.configs, options.data_root) == ([Path("configs/split_mnist.yaml")], [Path("/scratch/my data")])
