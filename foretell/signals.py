"""Signals, handled for a while."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

STDIN = 0


@contextmanager
def handled(handler: Callable[[int, FrameType | None], object], *numbers: int) -> Iterator[None]:
    """Let ``handler`` have these signals while the context lasts. One that is ignored stays so: ``nohup`` means it."""
    before = {number: signal.getsignal(number) for number in numbers}
    handled = {number: was for number, was in before.items() if was is not signal.SIG_IGN}
    try:
        for number in handled:
            signal.signal(number, handler)
        yield
    finally:
        for number, was in handled.items():
            signal.signal(number, was)


@contextmanager
def ending(*numbers: int) -> Iterator[None]:
    """Let these signals end the program as Ctrl-C does: by an exception, so that everything is put away on its way.

    The exception may surface inside a library that makes another one of it, or none. So whatever comes out of the block
    once a signal has arrived, nothing at all included, is SystemExit with 128 + the signal's number.
    """
    came: list[int] = []

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        came.append(number)
        raise SystemExit(128 + number)

    with handled(leave, *numbers):
        try:
            yield
        except BaseException:
            if came:
                raise SystemExit(128 + came[0]) from None
            raise
        if came:
            raise SystemExit(128 + came[0])


def follow_terminal() -> None:
    """Take the end of the terminal for SIGHUP. Where make leads the session, only make gets that, and waits for us."""
    if os.isatty(STDIN):
        threading.Thread(target=_wait_for_hangup, args=(STDIN,), daemon=True).start()


def _wait_for_hangup(terminal: int) -> None:
    poll = select.poll()
    poll.register(terminal, 0)  # no reading: what is typed is the shell's; a hang-up is always reported
    if any(event & select.POLLHUP for _, event in poll.poll()):
        os.kill(os.getpid(), signal.SIGHUP)
