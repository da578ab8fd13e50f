"""Published numbers, read from published.yaml, and whether ours agree with them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, TypeAdapter

from benchmarks.configs.run import Section

FILE = Path(__file__).with_name("published.yaml")


class Published(Section):
    """One published accuracy.

    Attributes:
        mean: In percent.
        sd: Standard deviation in percent; None where it was not found.
        source: Where it stands.
        differs: In what ours differs by design, so that nothing is reproduced; None if it is meant to be the same.
    """

    mean: Annotated[float, Field(ge=0, le=100)]
    sd: Annotated[float, Field(ge=0)] | None = None
    source: str
    differs: str | None = None

    def agrees_with(self, mean: float, sd: float) -> bool:
        """Whether our mean is within two standard deviations of both together, or within two points.

        Args:
            mean: Ours, in percent.
            sd: Ours, in percent.
        """
        return abs(mean - self.mean) <= max(2.0, 2.0 * math.hypot(sd, self.sd or 0.0))


def load_published(path: Path = FILE) -> dict[str, dict[str, Published]]:
    """Return config name -> strategy -> published accuracy."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    return TypeAdapter(dict[str, dict[str, Published]]).validate_python(raw)
