"""Models that are damaged, foreign or of another kind, and machines that refuse: told, with nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import small_runs
from bad_models import EARLY, LATE, NAMES, Bad
from tiny import make_llama

from luthier.cli.main import main
from luthier.core.errors import MachineError
from luthier.core.recipe import Machine
from luthier.models.source import check_source

RECIPE = "name: tales\nmodel: {model}\ndata: {{train: {train}}}\nphases: [{{objective: {objective}, steps: 1}}]\n"


@pytest.fixture(scope="module")
def adapter_folder(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> Path:
    """An adapter of rank 2 over the tiny Llama, as PEFT writes it."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapter")
    adapted = get_peft_model(make_llama(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    adapted.save_pretrained(folder)
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = str(llama_folder)
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture
def place(
    tmp_path: Path, llama_folder: Path, bert_folder: Path, adapter_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """A working folder with data; called with a kind of model, the folder `m`, a copy of that model, in it."""
    small_runs.write_jsonl(tmp_path / "chat.jsonl", small_runs.chat_records(12))
    small_runs.write_jsonl(tmp_path / "labels.jsonl", small_runs.label_records(12))
    (tmp_path / "llama").symlink_to(llama_folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    kinds = {"llama": llama_folder, "bert": bert_folder, "adapter": adapter_folder}
    return lambda kind: Path(shutil.copytree(kinds[kind], "m"))


def answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says on its way out with exit code 2; every problem has an expectation or a remedy."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    shown = capsys.readouterr()
    assert end.value.code == 2, shown.err
    assert "Traceback" not in shown.err + shown.out
    problems = shown.err.split("error: ")[1:]
    assert problems, shown.err
    assert all("expected:" in problem or "remedy:" in problem for problem in problems), shown.err
    return shown.err


def write_recipe(model: str = "m", train: str = "chat.jsonl") -> None:
    objective = "classify" if train == "labels.jsonl" else "causal_lm"
    Path("tales.yaml").write_text(RECIPE.format(model=model, train=train, objective=objective), encoding="utf-8")


def told(case: Bad, capsys: pytest.CaptureFixture[str]) -> None:
    write_recipe(train=case.train)
    said = answer(["run", "tales.yaml"], capsys)
    for words in case.says:
        assert words in said


def left_whole(most: set[str]) -> None:
    """Stages of at most these names are finished, with all that they wrote; there is no model, and no half file."""
    run = Path("runs/tales")
    stages = json.loads((run / "manifest.json").read_text(encoding="utf-8")).get("stages", {})
    assert set(stages) <= most
    assert all((run / output).is_file() for done in stages.values() for output in done["outputs"])
    assert not (run / "model").exists()
    assert not [*run.rglob("*.part"), *run.rglob("*.writing")]


def test_the_listing_is_long_and_names_each_kind_once() -> None:
    names = [case.name for case in (*EARLY, *LATE)]
    assert len(names) == len(set(names)) > 60


@pytest.mark.parametrize("case", EARLY, ids=lambda case: case.name)
def test_a_broken_model_is_told_before_anything_is_written(
    case: Bad, place: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    case.change(place(case.kind))
    told(case, capsys)
    assert not Path("runs").exists()


@pytest.mark.parametrize("case", LATE, ids=lambda case: case.name)
def test_what_only_the_model_tells_leaves_what_was_done_whole(
    case: Bad, place: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    case.change(place(case.kind))
    told(case, capsys)
    left_whole({"prepare"})


@pytest.mark.parametrize("name", ["weights cut off", "adapter of no kind"])
def test_with_the_model_mended_the_same_command_ends(
    name: str, place: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    case = next(case for case in (*EARLY, *LATE) if case.name == name)
    case.change(place(case.kind))
    told(case, capsys)
    shutil.rmtree("m")
    place(case.kind)
    main(["run", "tales.yaml", "--plain"])
    assert check_source("runs/tales") == []


def test_no_broken_model_needs_torch_to_be_told(place: Callable[[str], Path], llama_folder: Path) -> None:
    """A header that lies and code of its own are seen without importing what could be misled by them."""
    lines = ["import sys", "from luthier.models.source import check_source"]
    for number, name in enumerate(("header of 100 GB", "code of its own", "larger vocabulary", "pickle for weights")):
        folder = Path(shutil.copytree(llama_folder, f"m{number}"))
        next(case for case in EARLY if case.name == name).change(folder)
        lines.append(f"assert check_source('m{number}'), {name!r}")
    lines.append("assert not {'torch', 'transformers'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-600:]


@pytest.mark.parametrize(("name", "says"), NAMES, ids=lambda value: value[:30] if isinstance(value, str) else "")
def test_a_name_that_is_no_model_is_told(
    name: str, says: tuple[str, ...], place: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place("llama")
    write_recipe()
    said = answer(["run", "tales.yaml", f"model={name}"], capsys)
    assert said.startswith("error: override model=")
    for words in says:
        assert words in said
    assert not Path("runs").exists()


# ---- the machine -----------------------------------------------------------------------------------------------------


def out(text: str, *says: str) -> tuple[str, tuple[str, ...]]:
    return text, says


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        out("chat.jsonl", "chat.jsonl: the run folder cannot be made", "--out"),
        out("chat.jsonl/run", "chat.jsonl/run: the run folder cannot be made", "Not a directory", "--out"),
        out("o" * 300, "the run folder cannot be made", "--out"),
        out("mine", "mine: the folder holds README.md, which the run would write over", "move what is there away"),
        out("torn", "torn/manifest.json: the manifest is damaged", "put back a copy"),
        out("odd", "odd/manifest.json: the manifest is damaged", "stages"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_run_folder_that_cannot_be_is_told(
    folder: str, says: tuple[str, ...], place: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, file, text in (
        ("mine", "README.md", "My own words.\n"),
        ("torn", "manifest.json", "{"),
        ("odd", "manifest.json", '{"stages": 3}'),
    ):
        Path(name).mkdir()
        Path(name, file).write_text(text, encoding="utf-8")
    place("llama")
    write_recipe()
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    said = answer(["run", "tales.yaml", "--out", folder], capsys)
    for words in says:
        assert words in said
    locks = {path for path in Path().rglob("*") if path.is_file() and path.name != ".lock"}
    assert {path: path.read_bytes() for path in locks} == before


def test_a_folder_without_write_access_is_told(
    place: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place("llama")
    write_recipe()
    Path("closed").mkdir()
    # Root may write everywhere, so that closing the folder would prove nothing there.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    said = answer(["run", "tales.yaml", "--out", "closed"], capsys)
    assert "closed: the run folder is not writable" in said
    assert not list(Path("closed").iterdir())


@pytest.mark.parametrize("device", ["cuda:7", "mps"])
def test_a_device_that_is_not_there_is_told(
    device: str, place: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from luthier.engine.device import choose

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(MachineError) as caught:
        choose(Machine(device=device))
    (problem,) = caught.value.problems
    assert problem.where == "machine.device"
    assert problem.found == f"the device '{device}' is not there"
    assert problem.expected == "cpu, cuda:0 to cuda:1"
    place("llama")
    write_recipe()
    answer(["run", "tales.yaml", f"machine.device={device}"], capsys)
    assert not Path("runs/tales/data").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_disk_without_room_is_told_and_the_run_goes_on_with_it(
    place: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The weights are larger than what may be written; what came before them is whole and kept."""
    import resource

    place("llama")
    write_recipe()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        said = answer(["run", "tales.yaml"], capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "runs/tales/phases/1-train" in said
    assert "cannot be written" in said
    left_whole({"prepare"})
    main(["train", "tales.yaml", "--plain"])
    assert "preparing the data: kept from before" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_memory_that_runs_out_while_the_model_loads_is_no_fault_of_the_model(
    error: Exception, place: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    def refuse(*given: object, **named: object) -> None:
        raise error

    place("llama")
    write_recipe()
    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", refuse)
    said = answer(["run", "tales.yaml"], capsys)
    assert "the stage 'train': the memory ran out" in said
    assert "take a smaller model" in said
    left_whole({"prepare"})
