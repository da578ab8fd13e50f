"""The reference of all keys of a config, made from the sections of `RunConfig` themselves: reference().

    python -m benchmarks config-reference --write docs/configuration.md

Texts are those of the docstrings, types and defaults those that are checked when a config is read.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks import markdown
from benchmarks.configs.run import RunConfig
from benchmarks.configs.words import Schema, in_words, schema_of, section_in
from benchmarks.data.sets import DATA_SETS, IMAGE_FOLDER
from src_plugin.config import ClosedForm, Constants, Gates, Measuring, Simulation, SleepConfig
from src_plugin.config.presets import PRESETS
from strategies import STRATEGIES, SUFFIXES, Settings

COMMAND = "python -m benchmarks config-reference --write docs/configuration.md"

HEAD = """\
# Keys of a config

A config is a YAML file that says what is run: `python -m benchmarks run my.yaml`. A key is written in its section
(`training: {lr: 0.1}`), or on the command line with its full name (`--set training.lr=0.1`). A file states only what
differs from the one it `extends`: mappings are merged, anything else is replaced, and `null` clears what was inherited.
An unknown key is refused with the nearest known one. Seeds, devices and folders of data are no part of a config; see
`python -m benchmarks run --help`.

Sections: INDEX

This page is made from the code by `COMMAND`.
"""

EXTENDS = (
    "`extends`",
    "text",
    "",
    "Another config, by its path from this file, that this one changes, e.g. `base.yaml` in `configs/`.",
)
"""A key of files, which are merged before they are checked: no field of `RunConfig`."""

NAMES: dict[str, Iterable[str]] = {
    "stream.dataset": [*DATA_SETS, IMAGE_FOLDER],
    "stream.then": DATA_SETS,
    "sleep.preset": PRESETS,
}
"""Key -> names that it takes, where these stand in a table of their own."""

DEFAULTS = {"name": "the file's name"}
"""Key -> what stands in for it in a file, where that is no default of `RunConfig`."""

COLUMNS = ("key", "takes", "default", "meaning")


def reference() -> str:
    """Return the reference in Markdown: a table for every section, then which settings each strategy reads."""
    sections = dict(_sections(schema_of(RunConfig), ""))
    parts = [_section(title, section) for title, section in sections.items()]
    parts.insert(list(sections).index("sleep") + 1, _sleep_fields())
    parts.append(_strategies())
    headings = [part.split("\n", 1)[0].removeprefix("## ") for part in parts]
    index = " · ".join(f"[{heading}](#{_anchor(heading)})" for heading in headings)
    return "\n".join([HEAD.replace("INDEX", index).replace("COMMAND", COMMAND), *parts]).rstrip("\n") + "\n"


def write_reference(path: Path) -> None:
    """Write the reference into a file."""
    path.write_text(reference(), encoding="utf-8", newline="\n")


def attributes_of(text: str) -> dict[str, str]:
    """Return what a docstring says of each attribute, on one line each."""
    found: dict[str, list[str]] = {}
    for line in _part(text, "Attributes").splitlines():
        begins = re.match(r"(\w+): (.*)", line)
        if begins:
            found[begins[1]] = [begins[2]]
        elif found and line.strip():
            found[list(found)[-1]].append(line.strip())
    return {name: " ".join(lines) for name, lines in found.items()}


def example_of(text: str) -> str:
    """Return the example in the docstring of a section, as YAML; "" without one."""
    return _part(text, "Example")


def _part(text: str, heading: str) -> str:
    """Return a part of a docstring in Google's form, without its indentation."""
    found = re.search(rf"^{heading}:\n((?:    .*\n?|\n)+)", text + "\n", flags=re.MULTILINE)
    return inspect.cleandoc(f"\n{found[1]}") if found else ""


def _sections(schema: Schema, prefix: str) -> Iterator[tuple[str, Schema]]:
    """Yield a section and those in it, each with the dotted name under which it stands; "" for the whole."""
    yield prefix, schema
    for name, part in schema["properties"].items():
        if (inner := section_in(part)) is not None:
            yield from _sections(inner, f"{prefix}.{name}".lstrip("."))


def _section(title: str, schema: Schema) -> str:
    """Return the heading, the table and the example of a section."""
    is_settings = title == "settings"
    texts = attributes_of(inspect.getdoc(Settings) or "" if is_settings else schema["description"])
    read_by = _read_by() if is_settings else {}
    example = example_of(schema["description"])
    if title and example:  # as it stands in a file
        example = f"{title}:\n{textwrap.indent(example, '  ')}"
    rows: list[tuple[str, ...]] = [] if title else [EXTENDS]
    rows += _rows(schema, title, texts, read_by)
    words = schema["description"].split("\n\n")[0]
    return _part_of_page(title or "Top of the file", words, COLUMNS, rows, example=example)


