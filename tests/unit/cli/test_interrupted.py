"""A command that is interrupted says so and ends with 130, whatever it was doing; 0 would tell scripts it was done."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.cli import main as command_line
from luthier.cli.main import main
from luthier.plan import before


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """SIGINT as in a terminal: where the tests were started in the background of a script, it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_signal_before_anything_is_loaded_ends_with_130(
    command: str,
    number: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*given: Any, **named: Any) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(before, "checked", interrupted)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as end:
        main([command, "demo", *(["--out", str(tmp_path / "run")] if command == "run" else [])])
    assert end.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers


def test_a_second_ctrl_c_ends_a_run_at_once_and_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first asks for a stop after the stage or step, and says so; the second does not wait for it."""
    from luthier.pipeline import stages

    def impatient(*given: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second signal was not heard")

    monkeypatch.setattr(stages, "prepare", impatient)
    with pytest.raises(SystemExit) as end:
        main(["run", "demo", "--out", str(tmp_path / "run"), "--plain"])
    assert end.value.code == 130
    assert capfd.readouterr().err.startswith("stopping after this step; Ctrl-C again stops at once\n")


def test_what_typer_ends_itself_keeps_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert "Exit codes" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["run", "--no-such-option"])
    assert end.value.code == 2
    assert command_line.INTERRUPTED == 130
