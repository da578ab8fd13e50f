"""What every record of an explanation says about where it was made."""

from __future__ import annotations

from typing import Any

from benchmarks.records.environment import commit, hardware, versions


def made_here() -> dict[str, Any]:
    """Return versions, commit, whether its tree was clean, and hardware."""
    name, is_clean = commit()
    return {"versions": versions(), "commit": name, "tree_clean": is_clean, "hardware": hardware("cpu")}
