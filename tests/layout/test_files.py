"""Files are small, named, documented and finished; nothing in them runs code from a model or shows a machine."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from layout.source import MODULES, ROOT, Module

import luthier

FILE_LINES, FUNCTION_LINES = 400, 60
REASON = re.compile(r"# long because \S+")
CONTRACTS = (
    "luthier.core.contracts",
    "luthier.core.evidence",
    "luthier.core.component",
    "luthier.core.on_policy",
    "luthier.core.rewards",
)
"""Where methods are declared for others to write: they may raise NotImplementedError, and their docstrings count."""


def every(rule: Callable[[Module], None]) -> Callable[[], None]:
    """One test of a rule, which names each module that breaks it: a test for each would cost more than its work."""

    def over_all() -> None:
        assert MODULES, "no module was found"
        broken = []
        for name, module in MODULES.items():
            try:
                rule(module)
            except AssertionError as error:
                broken.append(f"{name}: {error}")
        if broken:
            pytest.fail("\n".join(broken), pytrace=False)

    over_all.__name__, over_all.__doc__ = rule.__name__, rule.__doc__
    return over_all


@every
def test_files_are_short_or_say_why_not(module: Module) -> None:
    lines = module.text.splitlines()
    assert len(lines) <= FILE_LINES or REASON.search("\n".join(lines[:20])), f"{len(lines)} lines"


@every
def test_functions_are_short_or_say_why_not(module: Module) -> None:
    lines = module.text.splitlines()
    long = []
    for function in module.functions:
        assert function.end_lineno is not None
        length = function.end_lineno - function.lineno + 1
        beside = "\n".join(lines[max(0, function.lineno - 2) : function.body[0].lineno])
        if length > FUNCTION_LINES and not REASON.search(beside):
            long.append(f"{function.name}: {length} lines")
    assert long == []


@every
def test_public_names_are_those_in_all(module: Module) -> None:
    if module.is_package and len(module.tree.body) == 1:
        return  # a package that is a docstring exports nothing
    assert module.exported is not None, "no __all__"
    assert len(set(module.exported)) == len(module.exported)
    assert set(module.exported) <= module.defined
    own = [
        node.name
        for node in module.tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        # a command is called by the command line
        and not any(ast.unparse(decorator).startswith(("app.", "data.")) for decorator in node.decorator_list)
    ]
    assert [name for name in own if name not in module.exported] == []


@every
def test_private_names_stay_where_they_are(module: Module) -> None:
    taken = [
        f"line {found.line}: {name} of {found.module}"
        for found in module.imports
        if found.module.startswith("luthier")
        for name in found.names
        if name.startswith("_") and not name.endswith("__")
    ]
    assert taken == []


def test_the_package_offers_these_names_and_no_others() -> None:
    assert sorted(luthier.__all__) == [
        "Data", "Decoding", "Machine", "PerStep", "Phase", "Recipe", "Source", "Watch", "__version__", "fit",
        "prepare", "run",
    ]  # fmt: skip
    for name in luthier.__all__:
        assert getattr(luthier, name) is not None


# ---- finished and documented -----------------------------------------------------------------------------------------


def declared() -> frozenset[str]:
    """Methods with a docstring in a contract: whoever writes them need not repeat it."""
    return frozenset(
        method.name
        for name in CONTRACTS
        for cls in MODULES[name].tree.body
        if isinstance(cls, ast.ClassDef)
        for method in cls.body
        if isinstance(method, ast.FunctionDef) and ast.get_docstring(method)
    )


def undocumented(body: list[ast.stmt], known: frozenset[str], prefix: str = "") -> Iterator[str]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None and not (prefix and node.name in known):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, known, f"{prefix}{node.name}.")


@every
def test_public_things_have_docstrings(module: Module) -> None:
    assert ast.get_docstring(module.tree), "no module docstring"
    assert list(undocumented(module.tree.body, declared())) == []


@every
def test_nothing_is_left_unfinished(module: Module) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", module.text)
    stubs = [
        node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.unparse(node.exc)
    ]
    assert not stubs or module.name in CONTRACTS


@every
def test_no_function_only_pretends(module: Module) -> None:
    """A body of `pass` or `...` alone stands only in a Protocol or an overload, which have nothing to do."""
    protocols = {
        id(method)
        for cls in ast.walk(module.tree)
        if isinstance(cls, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in cls.bases)
        for method in cls.body
    }
    empty = [
        function.name
        for function in module.functions
        if id(function) not in protocols
        and not any(ast.unparse(decorator) == "overload" for decorator in function.decorator_list)
        and all(
            isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            for node in function.body
        )
        and not (module.name in CONTRACTS and ast.get_docstring(function))
    ]
    assert empty == []


# ---- safe and clean --------------------------------------------------------------------------------------------------


def unsafe(module: Module) -> list[str]:
    """What could run code that came with a model or a file."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle"):
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                found.append(f"line {node.value.lineno}: {node.arg}={ast.unparse(node.value)}")
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "torch.save", "yaml.unsafe_load"):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec", "os.system"):
            found.append(f"line {node.lineno}: {ast.unparse(node.func)}")
    pickles = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    found += [f"line {i.line}: {i.module}" for i in module.imports if i.module.partition(".")[0] in pickles]
    return found


@every
def test_nothing_runs_code_from_outside(module: Module) -> None:
    assert unsafe(module) == []


@pytest.mark.parametrize(
    "text",
    ["f(trust_remote_code=True)", "f(trust_remote_code=flag)", "import pickle", "x = torch.load(path)", "eval(text)"],
)
def test_unsafe_code_is_seen(text: str) -> None:
    assert unsafe(Module("luthier.made_up", ROOT / "made_up.py", text))


def tracked() -> list[Path]:
    """Text files of the repository; of a plain copy without git, those beside the package."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        names = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        names = [path for folder in ("src", "tests", "tools", "docs") for path in (ROOT / folder).rglob("*.*")]
    return [path for path in names if path.is_file() and path.suffix not in (".safetensors", ".png", ".parquet")]


def test_no_path_of_a_machine_is_in_the_tree() -> None:
    homes = [r"/home/[a-z][\w.-]*/", r"/Users/[A-Za-z][\w.-]*/", r"[A-Z]:\\+Users\\+\w"]
    here = [re.escape(str(path)) for path in (ROOT, Path.home()) if len(path.parts) > 2]
    pattern = re.compile("|".join([*homes, *here]))
    found = []
    for path in tracked():
        if path == Path(__file__):
            continue
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []
