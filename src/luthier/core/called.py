"""A function of the user's, called in a process of its own with a time limit: neither a crash nor an endless loop in
it reaches the run.

The process is started anew after each of these. It is asked and answers in lines of JSON; what the function prints goes
nowhere. `python -m luthier.core.called MODULE:FUNCTION` is the process.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Queue
from threading import Thread
from typing import IO, Any

from .errors import RecipeError

__all__ = ["Called"]

_STARTING = 60.0  # seconds that an import may take: some bring large libraries with them


class Called:
    """The function at `path` ("package.module:function"), given `seconds` for each call; a context manager.

    Errors: RecipeError where the path leads to no function, when it is entered.
    """

    def __init__(self, path: str, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        self._process: subprocess.Popen[str] | None = None
        self._heard: Queue[str | None] = Queue()

    def __enter__(self) -> Called:
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def __call__(self, *arguments: Any) -> float | str:
        """The finite number that the function returns, or why there is none."""
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(arguments) + "\n")
            process.stdin.flush()
            said = self._heard.get(timeout=self.seconds)
        except Empty:
            self._end()
            return f"it took longer than {self.seconds:g} s"
        except OSError:
            said = None
        if said is None:
            self._end()
            return f"its process ended ({_how(process.returncode)})"
        found: dict[str, Any] = json.loads(said)
        return str(found["error"]) if "error" in found else float(found["value"])

    def _start(self) -> None:
        command = [sys.executable, "-m", "luthier.core.called", self.path]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdout is not None
        self._heard = Queue()
        Thread(target=_listen, args=(self._process.stdout, self._heard), daemon=True).start()
        try:
            said = self._heard.get(timeout=_STARTING)
        except Empty:
            said = json.dumps({"error": f"its import took longer than {_STARTING:g} s"})
        error = json.loads(said).get("error") if said is not None else "its process ended while it was imported"
        if error is not None:
            self._end()
            raise RecipeError(
                f"the function {self.path} cannot be called: {error}",
                where=self.path,
                expected="package.module:function, found from the folder in which the command runs",
                remedy="correct the path, or mend the module",
            )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _how(code: int | None) -> str:
    if code is None:
        return "it does not say how"
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def _listen(pipe: IO[str], heard: Queue[str | None]) -> None:
    with suppress(ValueError, OSError):  # the pipe is closed while it is read
        for line in pipe:
            heard.put(line)
    heard.put(None)


# ---- the process -----------------------------------------------------------------------------------------------------


def _function(path: str) -> Callable[..., Any]:
    sys.path.insert(0, os.getcwd())
    module, _, name = path.partition(":")
    found = getattr(importlib.import_module(module), name)
    if not callable(found):
        raise TypeError(f"{name} is no function")
    return found  # type: ignore[no-any-return]


def _said(function: Callable[..., Any], arguments: list[Any]) -> dict[str, Any]:
    try:
        value = float(function(*arguments))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    return {"value": value} if math.isfinite(value) else {"error": f"it returned {value}"}


def _serve(path: str) -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the function prints must not be taken for an answer

    def say(what: dict[str, Any]) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    try:
        function = _function(path)
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"[:200]})
        return
    say({})
    for line in sys.stdin:
        say(_said(function, json.loads(line)))


if __name__ == "__main__":
    _serve(sys.argv[1])
