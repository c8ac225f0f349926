"""What every component keeps, whatever its room: documentation, an example, one recipe form, and plain refusals."""

from __future__ import annotations

import ast
import inspect
import json
import re

import pytest
import yaml
from conformance.world import catalog

from luthier.core.component import build, describe, find, summary
from luthier.core.errors import RecipeError

each = pytest.mark.parametrize(("room", "name"), catalog())


def documentation(room: str, name: str) -> str:
    """What its file says of it: the module's docstring and the class's."""
    cls = find(room, name)
    module = inspect.getmodule(cls)
    assert module is not None
    return f"{module.__doc__}\n{cls.__doc__}"


@each
def test_its_file_is_summarized_in_one_line(room, name):
    assert summary(room, name) == (documentation(room, name).partition("\n")[0]).rstrip(".")
    assert 20 <= len(summary(room, name)) <= 120


@each
def test_its_documentation_names_source_and_errors(room, name):
    text = documentation(room, name)
    assert re.search(r"\bSources?\b|\bafter\b|arXiv", text), "no source"
    assert "Errors:" in text
    assert find(room, name).__doc__ != find(room, name).__mro__[1].__doc__, "the class has no docstring of its own"


@each
def test_every_parameter_is_explained(room, name):
    """By its description, or by name in the documentation: there its unit stands."""
    text = documentation(room, name)
    unexplained = [
        key
        for key, field in find(room, name).model_fields.items()
        if not field.description and not re.search(rf"\b{key}\b", text)
    ]
    assert unexplained == []


@each
def test_its_example_validates_and_says_something(room, name):
    cls = find(room, name)
    assert "example" in vars(cls), "no example of its own"
    made = build(room, {name: dict(cls.example)})
    assert set(cls.example) <= set(cls.model_fields)
    assert bool(cls.example) == bool(cls.model_fields), "an example shows parameters where there are any"
    assert type(made) is cls


@each
def test_its_recipe_form_reads_back(room, name):
    made = build(room, {name: dict(find(room, name).example)})
    form = yaml.safe_load(yaml.safe_dump(describe(made)))
    assert build(room, form) == made
    assert build(room, json.loads(json.dumps(describe(made)))) == made
    with pytest.raises(Exception, match="frozen"):
        made.example_of_a_change = 1


@each
def test_its_schema_describes_its_parameters(room, name):
    cls = find(room, name)
    schema = json.loads(json.dumps(cls.model_json_schema(by_alias=True)))
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert set(schema.get("properties", {})) == {field.alias or key for key, field in cls.model_fields.items()}
    for value in schema.get("properties", {}).values():
        assert {"type", "anyOf", "enum", "const", "$ref", "allOf"} & set(value), value


@each
def test_an_unknown_parameter_is_refused_with_the_nearest(room, name):
    fields = [field.alias or key for key, field in find(room, name).model_fields.items()]
    wrong = f"{fields[0]}x" if fields else "strength"
    with pytest.raises(RecipeError) as caught:
        build(room, {name: {wrong: 1}})
    (problem,) = [problem for problem in caught.value.problems if f"'{wrong}'" in problem.found]
    assert problem.where == f"{name}.{wrong}"
    assert (f"'{fields[0]}'" if fields else "remove it") in str(problem.remedy)


@each
def test_its_file_says_what_it_exports(room, name):
    cls = find(room, name)
    module = inspect.getmodule(cls)
    assert module is not None
    assert module.__all__ == [cls.__name__]
    tree = ast.parse(inspect.getsource(module))
    heavy = {"torch", "transformers", "peft", "pyarrow", "sacrebleu"}
    tops = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    found = {alias.name.partition(".")[0] for node in tops if isinstance(node, ast.Import) for alias in node.names}
    found |= {(node.module or "").partition(".")[0] for node in tops if isinstance(node, ast.ImportFrom)}
    assert not found & heavy
