"""A config from YAML files: strict, an unknown key is an error that names the nearest known one.

A file states only what differs from the one it `extends`; mappings are merged, anything else is replaced. Seeds, the
device and the place of the data are given on the command line, so no file is copied to change them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from benchmarks.configs.run import RunConfig, Section, SleepSection
from benchmarks.configs.words import Schema, choices_of, in_words, schema_of, section_in
from benchmarks.configs.yaml_files import CONFIG, near_file, read_mapping
from src_plugin.config import flat_names
from src_plugin.errors import ConfigError, did_you_mean

SHOWN = 80
"""Characters of a wrong value that a message shows."""


def load_config(path: Path, *, changes: Sequence[str] = ()) -> RunConfig:
    """Read a config and everything it extends; `name` is the file's own name unless it says otherwise.

    Args:
        path: The file.
        changes: "key.key=value" each, with the value as in YAML, e.g. "sleep.set.prior=equal". The name then says them.

    Raises:
        ConfigError: A change is none; a file is missing or not YAML, a key is unknown (the nearest known one is named),
            a value does not fit, or files extend each other in a circle.
    """
    chain = _read_chain(path, [])
    name = chain[-1][1].get("name", path.stem)
    for change in changes:
        chain.append((Path("--set"), read_change(change)))
        key, _, value = change.partition("=")
        name += "-" + re.sub(r"[^A-Za-z0-9._-]+", "_", f"{key.rpartition('.')[2]}-{value}").rstrip("_")
    merged: dict[str, Any] = {}
    for _, raw in chain:
        merged = merge(merged, raw)
    merged["name"] = name
    try:
        config = RunConfig.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(explain(error, chain)) from error
    try:
        config.sleep.build()
    except ConfigError as error:
        raise ConfigError(f"{path}: sleep: {error}") from error
    return config


def read_change(change: str) -> dict[str, Any]:
    """Return "key.key=value" as a mapping of mappings.

    Raises:
        ConfigError: It is not of this form, or names a key that there is not (the nearest known one is given).
    """
    key, equals, text = change.partition("=")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {change}: the value cannot be read as YAML: {error}") from error
    keys = key.split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {change}: write KEY=VALUE, e.g. --set training.lr=0.1 or --set sleep.set.prior=equal")
    raw: dict[str, Any] = {keys[-1]: value}
    for outer in reversed(keys[:-1]):
        raw = {outer: raw}
    if keys == ["name"]:
        raise ConfigError(f"--set {change}: a config that is changed is named after its changes")
    refuse_unknown(raw, RunConfig, Path("--set"), "")
    return raw


def _read_chain(path: Path, below: list[Path]) -> list[tuple[Path, dict[str, Any]]]:
    """Return the files from the root of `extends` to `path`, each without its `extends` key."""
    if path.resolve() in below:
        raise ConfigError(f"{path} extends itself: {' -> '.join(p.name for p in [*below, path])}")
    raw = read_mapping(path, CONFIG)
    if "regimes" in raw:
        raise ConfigError(f"{path} is a matrix of regimes: python -m benchmarks regimes {path}")
    parent = raw.pop("extends", None)
    refuse_unknown(raw, RunConfig, path, "")
    if parent is None:
        return [(path, raw)]
    above = path.parent / str(parent)
    if not above.exists():
        raise ConfigError(f"{path}: extends: there is no config {above}{near_file(above)}")
    return [*_read_chain(above, [*below, path.resolve()]), (path, raw)]


def refuse_unknown(raw: Mapping[Any, Any], section: type[BaseModel], path: Path, where: str) -> None:
    """Refuse keys that a section does not have, at any depth; the nearest known one is named."""
    known = section.model_fields
    for key, value in raw.items():
        if key not in known:
            if section is SleepSection and key in flat_names():
                hint = f"write sleep: {{set: {{{key}: {value}}}}}"
                raise ConfigError(f"{path}: {key!r} is a setting of the sleep; {hint}")
            names = known if where else [*known, "extends"]
            raise ConfigError(f"{path}: unknown key {where + str(key)!r}{did_you_mean(str(key), names)}")
        annotation = known[key].annotation
        for inner in (annotation, *get_args(annotation)):  # a section, or one that may be left out
            if isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(value, Mapping):
                refuse_unknown(value, inner, path, f"{where}{key}.")


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return one mapping over another: mappings are merged, anything else is replaced."""
    both = {
        key: merge(base[key], value)
        for key, value in over.items()
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
    }
    return {**base, **over, **both}


def explain(error: ValidationError, chain: list[tuple[Path, dict[str, Any]]]) -> str:
    """Say which key of which file is wrong, what it must be, and what was given.

    Args:
        error: Of `RunConfig` or another Section.
        chain: The files that were merged, in this order, and what each holds.
    """
    sections = {section.__name__: section for section in Section.__subclasses__()}
    first = error.errors()[0]
    keys, schema = _walk(sections.get(error.title, RunConfig), first["loc"])
    path, raw = next(((file, raw) for file, raw in reversed(chain) if _has(raw, keys)), chain[-1])
    where = f"{path}: {'.'.join(keys) or 'config'}"
    if first["type"] == "value_error":  # from a validator of ours, which has its own words
        return f"{where}: {first['msg'].removeprefix('Value error, ')}"
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key {first['loc'][-1]!r}"
    if schema is None:
        return f"{where}: {first['msg']} (got {first['input']!r})"
    if first["type"] == "missing":
        return f"{where}: is missing; it must be {in_words(schema)}"
    value: Any = raw
    for key in keys:
        value = value[key] if isinstance(value, Mapping) and key in value else first["input"]
    return f"{where}: must be {in_words(schema)} (got {_given(value)}{_hint(value, schema)})"


def _walk(section: type[BaseModel], loc: Sequence[int | str]) -> tuple[list[str], Schema | None]:
    """Return the keys that pydantic's place of an error begins with, and what the last of them takes."""
    keys: list[str] = []
    schema = schema_of(section)
    for part in loc:
        inner = section_in(schema)
        if inner is None or part not in inner["properties"]:
            break
        keys.append(str(part))
        schema = inner["properties"][part]
    return keys, schema if keys else None


def _given(value: object) -> str:
    """Return a value as YAML has it, cut off where it is long."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _hint(value: object, schema: Schema) -> str:
    """Say what was probably meant."""
    if not isinstance(value, str):
        return ""
    choices = choices_of(schema)
    if choices:
        near = did_you_mean(value, choices)
        return near if "mean" in near else ""
    try:
        float(value)
    except ValueError:
        return ""
    if "e" in value.lower():
        return "; YAML reads 1e-3 as text: write 0.001 or 1.0e-3"
    return f"; in quotes it is a text: write {value}"


def _has(raw: Any, keys: list[str]) -> bool:
    for key in keys:
        if not isinstance(raw, Mapping) or key not in raw:
            return False
        raw = raw[key]
    return True
