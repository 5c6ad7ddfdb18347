"""Signals handled for a while."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

import pytest

from foretell.signals import Ending, _wait_for_hangup, ending


def test_they_are_given_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with pytest.raises(SystemExit) as left, ending(signal.SIGHUP):
        signal.raise_signal(signal.SIGHUP)
    assert left.value.code == 129
    assert signal.getsignal(signal.SIGHUP) is before


def test_an_error_that_a_library_makes_of_it_is_the_end_all_the_same() -> None:
    def library() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except SystemExit as error:
            raise RuntimeError("import interrupted") from error

    with pytest.raises(SystemExit) as left, ending(signal.SIGTERM):
        library()
    assert left.value.code == 143


def test_one_that_a_library_swallows_is_the_end_all_the_same() -> None:
    with pytest.raises(SystemExit) as left, ending(signal.SIGTERM), suppress(SystemExit):
        signal.raise_signal(signal.SIGTERM)
    assert left.value.code == 143


def test_a_held_signal_waits_for_a_good_moment() -> None:
    done = []

    def work(end: Ending) -> None:
        signal.raise_signal(signal.SIGTERM)
        done.append("native code")
        end.check()
        done.append("never")

    with pytest.raises(SystemExit) as left, ending(signal.SIGTERM) as end, end.hold():
        work(end)
    assert (left.value.code, done) == (143, ["native code"])


def test_a_held_signal_comes_at_the_end_of_the_block() -> None:
    def work(end: Ending) -> None:
        with end.hold():
            signal.raise_signal(signal.SIGTERM)
        raise AssertionError("went on")

    with pytest.raises(SystemExit) as left, ending(signal.SIGTERM) as end:
        work(end)
    assert left.value.code == 143


def test_without_a_signal_errors_pass() -> None:
    with pytest.raises(KeyError), ending(signal.SIGTERM):
        raise KeyError


def test_one_that_is_ignored_stays_ignored() -> None:
    """``nohup make run &`` outlives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending(signal.SIGHUP):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux reports the hang-up of a terminal to poll")
def test_the_end_of_the_terminal_is_a_sighup() -> None:
    """``ssh -t host make run``: there make leads the session, and the kernel tells nobody else."""
    window, terminal = os.openpty()
    os.close(window)
    with pytest.raises(SystemExit), ending(signal.SIGHUP):
        _wait_for_hangup(terminal)
    os.close(terminal)
