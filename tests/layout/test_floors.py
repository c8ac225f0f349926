"""Imports point down, form no circle, and leave siblings alone; torch.distributed stays behind one door."""

from __future__ import annotations

import ast

import pytest
from layout.source import MODULES, PACKAGE, Module, targets

from luthier.core.component import ROOMS

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"core"}),
    frozenset({"functional"}),
    frozenset({"models"}),
    frozenset({"data"}),  # steps read rows with models: embeddings, classifiers, taggers
    frozenset({"objectives", "penalties", "adaptations", "optimizers", "schedules", "checks", "rewards", "explainers"}),
    frozenset({"engine", "evaluate", "report"}),
    frozenset({"pipeline", "plan"}),
    frozenset({"search", "federated"}),
    frozenset({"cli", "server"}),
    frozenset({"", "__main__"}),  # the doors: import luthier, python -m luthier
)
"""From the ground up. Packages on one floor do not import each other, but for ALLOWED."""

ALLOWED: dict[tuple[str, str], str] = {}
"""(importer, imported) on one floor -> why."""

ROOM_PACKAGES = frozenset(ROOMS.values())


def floor_of(package: str) -> int:
    return next(number for number, packages in enumerate(FLOORS) if package in packages)


def package_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def room_of(name: str) -> str | None:
    """The catalog room whose component `name` is, or None."""
    package = name.rpartition(".")[0]
    return package if package in ROOM_PACKAGES else None


def climbs(module: Module) -> list[str]:
    """The imports of `module` that do not point down."""
    own = package_of(module.name)
    found = []
    for name, where in targets(module):
        other = package_of(name)
        if name == "luthier" and where.names == ("__version__",):
            continue  # a constant, set before anything else is imported
        if other == own or (own, other) in ALLOWED or floor_of(other) < floor_of(own):
            continue
        found.append(f"{module.place}:{where.line} imports {name}")
    return found


def test_every_package_has_a_floor() -> None:
    packages = {package_of(name) for name in MODULES}
    assert packages <= frozenset().union(*FLOORS)
    assert {package.split(".")[1] for package in ROOM_PACKAGES} <= packages


def test_imports_point_down() -> None:
    assert [climb for module in MODULES.values() for climb in climbs(module)] == []


def test_an_import_inside_a_function_is_seen() -> None:
    text = "def f():\n    from ..engine.fit import fit\n    from . import fold\n    import luthier.cli.main\n"
    made_up = Module("luthier.models.made_up", PACKAGE / "models" / "made_up.py", text)
    assert [name for name, _ in targets(made_up)] == ["luthier.engine.fit", "luthier.models.fold", "luthier.cli.main"]
    assert [climb.split()[-1] for climb in climbs(made_up)] == ["luthier.engine.fit", "luthier.cli.main"]


def test_components_do_not_import_each_other() -> None:
    wrong = [
        f"{module.place}:{where.line} imports {name}"
        for module in MODULES.values()
        for name, where in targets(module)
        if room_of(module.name) and room_of(name) and name != module.name
    ]
    assert wrong == []


def test_nobody_imports_a_component_by_its_module() -> None:
    """The catalog is asked by name: otherwise an addition would have to be written down elsewhere."""
    wrong = [
        f"{module.place}:{where.line} imports {name}"
        for module in MODULES.values()
        for name, where in targets(module)
        if room_of(name) and not where.typing_only and module.name != "luthier"
    ]
    assert wrong == []


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Sets of modules that reach each other, each sorted."""
    reach: dict[str, set[str]] = {}
    for start in edges:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for following in edges[todo.pop()] - seen:
                seen.add(following)
                todo.append(following)
        reach[start] = seen
    groups = {tuple(sorted(b for b in reach[a] if a in reach[b])) for a in edges if a in reach[a]}
    return [list(group) for group in sorted(groups)]


def test_imports_form_no_circle() -> None:
    """Imports for annotations are left out: nothing runs by them."""
    edges = {
        name: {target for target, where in targets(module) if not where.typing_only and target in MODULES} - {name}
        for name, module in MODULES.items()
    }
    assert circles(edges) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]


def reaches_for(module: Module, dotted: str) -> list[int]:
    """Lines where `module` imports `dotted` or reads it as an attribute."""
    lines = [found.line for found in module.imports if f"{found.module}.".startswith(f"{dotted}.")]
    parent, _, last = dotted.rpartition(".")
    lines += [found.line for found in module.imports if found.module == parent and last in found.names]
    lines += [
        node.lineno for node in ast.walk(module.tree) if isinstance(node, ast.Attribute) and ast.unparse(node) == dotted
    ]
    return sorted(set(lines))


@pytest.mark.parametrize(
    "text", ["import torch.distributed as d", "from torch import distributed", "x = torch.distributed.get_rank()"]
)
def test_every_way_to_torch_distributed_is_seen(text: str) -> None:
    assert reaches_for(Module("luthier.made_up", PACKAGE / "made_up.py", text), "torch.distributed") == [1]


def test_only_parallel_imports_torch_distributed() -> None:
    found = {name for name, module in MODULES.items() if reaches_for(module, "torch.distributed")}
    assert found <= {"luthier.engine.parallel"}
