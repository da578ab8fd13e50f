"""Records of one setting -> the command that makes them again, found by the name of their config under `configs/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.configs.files import load_config
from benchmarks.configs.matrix import load_matrix
from benchmarks.configs.run import RunConfig, resolve
from benchmarks.configs.yaml_files import MATRIX, read_mapping
from benchmarks.records.record import Record
from benchmarks.tables.results import setting_hash, setting_of

CONFIGS = Path(__file__).parents[2] / "configs"


def recipe_of(records: Sequence[Record]) -> str:
    """Return the command that makes the records of one setting; "" where no file says this setting under their name.

    Code that has changed since, the stages of a sleep among it, may give other numbers.
    """
    name, setting = setting_of(records[0])
    found = _find(name)
    if found is None or setting_hash(resolve(found[0], records[0].strategy)) != setting:
        return ""
    config, command = found
    strategies = list(dict.fromkeys(r.strategy for r in records))
    if command.startswith("run ") and not set(config.strategies) <= set(strategies):
        command += f" --strategies {' '.join(strategies)}"
    return f"python -m benchmarks {command} --seeds {' '.join(map(str, sorted({r.seed for r in records})))}"


def _find(name: str) -> tuple[RunConfig, str] | None:
    """Return a config by its name, be it a file or a cell of a matrix, and what runs it; files nearer the top first."""
    for path in sorted(CONFIGS.rglob("*.yaml"), key=lambda path: (len(path.parts), path)):
        file = path.relative_to(CONFIGS.parent).as_posix()
        if path.stem == name:
            return load_config(path), f"run {file}"
        if name.startswith(f"{path.stem}-") and "regimes" in read_mapping(path, MATRIX):
            for cell in load_matrix(path).cells:
                if cell.config.name == name:
                    return cell.config, f"regimes {file} --only {cell.regime.name} --datasets {cell.dataset}"
    return None
