"""Writes docs/recipe-reference.md and docs/components.md from the recipe's schema and the components' docstrings.

    python tools/write_reference.py            writes both pages
    python tools/write_reference.py --check    writes nothing; exits 1 where a page is stale

Nothing here is typed in twice: keys, types, bounds, defaults and descriptions come from the pydantic models, the text
from the docstrings. A test holds the pages in the repository against what this would write.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from luthier.core import recipe as recipes
from luthier.core.component import ROOMS, Component, find, names, summary
from luthier.core.contracts import Adaptation, Objective, Step
from luthier.core.embedded import embedded_recipes
from luthier.core.evidence import Check
from luthier.core.recipe import Recipe

__all__ = ["pages", "stale"]

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = "<!-- Written by tools/write_reference.py. Change the docstrings and fields in src, then run `make docs`. -->"

RECIPE_HEAD = """\
# Recipe reference

Every key of a recipe, with its type, bounds and default. `luthier schema` prints the same as a JSON schema, which most
editors can use to complete and check YAML files.

- A key that nothing reads is an error that names the nearest key. So is a parameter that a component does not have.
- A [component](components.md) is written as its name, or as its name with parameters: `cosine`, or
  `{cosine: {warmup: 0.1}}`.
- `2e-4` is a number (plain YAML 1.1 would read text), and a key may stand only once.
- On the command line, `key.path=value` sets a key; values are read as YAML. A part of the path may be a position in a
  list, the name of a phase, or the name of a component in a list: `checks.text_match.limit=500`. With a single phase
  its keys may be given without `phases.0`: `epochs=2`.
- The same object in Python: `luthier.Recipe(...)`, with parts such as `luthier.Phase(...)` or as plain values.
"""

COMPONENTS_HEAD = """\
# Components

Everything that a recipe can name, by room. A component's name is the name of its file; see
[how to add one](add-a-component.md). `luthier list` prints the names and first lines.
"""


def pages() -> dict[str, str]:
    """The generated pages: path from the root -> text."""
    return {"docs/recipe-reference.md": _recipe_page(), "docs/components.md": _components_page()}


def stale() -> list[str]:
    """The pages that differ from what would be written now."""
    return [path for path, text in pages().items() if not _same(ROOT / path, text)]


def _same(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == text


# ---- the recipe ------------------------------------------------------------------------------------------------------


def _recipe_page() -> str:
    definitions = Recipe.model_json_schema(by_alias=True).get("$defs", {})
    lines = [WRITTEN, "", RECIPE_HEAD]
    for model in _parts(Recipe):
        lines += [f"## {model.__name__}", "", _prose(inspect.getdoc(model) or ""), ""]
        lines += [*_table(model, definitions), ""]
    lines += ["## Recipes that ship", "", "Their files lie in `src/luthier/recipes`. `luthier run NAME` runs one.", ""]
    return "\n".join([*lines, *_shipped()]).rstrip() + "\n"


def _parts(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The recipe and every part of it, in the order in which a reader meets them."""
    found: list[type[BaseModel]] = []
    waiting = [model]
    while waiting:
        current = waiting.pop(0)
        if current in found:
            continue
        found.append(current)
        text = json.dumps(current.model_json_schema(by_alias=True, ref_template="#{model}").get("properties", {}))
        later = [value for value in vars(recipes).values() if isinstance(value, type) and issubclass(value, BaseModel)]
        named = [part for part in later if f'"#{part.__name__}"' in text]
        waiting = sorted(named, key=lambda part: text.index(f'"#{part.__name__}"')) + waiting
    return found


def _shipped() -> Iterator[str]:
    for name in embedded_recipes():
        file = ROOT / "src/luthier/recipes" / f"{name}.yaml"
        about = yaml.safe_load(file.read_text(encoding="utf-8")).get("about") or ""
        yield f"- [`{name}`](../src/luthier/recipes/{name}.yaml): {about}"


# ---- components ------------------------------------------------------------------------------------------------------


def _components_page() -> str:
    lines = [WRITTEN, "", COMPONENTS_HEAD]
    for room, package in ROOMS.items():
        about = inspect.getdoc(sys.modules.get(package) or __import__(package, fromlist=["_"])) or ""
        lines += [f"## {room}", "", _prose(about), ""]
        for name in names(room):
            lines += [*_component(room, name), ""]
    return "\n".join(lines).rstrip() + "\n"


