"""YAML as recipes use it: plain values with 1.2's numbers and truth values, every key once, nothing without end.

YAML 1.1, which PyYAML reads, takes 2e-4 for text, 010 for 8, 1:30 for 90, and the keys `on` and `no` for True and
False. Dates, sets and other tagged values have no place in a recipe; nor have aliases that unfold into millions.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from .errors import RecipeError

__all__ = ["as_text", "lines_of", "parse"]

_MOST = 100_000
"""Values in one text, aliases unfolded."""

_TAG = "tag:yaml.org,2002:"
_FIRST = "-+0123456789."


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the tags of plain values only."""


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value.replace("_", "")
    try:
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    except ValueError as error:  # a tag on other text, or more than the 4,300 digits that Python reads
        raise yaml.constructor.ConstructorError(None, None, "this is no whole number", node.start_mark) from error


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = re.sub(r"\.(inf|nan)$", r"\1", node.value.lower().replace("_", ""))
    try:
        return float(text)
    except ValueError as error:
        raise yaml.constructor.ConstructorError(None, None, "this is no number", node.start_mark) from error


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, "a key is text, and this is a list or a mapping", key_node.start_mark
            )
        key = key_node.value
        if key in seen:
            raise RecipeError(
                f"the key '{key}' stands twice, at lines {seen[key]} and {line}", remedy="keep one of the two"
            )
        seen[key] = line
        found[key] = loader.construct_object(value_node, deep=True)
    return found


def _foreign(loader: _Loader, node: yaml.Node) -> Any:
    tag = node.tag.replace(_TAG, "!!")
    said = f"the tag {tag} is not read: a recipe holds plain text, numbers, lists and mappings"
    raise yaml.constructor.ConstructorError(None, None, said, node.start_mark)


_Loader.yaml_implicit_resolvers = {}
_Loader.yaml_constructors = {
    _TAG + kind: yaml.SafeLoader.yaml_constructors[_TAG + kind] for kind in ("null", "bool", "str", "seq")
}
_Loader.add_implicit_resolver(_TAG + "null", re.compile("^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_TAG + "bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(_TAG + "int", re.compile("^(?:[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+)$"), list(_FIRST))
_Loader.add_implicit_resolver(
    _TAG + "float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*(?:[eE][-+]?[0-9]+)|[0-9][0-9_]*\.[0-9_]*"
        r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF|nan|NaN|NAN))$"
    ),
    list(_FIRST),
)
_Loader.add_constructor(_TAG + "int", _whole)
_Loader.add_constructor(_TAG + "float", _number)
_Loader.add_constructor(_TAG + "map", _mapping)
_Loader.add_constructor(None, _foreign)


def parse(text: str) -> tuple[Any, yaml.Node | None]:
    """The plain value of a text, and the node that knows its lines.

    Errors: yaml.YAMLError where the text is no YAML; RecipeError for a key that stands twice, for values nested too
    deeply, and for aliases that unfold into too many.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        if _values(node, {}) > _MOST:
            raise RecipeError(
                f"this unfolds into more than {_MOST:,} values: aliases (*) of aliases, or one that holds itself",
                expected="a recipe of a size that can be read",
                remedy="write the values out, without anchors (&) and aliases (*)",
            )
        return loader.construct_document(node), node
    except RecursionError as error:
        raise RecipeError(
            "lists or mappings are nested too deeply to be read",
            expected="a few levels, as in the recipes that ship",
            remedy="see whether brackets were repeated by mistake",
        ) from error


def lines_of(node: yaml.Node, prefix: str = "") -> dict[str, int]:
    """The line, from 1, of every dotted place."""
    found: dict[str, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            place = f"{prefix}{key.value}"
            found[place] = key.start_mark.line + 1
            found |= lines_of(child, place + ".")
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            found[f"{prefix}{index}"] = child.start_mark.line + 1
            found |= lines_of(child, f"{prefix}{index}.")
    return found


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either version of YAML would read as something else than text."""


_THEIRS, _OURS = yaml.SafeDumper.yaml_implicit_resolvers, _Loader.yaml_implicit_resolvers
_Dumper.yaml_implicit_resolvers = {
    first: [*_THEIRS.get(first, ()), *_OURS.get(first, ())] for first in {*_THEIRS, *_OURS}
}


def as_text(value: Any) -> str:
    """Plain values as YAML that `parse` reads back to equal ones."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node unfolds into; one that holds itself counts as too many."""
    if id(node) not in known:
        known[id(node)] = _MOST + 1
        pairs = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else None
        children = node.value if isinstance(node, yaml.SequenceNode) else pairs or ()
        known[id(node)] = 1 + sum(_values(child, known) for child in children)
    return known[id(node)]
