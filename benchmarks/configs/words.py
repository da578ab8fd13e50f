"""What a key of a config takes, in words for people, read from pydantic's own JSON schema.

The same words stand in error messages (`files.explain`) and in the reference (`reference.py`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter

Schema = dict[str, Any]

PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "text of letters, digits and . _ - that begins with a letter or digit",
    r"^[0-9a-f]{64}$": "a SHA-256: 64 digits 0-9 and a-f",
}
"""Regular expression of a text -> the same in words."""

BOUNDS = {
    "exclusiveMinimum": "greater than {:g}",
    "minimum": "{:g} or more",
    "exclusiveMaximum": "less than {:g}",
    "maximum": "at most {:g}",
}


@cache
def schema_of(kind: Any) -> Schema:
    """Return the JSON schema of a section, a dataclass or an annotation, with what it refers to in its place."""
    schema = TypeAdapter(kind).json_schema()
    known = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            part = known[part["$ref"].rpartition("/")[2]] | {key: part[key] for key in part.keys() - {"$ref"}}
        return {key: inline(value) for key, value in part.items()}

    whole: Schema = inline(schema)
    return whole


def section_in(schema: Schema) -> Schema | None:
    """Return the section that a key takes, itself or as one of several forms; None if it takes none."""
    return next((form for form in schema.get("anyOf", [schema]) if "properties" in form), None)


def choices_of(schema: Schema) -> list[str]:
    """Return the words that a key takes; none if it is no list of them."""
    forms = schema.get("anyOf", [schema])
    return [word for form in forms for word in form.get("enum", [form["const"]] if "const" in form else [])]


def in_words(schema: Schema) -> str:
    """Return what a key takes, e.g. "a whole number of 1 or more" or "'half' or 'single'"."""
    return "; or ".join(dict.fromkeys(map(_one, schema.get("anyOf", [schema]))))


def _one(form: Schema, *, many: bool = False) -> str:
    """Return what one form of a key takes; as the entries of a list where there are `many`."""
    if choices_of(form):
        *others, last = map(repr, choices_of(form))
        return f"{', '.join(others)} or {last}" if others else last
    match form.get("type"):
        case "object" if "properties" in form:
            return f"{'mappings' if many else 'a mapping'} with the keys {', '.join(form['properties'])}"
        case "object":
            return "a mapping"
        case "array":
            least = "one or more " if form.get("minItems") and "items" in form else ""
            return f"{'lists' if many else 'a list'} of {least}{_entries(form)}"
        case "boolean":
            return "true or false"
        case "integer" | "number" as kind:
            name = "whole number" if kind == "integer" else "number"
            return " ".join([f"{name}s" if many else f"a {name}", *_limits(form)])
        case "string":
            name = "texts" if many else "text"
            return PATTERNS.get(form["pattern"], f"{name} that fits {form['pattern']}") if "pattern" in form else name
    return str(form.get("type", "anything"))


def _entries(form: Schema) -> str:
    """Return what a list holds."""
    if "prefixItems" in form:
        return f"{len(form['prefixItems'])} {_one(form['prefixItems'][0], many=True)}"
    return " or ".join(_one(part, many=True) for part in form["items"].get("anyOf", [form["items"]]))


def _limits(form: Schema) -> list[str]:
    """Return the bounds of a number, e.g. ["greater than 0 and at most 1"]; nothing without any."""
    said = " and ".join(words.format(form[key]) for key, words in BOUNDS.items() if key in form)
    said = f"of {said}" if said[:1].isdigit() else said
    multiple = [f"that is a multiple of {form['multipleOf']}"] if "multipleOf" in form else []
    return [*([said] if said else []), *multiple]
