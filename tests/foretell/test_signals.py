"""Signals handled for a while."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from foretell.signals import _wait_for_hangup, handled, leave


def test_they_are_given_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with handled(leave, signal.SIGHUP):
        with pytest.raises(SystemExit) as left:
            signal.raise_signal(signal.SIGHUP)
        assert left.value.code == 129
    assert signal.getsignal(signal.SIGHUP) is before


def test_one_that_is_ignored_stays_ignored() -> None:
    """``nohup make run &`` outlives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled(leave, signal.SIGHUP):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux reports the hang-up of a terminal to poll")
def test_the_end_of_the_terminal_is_a_sighup() -> None:
    """``ssh -t host make run``: there make leads the session, and the kernel tells nobody else."""
    window, terminal = os.openpty()
    os.close(window)
    with handled(leave, signal.SIGHUP), pytest.raises(SystemExit):
        _wait_for_hangup(terminal)
    os.close(terminal)
