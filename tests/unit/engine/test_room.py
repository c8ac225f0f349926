"""The room of a phase: from the estimate and all of the machine's memory; and what running out of it taught."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_llama

from luthier.core.errors import ModelError
from luthier.core.recipe import Machine, Phase
from luthier.engine import room as rooms
from luthier.engine.estimate import estimate
from luthier.engine.remembered import remember, remembered
from luthier.engine.room import CUDA_SHARE, SHARE, Room, make_room

CPU = torch.device("cpu")
LENGTHS = (40, 300)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "luthier" / "micro_tokens.json"


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Gives the machine so many bytes of memory."""

    def give(total: float) -> None:
        monkeypatch.setattr(rooms, "memory_of", lambda device: int(total))

    return give


def phase(**changes: Any) -> Phase:
    return Phase.model_validate({"per_step": {"tokens": 65536}} | changes)


def model(**changes: Any) -> Any:
    return make_llama(num_hidden_layers=6, **changes)


def needed(tokens: int, recomputes: bool = False) -> int:
    one = phase()
    return estimate(
        model(), one.adaptation, one.optimizer, tokens=tokens, lengths=LENGTHS, keeps_best=False, recomputes=recomputes
    ).total


def made(*, device: torch.device = CPU, of: Any = None, machine: dict[str, Any] | None = None, **changes: Any) -> Room:
    chosen = Machine.model_validate(machine or {})
    return make_room(of or model(), phase(**changes), chosen, device, LENGTHS, validates=False)


# ---- what is chosen --------------------------------------------------------------------------------------------------


def test_where_there_is_memory_the_usual_micro_batch_and_nothing_computed_again(has: Callable[[float], None]) -> None:
    has(100e9)
    room = made()
    assert (room.micro_tokens, room.gradient_checkpointing) == (4096, False)
    assert room.because == f"{needed(1024) / 1e9:.1f} of 100.0 GB without it"
    assert made(per_step={"tokens": 512}).micro_tokens == 512
    assert made(per_step={"rows": 4}).micro_tokens == 4096


