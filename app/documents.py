"""Documents of MongoDB as any program may have written them: what cannot be read is left out, logged and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import structlog
from pydantic import TypeAdapter, ValidationError

from app.errors import problems
from app.mongo import Document

T = TypeVar("T")

#: Told of documents that were left out: their collection, and how many.
OnUnreadable = Callable[[str, int], None]

log = structlog.get_logger(__name__)


def ignore(collection: str, count: int) -> None:
    """Nobody wants to know."""


class Reader(Generic[T]):
    """Reads the documents of one collection. A field that is null counts as missing; more fields are no harm.

    Args:
        collection: its name.
        shape: a dataclass, whose types say what a document must look like.
        on_unreadable: called for documents that do not.
    """

    def __init__(self, collection: str, shape: type[T], on_unreadable: OnUnreadable) -> None:
        self._collection = collection
        self._shape: TypeAdapter[T] = TypeAdapter(shape)
        self._on_unreadable = on_unreadable

    def read(self, documents: Iterable[Document]) -> list[T]:
        """What can be read of the documents, in their order."""
        found: list[T] = []
        failures: list[tuple[Document, ValidationError]] = []
        for document in documents:
            try:
                found.append(self._shape.validate_python({k: v for k, v in document.items() if v is not None}))
            except ValidationError as error:
                failures.append((document, error))
        if failures:
            self._tell(failures)
        return found

    def _tell(self, failures: list[tuple[Document, ValidationError]]) -> None:
        """One line, however many they are. Ids of users and of their events are logged by pseudonym only: whoever sends
        events may well make their ids of the user's."""
        document, error = failures[0]
        field, problem = problems(error)[0]
        log.warning(
            "documents_unreadable",
            collection=self._collection,
            count=len(failures),
            **{"first" if self._collection == "items" else "user_id": str(document.get("_id"))},
            field=field,
            problem=problem,
        )
        self._on_unreadable(self._collection, len(failures))
