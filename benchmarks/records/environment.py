"""What a record says about where it was made: versions, commit, hardware. No names of people, hosts or folders."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "torchvision", "avalanche-lib", "numpy", "numba", "scikit-learn", "src-plugin")


def versions() -> dict[str, str | None]:
    """Return the version of Python and of each package that can move a number; None if it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    if found["src-plugin"] is None:  # a checkout that was not installed still knows its version
        from src_plugin import __version__

        found["src-plugin"] = __version__
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@lru_cache(maxsize=1)
def commit() -> tuple[str, bool | None]:
    """Return the commit of this checkout and whether its tree was clean; ("unknown", None) outside git.

    Read once per process, so that files written by the first run do not make the second one look dirty.
    """
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT:  # an unpacked archive inside somebody else's repository
        return "unknown", None
    head = _git("rev-parse", "--verify", "HEAD")
    status = _git("status", "--porcelain")
    return head or "unknown", None if head is None or status is None else status == ""


@lru_cache(maxsize=1)
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine() or "unknown"


def hardware(device: str) -> dict[str, str | int]:
    """Return the processor's model, usable cores, torch's threads, and the name of the device that trained."""
    import torch

    is_cuda = torch.device(device).type == "cuda"
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if is_cuda else torch.device(device).type,
    }
