"""Structured logs: one format for our lines, uvicorn's and those of libraries. No line holds a user's id: what is
logged as ``user_id`` is replaced by a pseudonym, ``user``."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from app.pseudonyms import Alias, log_name_of
from app.settings import Settings


def configure(settings: Settings) -> None:
    """Send every log line of the process to stderr, as JSON or as text. Called again, it replaces the format."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _Pseudonyms(log_name_of(settings)),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(shared, json=settings.log_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in ("pymongo", "asyncio"):  # their debug lines drown everything
        logging.getLogger(name).setLevel(max(logging.INFO, root.level))
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


class _Pseudonyms:
    """A processor that puts a pseudonym in the place of ``user_id``."""

    def __init__(self, name_of: Alias) -> None:
        self._name_of = name_of

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if "user_id" in event:
            event["user"] = self._name_of(str(event.pop("user_id")))
        return event


def _formatter(shared: list[Any], *, json: bool) -> logging.Formatter:
    if json:
        last: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # Plain tracebacks: the default ones show local variables, and with them users.
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(allow=[])],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
