"""Every place where a run writes fails once: the command says so and ends, and given again ends in its twin's bytes."""

from __future__ import annotations

import errno
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml
from faults import Faults, Point, watched
from small_runs import chat_records, lm_recipe, write_jsonl

from luthier.cli.main import main
from luthier.core.files import sha256_of
from luthier.core.run import RunFolder

CODES = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO)
OUTPUTS = ("data/*", "phases/*/result/*", "phases/*/facts.json", "phases/*/checkpoints/*/*.safetensors", "model/*")


@pytest.fixture(scope="module")
def recipe(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("faults")
    value = lm_recipe(
        llama_folder,
        write_jsonl(place / "chat.jsonl", chat_records(30)),
        steps=4,
        per_step={"rows": 4},
        dropout=0.1,
        watch={"every": 1},
        checkpoints={"every": 1, "keep": 1},
        checks=["perplexity"],
        name="faults",
    )
    (place / "recipe.yaml").write_text(yaml.safe_dump(value))
    return place / "recipe.yaml"


def command(recipe: Path, out: Path, faults: Faults | None = None) -> int:
    """The exit code of luthier run."""
    arguments = ["run", str(recipe), "--out", str(out), "--plain"]
    try:
        if faults is None:
            main(arguments)
        else:
            with watched(faults):
                main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def outputs(out: Path) -> dict[str, str]:
    found = [file for pattern in OUTPUTS for file in out.glob(pattern) if file.is_file() and file.name != "README.md"]
    found += [*out.glob("scores/*"), out / "evidence.json"]
    return {str(file.relative_to(out)): sha256_of(file) for file in found}


def points_of(recipe: Path, out: Path) -> tuple[dict[Point, int], dict[str, str]]:
    faults = Faults(out)
    assert command(recipe, out, faults) == 0
    return dict(faults.seen), outputs(out)


@pytest.fixture(scope="module")
def twin(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[Point, int], dict[str, str]]:
    """A run that never failed: the points where it writes, with how often, and what it left."""
    return points_of(recipe, tmp_path_factory.mktemp("twin") / "run")


def finished(out: Path) -> set[str]:
    return set(RunFolder(out).manifest().get("stages", {})) if out.exists() else set()


def chain(
    recipe: Path,
    out: Path,
    points: list[tuple[Point, int]],
    wanted: dict[str, str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One run that fails at a point after the other, each time going on with what the fault before left."""
    capfd.readouterr()
    for count, (point, number) in enumerate(points):
        faults, before = Faults(out), finished(out)
        faults.at, faults.number, faults.code = point, number, CODES[count % len(CODES)]
        code = command(recipe, out, faults)
        if not faults.struck:
            # What went before had passed this point: that run is whole, and another one fails at its very first try.
            assert (code, outputs(out)) == (0, wanted), point
            shutil.rmtree(out)
            before, faults.seen = set(), Counter()
            code = command(recipe, out, faults)
        assert faults.struck, point
        said = capfd.readouterr().err
        assert code == 2, (point, said)
        assert "Traceback" not in said, (point, said)
        assert "remedy" in said, (point, said)
        assert before <= finished(out), f"{point}: what was finished is not any more"
    assert command(recipe, out) == 0
    assert outputs(out) == wanted
    left = [path.name for path in out.rglob("*") if path.name.endswith((".part", ".writing", ".before"))]
    assert left == []


@pytest.mark.slow
def test_a_fault_at_every_file_is_told_and_made_good(
    recipe: Path,
    twin: tuple[dict[Point, int], dict[str, str]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Every file by every function that writes it; what fails (opening, writing, syncing, renaming) goes round."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in twin[0]:
        groups.setdefault(point[1:], []).append(point)
    assert len(groups) > 40
    chosen = [(points[count % len(points)], 1) for count, points in enumerate(groups.values())]
    chain(recipe, tmp_path / "run", chosen, twin[1], capfd)
