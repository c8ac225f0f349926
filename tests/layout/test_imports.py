"""What answers at once imports no torch: the package, its help and lists, and every component."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "peft", "pyarrow", "sacrebleu", "sklearn", "datasets")

CHECKED = f"""
import sys
heavy = [name for name in {HEAVY!r} if name in sys.modules]
assert not heavy, f"imported: {{heavy}}"
"""


def run(code: str) -> str:
    """The output of `code` in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_check_sees_torch() -> None:
    with pytest.raises(AssertionError, match=r"imported: \['torch'\]"):
        run("import sys; sys.modules['torch'] = None" + CHECKED)


def test_the_package_imports_no_torch() -> None:
    run("import luthier; luthier.Recipe" + CHECKED)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [(["--help"], "recipe"), (["list"], "causal_lm"), (["list", "adaptations"], "lora"), (["schema"], "objective")],
    ids=" ".join,
)
def test_the_command_line_imports_no_torch(arguments: list[str], shown: str) -> None:
    code = f"""
import sys
from luthier.cli.main import main
sys.argv = ["luthier", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert shown in run(code + CHECKED)


def test_every_component_imports_without_torch() -> None:
    run(
        "from luthier.core.component import ROOMS, find, names\nfor r in ROOMS:\n  for n in names(r): find(r, n)\n"
        + CHECKED
    )