def _rows(
    schema: Schema, title: str, texts: Mapping[str, str], read_by: Mapping[str, str]
) -> Iterator[tuple[str, ...]]:
    """Yield a row for each key of a section."""
    for name, part in schema["properties"].items():
        key = f"{title}.{name}".lstrip(".")
        inner = section_in(part)
        takes = in_words(part) if inner is None else f"a section: [{name}](#{name})"
        default = _default(part["default"]) if "default" in part else DEFAULTS.get(key, "**required**")
        if inner and part.get("default"):  # its keys have their own
            default = ""
        text = _plain(texts[name])
        text += f" Names: {_codes(NAMES[key])}." if key in NAMES else ""
        text += f" Read by {read_by[name]}." if name in read_by else ""
        yield f"`{key}`", _plain(takes), default, text


ENGINE: Schema = {
    "engine": {"enum": ["closed_form", "simulated"], "default": "closed_form"},
    "replay": {"type": "boolean", "default": True},
}
"""Keys of `sleep.set` that stand for the one field `SleepConfig.sleep`."""

ENGINE_WORDS = {
    "engine": "How the sleep itself is computed: `ClosedForm` or `Simulation`.",
    "replay": "The sleep itself. Off leaves settling and levelling alone: the rival that sleep is compared with.",
}


def _sleep_fields() -> str:
    """Return what `sleep.set` may hold, which is no section but the settings of the library, flat."""
    words = (
        "What `sleep.set` may hold: the settings of `SleepConfig`, flat. Defaults are those of `auto`; another "
        "`sleep.preset` has its own. Three numbers are of the first layer, every layer between, and the output layer. "
        "In closed form `fractions` are read; with a `depth`, that and `depression` instead."
    )
    rows = list(_rows({"properties": ENGINE}, "sleep.set", ENGINE_WORDS, {}))
    for kind, prefix, suffix in (
        (SleepConfig, "", ""),
        (ClosedForm, "", ""),
        (Simulation, "", ""),
        (Gates, "", "_gate"),
        (Constants, "constants.", ""),
        (Measuring, "measuring.", ""),
    ):
        texts = {f"{prefix}{k}{suffix}": v for k, v in attributes_of(inspect.getdoc(kind) or "").items()}
        properties = {f"{prefix}{k}{suffix}": v for k, v in schema_of(kind)["properties"].items()}
        flat = {"properties": {k: v for k, v in properties.items() if section_in(v) is None}}
        rows += _rows(flat, "sleep.set", texts, {})
    return _part_of_page("sleep.set", words, COLUMNS, rows)


def _strategies() -> str:
    """Return which settings each strategy reads."""
    rows = []
    for name, row in STRATEGIES.items():
        reads = _codes(f"settings.{key}" for key in row.settings)
        rows.append((f"`{name}`", reads or "none", _plain(row.keeps), "yes" if row.sleeps else "no"))
    words = (
        "Names for `strategies`, and the settings that each reads; the others move no number of its runs. Of the two "
        "that give the size of a memory, `settings.memory_size` counts where it is given. Where the last column says "
        f"yes, {_codes(SUFFIXES)} may follow the name, and `sleep` is read. What the methods are: "
        "[strategies](strategies.md)."
    )
    return _part_of_page("Strategies", words, ("strategy", "reads", "keeps between experiences", "may sleep"), rows)


def _part_of_page(
    heading: str, words: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, example: str = ""
) -> str:
    lines = [f"## {heading}", "", " ".join(words.split()), "", markdown.table(columns, rows)]
    lines += ["", *(["```yaml", example, "```", ""] if example else [])]
    return "\n".join(lines)


def _read_by() -> dict[str, str]:
    """Return the strategies that read a setting, for each."""
    names = [field.name for field in dataclasses.fields(Settings)]
    found = {key: [name for name, row in STRATEGIES.items() if key in row.settings] for key in names}
    return {key: _codes(readers) for key, readers in found.items() if readers}


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _default(value: Any) -> str:
    """Return a default as YAML has it."""
    return f"`{yaml.safe_dump(value, default_flow_style=True).removesuffix(chr(10)).removesuffix('...').strip()}`"


def _plain(text: str) -> str:
    """Return a text as a cell of a table: None as YAML's null, signs of Markdown and HTML as they are."""
    parts = re.split(r"(`[^`]*`)", text)
    for i in range(0, len(parts), 2):  # outside code
        words = re.sub(r"\bNone\b", "null", parts[i])
        parts[i] = words.replace("<", "&lt;").replace("*", "\\*")
    return "".join(parts).replace("|", "\\|")


def _anchor(heading: str) -> str:
    """Return the place of a heading as GitHub names it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
