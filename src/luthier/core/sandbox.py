"""Limits for a chat template while it is rendered: it comes with a model, and is a program of a stranger.

transformers renders templates in Jinja's sandbox, which keeps them from files, modules and Python's internals, but not
from going on for ever or filling memory. Here a template that does either is stopped and refused.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from itertools import pairwise
from types import FrameType

from .errors import ModelError

__all__ = ["limited", "refuse_powers", "refuse_size"]

SECONDS = 20.0  # for one conversation; a long one takes milliseconds
BYTES = 4 * 2**30  # of memory beyond what the process has when rendering begins
CHARACTERS = 2**28  # of one rendered conversation
_REMEDY = "use a model that you trust, or set chat_template to 'plain' or to a Jinja file of your own"


class _EndlessError(Exception):
    """The time was up."""


@contextmanager
def limited() -> Iterator[None]:
    """What is rendered inside is stopped after 20 s (in the main thread, where the system has timers), and where it
    asks for more than 4 GiB of memory (on Linux).

    Errors: ModelError that names the template.
    """
    try:
        with _in_time(), _in_memory():
            yield
    except _EndlessError:
        raise _refused(f"the chat template does not end: it was stopped after {SECONDS:g} s") from None
    except MemoryError:
        raise _refused("the chat template asks for more memory than there is") from None


def refuse_size(text: str) -> None:
    """Errors: ModelError for a rendered text that no conversation makes."""
    if len(text) > CHARACTERS:
        raise _refused(f"the chat template makes {len(text):,} characters of one conversation")


@cache
def refuse_powers(source: str) -> None:
    """Errors: ModelError for a template that takes powers: none needs to, and 9 ** 9 ** 9 cannot be interrupted."""
    from jinja2 import Environment, TemplateSyntaxError

    try:
        tokens = [(kind, value) for _, kind, value in Environment().lex(source) if kind != "whitespace"]
    except TemplateSyntaxError:
        return  # rendering tells the line
    for (_, before), (kind, value) in pairwise(tokens):
        if kind == "operator" and value == "**" and before not in ("(", ","):
            raise _refused("the chat template takes a power (**)")


@contextmanager
def _in_time() -> Iterator[None]:
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _EndlessError

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        # A timer of someone else goes on with what is left of it.
        rest = max(left - (time.monotonic() - started), 0.001) if left else 0.0
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, rest, interval)


@contextmanager
def _in_memory() -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _used(int(20 * time.monotonic())) + BYTES
    for limit in (soft, hard):
        most = most if limit == resource.RLIM_INFINITY else min(most, limit)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@lru_cache(maxsize=1)
def _used(moment: int) -> int:
    """Bytes of address space that the process has, looked up 20 times a second: rendering is asked for very often."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _refused(found: str) -> ModelError:
    return ModelError(found, where="chat template", expected="a template that turns messages into text", remedy=_REMEDY)
