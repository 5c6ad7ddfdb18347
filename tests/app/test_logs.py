"""Logs: one format for ours and for everybody else's."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from app import logs
from app.documents import Reader, ignore
from app.settings import Settings


@dataclass(frozen=True)
class _Shape:
    profile: dict[str, Any]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging as it was before the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_lines_carry_our_fields_and_those_of_the_standard_library(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(settings.model_copy(update={"log_json": True}))
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.stdlib.get_logger("app.x").info("ours", device="cpu")
    logging.getLogger("uvicorn.error").warning("theirs %d", 7)
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["device"], ours["request_id"], ours["level"]) == ("ours", "cpu", "r1", "info")
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("theirs 7", "uvicorn.error", "warning")


def test_lines_below_the_level_are_left_out(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(settings.model_copy(update={"log_level": "warning"}))
    structlog.stdlib.get_logger("app.x").info("quiet")
    structlog.stdlib.get_logger("app.x").warning("loud")
    printed = capsys.readouterr().err
    assert "quiet" not in printed
    assert "loud" in printed


@pytest.mark.parametrize("log_json", [True, False])
def test_a_user_is_logged_under_a_pseudonym_that_stays(
    settings: Settings, capsys: pytest.CaptureFixture[str], log_json: bool
) -> None:
    """The same in two processes with one FORETELL_LOG_SECRET; another with another, and without one."""
    names = []
    for secret in ("0123456789abcdef", "0123456789abcdef", "fedcba9876543210", None, None):
        changes = {"log_json": log_json, "log_secret": None if secret is None else SecretStr(secret)}
        logs.configure(settings.model_copy(update=changes))
        structlog.stdlib.get_logger("app.x").info("erased", user_id="private-person")
        printed = capsys.readouterr().err
        assert "private-person" not in printed
        found = re.search(r"user\W+([A-Za-z0-9_-]{32})", printed)
        assert found, printed
        names.append(found[1])
    assert names[0] == names[1]
    assert len(set(names)) == 4


@pytest.mark.parametrize("collection", ["users", "events"])
def test_a_document_of_a_user_that_cannot_be_read_is_named_by_pseudonym_only(
    settings: Settings, capsys: pytest.CaptureFixture[str], collection: str
) -> None:
    """The id of an event is the sender's, who may have made it of the user's."""
    logs.configure(settings)
    Reader(collection, _Shape, ignore).read([{"_id": "private-person", "profile": 7}])
    printed = capsys.readouterr().err
    assert "documents_unreadable" in printed
    assert "private-person" not in printed


@pytest.mark.parametrize("log_json", [True, False])
def test_a_traceback_shows_no_local_variables(
    settings: Settings, capsys: pytest.CaptureFixture[str], log_json: bool
) -> None:
    logs.configure(settings.model_copy(update={"log_json": log_json}))
    try:
        user_id = "private" + "-person"
        _ = len(user_id) / 0
    except ZeroDivisionError:
        structlog.stdlib.get_logger("app.x").exception("broken")
    printed = capsys.readouterr().err
    assert "ZeroDivisionError" in printed
    assert "private-person" not in printed
