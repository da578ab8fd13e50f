"""YAML files that hold a mapping. Imports next to nothing, so that a name mistyped is answered at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from src_plugin.errors import ConfigError, did_you_mean


class Kind(NamedTuple):
    """What a file should be.

    Attributes:
        name: For people.
        keys: Keys that such a file has, for people.
    """

    name: str
    keys: Sequence[str]


CONFIG = Kind("config", ("stream", "model", "training"))
MATRIX = Kind("matrix", ("base", "datasets", "methods", "regimes"))
BACKBONE = Kind("config of a backbone", ("dataset", "epochs", "lr"))


def read_mapping(path: Path, kind: Kind) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Raises:
        ConfigError: There is no such file (the nearest name is given), or it holds something else.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no {kind.name} {path}{near_file(path)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold a mapping with keys like {', '.join(kind.keys)}")
    return raw


def near_file(path: Path) -> str:
    """Say what is there instead of a file."""
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent}, either"
    beside = [p.stem for p in path.parent.glob("*.yaml")]
    if beside:
        return did_you_mean(path.stem, beside, ending=".yaml")
    below = [f"configs/{p.stem}" for p in (path.parent / "configs").glob("*.yaml")]
    if below:
        return did_you_mean(f"configs/{path.stem}", below, ending=".yaml")
    return f"; there are no YAML files in {path.parent}"
