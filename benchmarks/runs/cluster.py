"""A Ray cluster as a pool of workers: joblib's call stays the same, its backend is Ray's.

What a node needs: this Python and the packages of requirements.txt, Ray included; and, under the same paths as here,
the folder of records, the folders of data and features, and the folder the command is started in. In practice that is
a shared file system. All of it is checked on every node before anything runs. The code is sent along, as it was when
the command was started; later changes do not reach a suite that is running.

Workers write records, checkpoints and logs themselves, as processes of one machine do; the caller is told of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.configs.run import RunConfig
from benchmarks.console import say
from benchmarks.errors import ClusterError
from benchmarks.files import write_whole
from benchmarks.records.environment import ROOT, versions
from benchmarks.runs.attempt import Job
from benchmarks.runs.ray_backend import call, ray_pool
from benchmarks.runs.workers import Pool
from benchmarks.streams.loading import Places, load_for
from src_plugin.errors import SRCError

PATIENCE = 20.0
"""So long an address has to answer, in s: Ray alone would try for two minutes."""

CHECK_PATIENCE = 300.0
"""So long the nodes have to receive the code and to look for their folders and data, in s."""

CODE = ("benchmarks", "strategies", "src_plugin")
NOT_SENT = shutil.ignore_patterns("results", "__pycache__")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
GO_ON = "the records on disk stay; go on with --workers on this machine, or with the same command later"


@dataclass(frozen=True)
class Cluster:
    """A cluster this process has joined.

    Attributes:
        pool: Its workers.
    """

    pool: Pool

    def check(self, jobs: Sequence[Job], places: Places) -> None:
        """Refuse nodes that cannot make these runs.

        Args:
            jobs: The runs.
            places: Where the data are, for this process and for every node.

        Raises:
            ClusterError: A node lacks something; the message names both.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        outs = list(dict.fromkeys(job.path.parents[2] for job in jobs))
        marks = [(out / f".cluster-{uuid.uuid4().hex}").absolute() for out in outs]
        configs = list({id(job.config): job.config for job in jobs}.values())
        needed = _Needed(Path.cwd(), marks, configs, places, versions())
        look = ray.remote(num_cpus=0, max_retries=1)(call)
        packed = ray.cloudpickle.dumps(partial(_look, needed))
        try:
            for mark in marks:
                write_whole(mark, b"A suite looks whether the nodes of its cluster see this folder.\n")
            found = {
                f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})": look.options(
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ).remote(packed, None)
                for node in _nodes(ray)
            }
            for name, answer in found.items():
                try:
                    problem = ray.cloudpickle.loads(ray.get(answer, timeout=CHECK_PATIENCE))
                except Exception as error:
                    problem = f"does not answer: {_first_line(error)}"
                if problem is not None:
                    raise ClusterError(f"node {name} of the cluster {problem}. Nothing was run; {GO_ON}")
        finally:
            for mark in marks:
                mark.unlink(missing_ok=True)


@contextmanager
def join(address: str, *, workers: int | None, threads: int, device: str, console: Console) -> Iterator[Cluster]:
    """Join a cluster for the length of a suite.

    Args:
        address: What `ray.init` takes: auto, host:port or ray://host:port.
        workers: Runs at the same time; None for as many as the cluster has CPUs for.
        threads: CPUs of each run. A run on a GPU has one GPU to itself, too.
        device: Where networks are trained.
        console: Where is said what was joined.

    Raises:
        ClusterError: Ray is not installed, or the address does not answer.
    """
    ray = _load_ray()
    _knock(address)
    with tempfile.TemporaryDirectory(prefix="src-code-") as code:
        for name in CODE:
            shutil.copytree(ROOT / name, Path(code) / name, ignore=NOT_SENT)
        there = {"working_dir": code, "env_vars": dict.fromkeys(THREADS, str(threads))}
        try:
            ray.init(address=address, runtime_env=there, log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            raise _unreachable(address, _first_line(error)) from error
        try:
            n_cpus = int(ray.cluster_resources().get("CPU", 0))
            n = workers or max(2, n_cpus // threads)  # with one joblib would stay in this process
            say(console, f"cluster: {len(_nodes(ray))} nodes with {n_cpus} CPUs; up to {n} runs at the same time")
            options = {"num_cpus": threads, "num_gpus": 1 if device.startswith("cuda") else 0, "max_retries": 1}
            yield Cluster(ray_pool(workers=n, options=options))
        finally:
            ray.shutdown()


def _load_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ClusterError(f"--cluster needs Ray: pip install ray. Nothing was run; {GO_ON}") from error
    return ray


def _knock(address: str) -> None:
    """Try an address from another process, which can be ended: Ray's own attempts cannot, and take minutes."""
    code = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')"
    try:
        tried = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, address],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _unreachable(address, f"no answer within {PATIENCE:.0f} s") from error
    if tried.returncode != 0:
        raise _unreachable(address, (tried.stderr.strip().splitlines() or ["no reason given"])[-1])


def _unreachable(address: str, why: str) -> ClusterError:
    return ClusterError(f"the cluster {address} cannot be reached: {why}. Nothing was run; {GO_ON}")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _nodes(ray: Any) -> list[dict[str, Any]]:
    """Return the nodes that take runs; a head node often has no CPUs to give."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]


@dataclass(frozen=True)
class _Needed:
    """What a node must have."""

    folder: Path
    marks: Sequence[Path]
    configs: Sequence[RunConfig]
    places: Places
    versions: dict[str, str | None]


def _look(needed: _Needed) -> str | None:
    """Return what a node lacks, asked there; None if it can make the runs."""
    own = versions()
    other = [f"{name} {own[name]}, here {v}" for name, v in needed.versions.items() if own[name] != v]
    if other:
        return f"has {'; '.join(other)}: its runs would not be comparable"
    if not needed.folder.is_dir():
        return f"has no {needed.folder}, where the command was started and to which its paths are relative"
    os.chdir(needed.folder)
    for mark in needed.marks:
        if not mark.is_file() or not os.access(mark.parent, os.W_OK):
            return f"does not share {mark.parent}, where records are kept, or must not write there"
    for config in needed.configs:
        if config.backbone is not None and config.backbone.cached and not needed.places.features.is_dir():
            return f"has no {needed.places.features.absolute()}, where features of backbones are kept"
        try:
            load_for(config, needed.places)
        except SRCError as error:
            return f"has not the data of {config.name}: {error}"
    return None
