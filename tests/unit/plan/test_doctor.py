"""The doctor examines what is there and survives what is not."""

from __future__ import annotations

import importlib.util
import os
import platform
from pathlib import Path

import pytest
import torch

from luthier.core import embedded
from luthier.engine import device
from luthier.plan import doctor


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.engine.device.product_rate", lambda dtype, device, *_, **__: 1e11)


def test_versions_and_device_are_those_of_this_process() -> None:
    found = doctor.examine()
    assert found["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert found["device"]["device"] in ("cpu", "mps", "cuda")
    assert found["device"]["threads"].startswith(str(torch.get_num_threads()))
    assert found["device"]["float32 products"].startswith("100 GFLOP/s")
    assert "GB free" in found["machine"]["disk"]


def test_another_programs_work_does_not_decide_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that was disturbed once is measured again; rates and their quotient tell the same."""
    seen: list[torch.dtype] = []

    def disturbed(dtype: torch.dtype, *_: object) -> float:
        seen.append(dtype)
        return 1e9 if seen.count(dtype) % 3 == 1 else {torch.float32: 1e11, torch.bfloat16: 3e11}[dtype]

    monkeypatch.setattr("luthier.engine.device.product_rate", disturbed)
    found = doctor._device()
    assert found["float32 products"].startswith("100 GFLOP/s")
    assert found["bfloat16 products"].startswith("300 GFLOP/s")
    assert "3.0 times" in found["dtype that pays"] or found["device"] == "mps"


def test_an_absent_extra_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else real(name))
    assert doctor.examine()["extras"]["tensorboard"].endswith("pip install 'luthier[tensorboard]'")


def test_absent_weights_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "_ROOT", tmp_path)
    assert "not part of this installation" in doctor.examine()["models"]["embedded:nano"]


def test_a_broken_package_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, str]:
        raise ImportError("libcudart.so: cannot open shared object file")

    monkeypatch.setattr(doctor, "_device", broken)
    found = doctor.examine()
    assert found["device"] == {"cannot be examined": "ImportError: libcudart.so: cannot open shared object file"}
    assert found["versions"]["python"]


def test_every_extra_of_the_package_is_examined() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(doctor.EXTRAS) == set(project["optional-dependencies"]) - {"dev", "bench"}


@pytest.mark.parametrize(
    ("library", "name", "said"),
    [
        ("libc.so.6", "glibc", "glibc's, told to keep large blocks"),
        ("libc-2.31.so", "glibc", "glibc's, told to keep large blocks"),
        ("libjemalloc.so.2", "jemalloc", "jemalloc, loaded in place of glibc's and left as it is"),
        ("libtcmalloc_minimal.so.4", "tcmalloc", "tcmalloc, loaded in place of glibc's and left as it is"),
        ("libmimalloc.so.2.1", "mimalloc", "mimalloc, loaded in place of glibc's and left as it is"),
        ("libsomething.so", "system", "the system's own, left as it is"),
    ],
)
def test_the_allocator_in_force_is_named(monkeypatch: pytest.MonkeyPatch, library: str, name: str, said: str) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(device, "_malloc_library", lambda: library)
    assert (device.allocator(), doctor.examine()["device"]["allocator"]) == (name, said)


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert not device.keep_memory()
    assert doctor.examine()["device"]["allocator"] == "the system's own, left as it is"


class Glibc:
    """A C library whose mallopt takes no value above `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.told: list[tuple[int, int]] = []

    def mallopt(self, parameter: int, value: int) -> int:
        self.told.append((parameter, value))
        return int(value <= self.most)


@pytest.mark.parametrize(
    ("most", "thresholds", "kept"),
    [(2**31 - 1, [2**31 - 1], True), (2**25, [2**31 - 1, 2**25], True), (2**20, [2**31 - 1, 2**25], False)],
)
def test_glibc_keeps_blocks_as_large_as_it_takes(
    monkeypatch: pytest.MonkeyPatch, most: int, thresholds: list[int], kept: bool
) -> None:
    library = Glibc(most)
    monkeypatch.setattr(device, "allocator", lambda: "glibc")
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: library)
    assert device.keep_memory() == kept
    trim, mmap = -1, -3
    assert library.told == [(trim, -1), *((mmap, size) for size in thresholds)]
    told = doctor.examine()["device"]["allocator"]
    assert told == f"glibc's, {'told' if kept else 'which refused'} to keep large blocks"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_process_knows_which_library_its_malloc_is_from() -> None:
    if "LD_PRELOAD" in os.environ:
        pytest.skip("needs a process without LD_PRELOAD")
    assert device._malloc_library().startswith("libc")
    assert device.keep_memory()
