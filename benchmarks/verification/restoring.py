"""config_of(): from a record back to the config that it was run by, the inverse of `benchmarks.configs.run.resolve`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from benchmarks.configs.run import DEPTH_BEFORE, LATER_SLEEP_FIELDS, RunConfig, SleepSection
from benchmarks.records.record import Record
from benchmarks.verification.findings import short
from src_plugin.config import simulation_only
from src_plugin.errors import ConfigError


def config_of(record: Record) -> RunConfig:
    """Return a config that resolves to the one of a record: the inverse of `benchmarks.configs.run.resolve`.

    What a config of a record leaves out (texts, settings of other methods, numbers that its sleep does not read) has
    its default. The numbers of the sleep come from the preset, but for those that the record says were changed.

    Raises:
        ConfigError: This checkout has no such strategy, preset or key, or a value does not fit.
    """
    given = record.config
    raw: dict[str, Any] = {
        key: given[key] for key in ("stream", "backbone", "model", "training", "settings") if key in given
    }
    try:
        if given.get("sleep") is not None:
            raw["sleep"] = _sleep_section(given["sleep"])
        return RunConfig.model_validate({**raw, "name": record.config_name, "strategies": [record.strategy]})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {short(first['input'])}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"sleep: not as `run` writes it ({type(error).__name__}: {error})") from error


def _sleep_section(sleep: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: _number(value) for name, value in sleep["numbers"].items()}
    base = SleepSection(preset=sleep["preset"]).build()
    changed = {name: numbers.get(name, base.to_dict().get(name)) for name in sleep["changed"]}  # not there: not read
    idle = simulation_only() if numbers.get("engine") == "closed_form" else ()
    changed |= {name: then for name, then in LATER_SLEEP_FIELDS.items() if name not in {*numbers, *idle}}
    if numbers.get("engine") == "closed_form" and "fractions" not in numbers and numbers["depth"] is None:
        changed["depth"] = DEPTH_BEFORE
    return {"preset": sleep["preset"], "reference": sleep["reference"], "every": sleep["every"], "set": changed}


def _number(value: Any) -> Any:
    """Return an infinity, which JSON holds as text, as a number again; other words stay."""
    if isinstance(value, list):
        return [_number(item) for item in value]
    return float(value) if isinstance(value, str) and value.lstrip("-") in ("inf", "nan") else value
