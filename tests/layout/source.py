"""The source tree as the layout tests see it: every module parsed once, with what it imports and where."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "luthier"


@dataclass(frozen=True)
class Import:
    """One import: the absolute module, the names taken from it, and whether only type checkers see it."""

    module: str
    names: tuple[str, ...]
    line: int
    typing_only: bool


@dataclass(frozen=True)
class Module:
    """A module of the package. `name` is dotted; `text` is its source."""

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def place(self) -> str:
        return str(self.path.relative_to(ROOT)) if self.path.is_relative_to(ROOT) else str(self.path)

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """Every import, wherever it stands: at the top, in a function, or under TYPE_CHECKING."""
        return tuple(self._imports(self.tree, False))

    def _imports(self, node: ast.AST, typing_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, (), child.lineno, typing_only)
            elif isinstance(child, ast.ImportFrom):
                names = tuple(alias.name for alias in child.names)
                yield Import(self._absolute(child), names, child.lineno, typing_only)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                for inner in child.body:
                    yield from self._imports(ast.Module([inner], []), True)
                for inner in child.orelse:
                    yield from self._imports(ast.Module([inner], []), typing_only)
            else:
                yield from self._imports(child, typing_only)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return node.module or ""
        above = self.name.split(".")
        above = above[: len(above) - node.level + (1 if self.is_package else 0)]
        return ".".join([*above, *([node.module] if node.module else [])])

    @cached_property
    def functions(self) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...]:
        return tuple(node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    @cached_property
    def exported(self) -> tuple[str, ...] | None:
        """What `__all__` lists, or None where there is none."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return tuple(ast.literal_eval(node.value))
        return None

    @cached_property
    def defined(self) -> frozenset[str]:
        """Names bound at the top of the module, under TYPE_CHECKING too."""
        return frozenset(_bound(self.tree.body))


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                yield from (name.id for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(node, ast.If):
            yield from _bound(node.body)
            yield from _bound(node.orelse)


def module_of(path: Path, package: Path = PACKAGE) -> Module:
    """The module in the file `path` below `package`."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return Module(".".join(parts).removesuffix(".__init__"), path, path.read_text(encoding="utf-8"))


MODULES = {module.name: module for module in map(module_of, sorted(PACKAGE.rglob("*.py")))}
"""Every module of the package by its dotted name."""


def targets(module: Module) -> Iterator[tuple[str, Import]]:
    """The package's own modules that `module` imports; `from ..core import contracts` means core.contracts."""
    for found in module.imports:
        if not (found.module == "luthier" or found.module.startswith("luthier.")):
            continue
        if not found.names:
            yield found.module, found
        for name in found.names:
            inner = f"{found.module}.{name}"
            yield (inner if inner in MODULES else found.module), found
