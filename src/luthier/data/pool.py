"""Jobs for processes of our own: each a line of JSON, done by a module that reads it and answers with a line.

Processes are started with a module's name and nothing of the caller's, so that a script of the user's is not run again
in them, as it would be with multiprocessing, and no thread's lock is inherited.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..core.errors import LuthierError, MachineError

__all__ = ["run_jobs", "serve"]

Job = Mapping[str, Any]


def run_jobs(module: str, jobs: Sequence[Job], processes: int) -> None:
    """Has every job done by `python -m module`, so many at once; returns when all are.

    Errors: the LuthierError that a job ended with; MachineError where a process ended without a word.
    """
    waiting, lock = list(reversed(jobs)), threading.Lock()
    failures: list[LuthierError] = []

    def feed(process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        while True:
            with lock:
                if failures or not waiting:
                    break
                job = waiting.pop()
            try:
                process.stdin.write(json.dumps(job) + "\n")
                process.stdin.flush()
                answer = json.loads(process.stdout.readline() or "null")
            except (OSError, ValueError):
                answer = None
            if answer is None:
                failures.append(_silent(process))
            elif not answer["done"]:
                failures.append(_error(answer))

    with _processes(module, min(processes, len(jobs))) as started:
        threads = [threading.Thread(target=feed, args=(process,), daemon=True) for process in started]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


@contextmanager
def _processes(module: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", module]
    started: list[subprocess.Popen[str]] = []
    try:
        for _ in range(count):
            # A session of its own: Ctrl-C reaches this process alone, which ends the others.
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
            started.append(process)
        yield started
    except BaseException:
        for process in started:
            process.kill()
        raise
    finally:
        for process in started:
            process.communicate()


def _silent(process: subprocess.Popen[str]) -> LuthierError:
    status = process.wait()
    return MachineError(
        f"a process that prepares data ended with status {status} before its work was done",
        expected="room for it in memory",
        remedy="give the same command again; what was finished is not done again",
    )


def serve(work: Callable[[Job], None]) -> None:
    """Does the jobs that come on standard input until it ends, and answers each."""
    for line in sys.stdin:
        try:
            work(json.loads(line))
        except LuthierError as error:
            problems = [[problem.found, problem.where, problem.expected, problem.remedy] for problem in error.problems]
            answer: dict[str, Any] = {"done": False, "kind": type(error).__name__, "problems": problems}
        else:
            answer = {"done": True}
        print(json.dumps(answer), flush=True)


def _error(answer: Mapping[str, Any]) -> LuthierError:
    from ..core import errors

    kind: type[LuthierError] = getattr(errors, answer["kind"], LuthierError)
    return kind([errors.Problem(*problem) for problem in answer["problems"]])
