"""A process's peak memory is its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from luthier.core import peak

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/status")


@linux
def test_a_large_parent_leaves_no_trace_in_the_peak_of_its_child() -> None:
    """getrusage's figure survives exec, and would be this process's here."""
    held = b"x" * 2**28
    assert peak.peak_resident() >= len(held)
    told = "from luthier.core.peak import peak_resident; print(peak_resident())"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert 2**20 < int(done.stdout) < len(held) / 2


def test_the_peak_stays_when_memory_is_given_back() -> None:
    before = peak.peak_resident()
    held = b"x" * (before + 2**26)
    del held
    assert peak.peak_resident() > before


@linux
@pytest.mark.parametrize("content", [None, "Name:\tpython\nVmRSS:\t 100 kB\n"])
def test_where_the_system_does_not_say_the_process_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "status").write_text(content)
    monkeypatch.setattr(peak, "_STATUS", tmp_path / "status")
    assert peak.peak_resident() > 2**20
