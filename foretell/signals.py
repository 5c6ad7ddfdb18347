"""Signals, handled for a while."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

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


class Ending:
    """A program that a signal ends, by SystemExit with 128 + the signal's number."""

    def __init__(self) -> None:
        self._came: list[int] = []
        self._held = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler: leave at once, or note the signal for later."""
        self._came.append(number)
        if not self._held:
            self.check()

    def check(self) -> None:
        """Leave, if a signal has come."""
        if self._came:
            raise SystemExit(128 + self._came[0])

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Leave at :meth:`check` and at the end of the block only.

        For native code such as that of Polars, where an exception in the middle is a panic and a page of backtrace.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self.check()


@contextmanager
def ending(*numbers: int) -> Iterator[Ending]:
    """Let these signals end the program as Ctrl-C does: by an exception, so that everything is put away on its way.

    The exception may surface inside a library that makes another one of it, or none. So whatever comes out of the block
    once a signal has arrived, nothing at all included, is SystemExit with 128 + the signal's number.
    """
    end = Ending()
    with handled(end, *numbers):
        try:
            yield end
        except BaseException:
            end.check()
            raise
        end.check()


def follow_terminal() -> None:
    """Take the end of the terminal for SIGHUP. Where make leads the session, only make gets that, and waits for us."""
    if os.isatty(STDIN):
        threading.Thread(target=_wait_for_hangup, args=(STDIN,), daemon=True).start()


def _wait_for_hangup(terminal: int) -> None:
    poll = select.poll()
    poll.register(terminal, 0)  # no reading: what is typed is the shell's; a hang-up is always reported
    if any(event & select.POLLHUP for _, event in poll.poll()):
        os.kill(os.getpid(), signal.SIGHUP)