def _component(room: str, name: str) -> Iterator[str]:
    component = find(room, name)
    yield from (f"### {name}", "", summary(room, name) + ".", "")
    body = (inspect.getdoc(sys.modules[component.__module__]) or "").partition("\n")[2].strip("\n")
    if body:
        yield from (_prose(body), "")
    yield from (_prose(inspect.getdoc(component) or ""), "")
    facts = [*_facts(component)]
    if facts:
        yield from (*facts, "")
    example = {name: dict(component.example)} if component.example else name
    if room == "rewards":  # they stand inside an objective
        example, room = {"grpo": {"rewards": [example]}}, "objectives"
    yield from ("```yaml", _key_of(room) + _flow(example, room), "```")
    if component.model_fields:
        yield from ("", *_table(component, {}))


def _key_of(room: str) -> str:
    """The recipe's key that a room's components stand under."""
    return f"{room}: " if room in ("steps", "penalties", "checks") else f"{room[:-1]}: "


def _flow(value: Any, room: str) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("...\n").strip()
    return f"[{text}]" if _key_of(room).startswith(f"{room}:") else text


def _facts(component: type[Component]) -> Iterator[str]:
    """What the class says beside its docstring: where it applies, what it measures, its usual rate."""
    tasks = {
        "causal_lm": "language models",
        "masked_lm": "masked language models",
        "features": "encoders of texts",
        "question_answering": "question-answering models",
        "seq2seq": "encoder-decoders",
        "sequence_classification": "classification models",
        "sequence_score": "reward models",
        "token_classification": "token-classification models",
    }
    if issubclass(component, Adaptation):
        yield f"- Usual learning rate with AdamW: {_value(component.usual_lr)}"
    if issubclass(component, Step):
        yield f"- Looks at one {'row' if component.scope == 'row' else 'split'} at a time"
    if issubclass(component, Objective):
        yield f"- For {tasks[component.task]}; rows need {' or '.join(sorted(component.needs))}"
    if issubclass(component, Check):
        yield f"- For {' and '.join(tasks[task] for task in sorted(component.tasks))}"
        yield f"- Measured on: {', '.join(component.subjects)}" + (" (in float32)" if component.float32 else "")
        metrics: dict[str, str] = {}
        for several in (False, True):
            # Without classes no metric of a single class is named; those are the same for each.
            measures = component().measures({"classes": [], "multi_label": several})
            metrics |= {measure.name: measure.better for measure in measures}
        listed = ", ".join(f"`{metric}` ({better} is better)" for metric, better in metrics.items())
        yield f"- Metrics: {listed}"


# ---- tables ----------------------------------------------------------------------------------------------------------


def _table(model: type[BaseModel], definitions: Mapping[str, Any]) -> list[str]:
    properties = model.model_json_schema(by_alias=True)["properties"]
    lines = ["| key | value | default | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        key = field.alias or name
        cells = (f"`{key}`", _type(properties[key], definitions), _default(field), field.description or "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def _type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A property's JSON schema in words."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        room = _room_of(schema["anyOf"][0])
        if room:
            return f"[{room.removesuffix('s') if room != 'penalties' else 'penalty'}](components.md#{room})"
        kinds = [_type(form, definitions) for form in schema["anyOf"] if form.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds)) + (" or null" if len(kinds) < len(schema["anyOf"]) else "")
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return _array(schema, definitions)
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"mapping to {_type(inner, definitions)}" if isinstance(inner, Mapping) else "mapping"
    kind = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return kind[schema["type"]] + _bounds(schema)


def _array(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return "list of " + ", ".join(_type(item, definitions) for item in schema["prefixItems"])
    inner = _type(schema["items"], definitions)
    inner += "s" if inner in ("number", "whole number") else ""
    return f"list of {inner}" + (", at least one" if schema.get("minItems") else "")


def _room_of(form: Mapping[str, Any]) -> str | None:
    return next((room for room in ROOMS if form.get("enum") == list(names(room))), None)


def _bounds(schema: Mapping[str, Any]) -> str:
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    found = [f"{sign} {_value(schema[key])}" for key, sign in signs.items() if key in schema]
    if "pattern" in schema:
        found.append(f"that fits `{schema['pattern']}`")
    return f" {', '.join(found)}" if found else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None:
        return ""
    if isinstance(value, tuple) and value and all(isinstance(item, BaseModel) for item in value):
        return "one with its defaults"
    if isinstance(value, BaseModel):
        changed = value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return f"`{yaml.safe_dump(changed, default_flow_style=True).strip()}`" if changed else "its defaults"
    return f"`{_value(value)}`"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return str(value)


def _prose(text: str) -> str:
    """A docstring as Markdown: indented lines stay code, and what looks like a tag is escaped."""
    return "\n".join(
        line if line.startswith("    ") else line.replace("<", "&lt;").replace("*", "\\*") for line in text.split("\n")
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Writes the generated pages of docs/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is stale")
    given = parser.parse_args(arguments)
    found = stale()
    for path in found:
        print(f"{path} is stale" if given.check else f"wrote {path}")
        if not given.check:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(pages()[path], encoding="utf-8")
    return 1 if given.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