def test_what_does_not_fit_is_cut_into_the_fewest_parts_that_do(has: Callable[[float], None]) -> None:
    has(needed(4096 // 2) / SHARE + 1)
    assert (made().micro_tokens, made().gradient_checkpointing) == (2048, False)
    has(needed(4096 // 2) / SHARE - 2)
    assert (made().micro_tokens, made().gradient_checkpointing) == (1366, False)


def test_blocks_are_computed_again_where_not_even_a_small_micro_batch_fits(has: Callable[[float], None]) -> None:
    has(needed(1024) / SHARE - 2)
    room = made()
    assert room.gradient_checkpointing
    assert room.micro_tokens >= 1024
    assert room.memory.total == needed(room.micro_tokens, True) < needed(1024)
    has(needed(1024) / SHARE + 1)
    assert not made().gradient_checkpointing


def test_a_micro_batch_is_no_smaller_than_the_longest_row_and_a_small_one(has: Callable[[float], None]) -> None:
    has(1e5)
    assert made().micro_tokens == 1024
    one = make_room(model(), phase(), Machine(), CPU, (40, 2000), validates=False)
    assert one.micro_tokens == 2048


@pytest.mark.parametrize("asked", [True, False])
def test_what_the_recipe_names_is_done(has: Callable[[float], None], asked: bool) -> None:
    has(1e5 if not asked else 100e9)
    room = made(machine={"gradient_checkpointing": asked, "micro_tokens": 700})
    assert (room.micro_tokens, room.gradient_checkpointing, room.because) == (700, asked, "named in the recipe")


def test_cuda_takes_the_steps_budget_as_far_as_it_fits(
    has: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    has(100e9)
    assert made(device=torch.device("cuda")).micro_tokens == 65536
    assert made(device=torch.device("cuda"), per_step={"rows": 64}).micro_tokens == 64 * 300
    has(needed(65536 // 4) / CUDA_SHARE + 1)
    assert made(device=torch.device("cuda")).micro_tokens == 16384


def test_a_model_that_cannot_says_so(has: Callable[[float], None]) -> None:
    class Closed(type(make_llama())):  # type: ignore[misc]
        supports_gradient_checkpointing = False

    closed = model()
    closed.__class__ = Closed
    with pytest.raises(ModelError, match="does not support gradient checkpointing") as refused:
        made(of=closed, machine={"gradient_checkpointing": True})
    assert refused.value.problems[0].remedy
    has(1e5)
    room = made(of=closed)
    assert not room.gradient_checkpointing
    assert room.because.endswith("this model does not support it")
    assert room.micro_tokens == 1024


# ---- the machine's memory --------------------------------------------------------------------------------------------


def groups(root: Path, text: str, limits: dict[str, str]) -> list[int]:
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(text)
    for path, value in limits.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value + "\n")
    return sorted(rooms._group_limits(root))


def test_limits_of_control_groups_of_the_second_version(tmp_path: Path) -> None:
    limits = {"memory.max": "max", "a/memory.max": "3000", "a/b/memory.max": "2000", "c/memory.max": "1"}
    assert groups(tmp_path, "0::/a/b\n", limits) == [2000, 3000]


def test_limits_of_control_groups_of_the_first_version(tmp_path: Path) -> None:
    """Inside a container the path is the host's, and the limit lies at the root."""
    limits = {"memory/memory.limit_in_bytes": "5000", "cpu/memory.limit_in_bytes": "7"}
    assert groups(tmp_path, "4:memory:/docker/1234\n3:cpu,cpuacct:/docker/1234\n", limits) == [5000]


def test_a_containers_limit_is_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rooms.memory_of(CPU)
    monkeypatch.setattr(rooms, "_group_limits", lambda: iter([2**63 - 1, 123456]))
    assert (rooms.memory_of(CPU), whole > 10**8) == (123456, True)


# ---- what is remembered ----------------------------------------------------------------------------------------------


def test_what_was_learned_is_where_the_next_run_begins(has: Callable[[float], None], cache: Path) -> None:
    has(100e9)
    assert made().note == ""
    made().learned(777)
    assert made().micro_tokens == 777
    assert str(cache) in made().note
    assert "777" in made().note
    named = made(machine={"micro_tokens": 4000})
    assert (named.micro_tokens, named.note) == (4000, "")
    for other in (
        made(adaptation="lora"),
        made(of=model(intermediate_size=96)),
        made(of=model().bfloat16()),
        made(machine={"gradient_checkpointing": True}),
    ):
        assert other.micro_tokens == 4096
    has(90e9)
    assert made().micro_tokens == 4096


def test_what_was_learned_makes_nothing_larger(has: Callable[[float], None]) -> None:
    has(100e9)
    made().learned(3000)
    small = made(per_step={"tokens": 512})
    assert (small.micro_tokens, small.note) == (512, "")


@pytest.mark.parametrize("content", ["{", "[1]", '{"a model": "many"}', '{"a model": 0}', '{"a model": true}', b"\xff"])
def test_a_broken_file_is_none(cache: Path, content: str | bytes) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content.encode() if isinstance(content, str) else content)
    assert remembered("a model") is None
    remember("a model", 512)
    assert remembered("a model") == 512


def test_others_are_kept_beside(cache: Path) -> None:
    remember("a model", 512)
    remember("another", 64)
    assert json.loads(cache.read_text()) == {"a model": 512, "another": 64}


def test_a_folder_that_cannot_be_written_stops_nothing(cache: Path) -> None:
    cache.parent.parent.write_text("a file where the folder belongs")
    remember("a model", 512)
    assert remembered("a model") is None


def test_without_the_variable_it_lies_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        remember("a model", 512)
        assert json.loads((tmp_path / "home/.cache/luthier/micro_tokens.json").read_text()) == {"a model": 512}
