"""The lists of an answer as JSON, written from columns: an object for each item would cost ten times as much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.explanation import Explanation

#: Explanations of an item, by target; None where it has none.
Explained = Mapping[str, Explanation] | None
#: An empty list.
NONE = orjson.Fragment(b"[]")


def item_members(item_id: str) -> bytes:
    """An item as members of a JSON object, without its title."""
    return b'"item_id":%b' % orjson.dumps(item_id)


def label_members(item_id: str, title: str | None) -> bytes:
    """An item as members of a JSON object."""
    return b'"item_id":%b,"title":%b' % (orjson.dumps(item_id), orjson.dumps(title))


class Lists:
    """Writes what :class:`app.replies.PredictResponse` documents of ``predictions`` and ``recommendations``.

    Of n items come, beside their members, ``outcomes``: float32 [T + V, n], the probabilities of the targets and the
    expectations of the values; numbers are written in their shortest form. ``explained`` are the first items'
    explanations, or fewer; the others have none.
    """

    def __init__(self, targets: Iterable[str], values: Iterable[str]) -> None:
        outcomes = b'"probabilities":%b,"expected":%b' % (_places(targets), _places(values))
        self._prediction = b'{%%b,%b,"explanation":%%b}' % outcomes
        self._recommendation = b'{"rank":%%d,%%b,"score":%%b,%b,"reason":"%%b","explanation":%%b}' % outcomes

    def predictions(
        self, items: Sequence[bytes], outcomes: NDArray[np.float32], explained: Iterable[Explained] = ()
    ) -> orjson.Fragment:
        """A list of n predictions; ``items`` as of :func:`item_members`."""
        rows = zip(items, *_columns(outcomes), _texts(explained, len(items)), strict=True)
        return _list([self._prediction % row for row in rows])

    def recommendations(
        self,
        items: Sequence[bytes],
        scores: NDArray[np.float64],
        outcomes: NDArray[np.float32],
        reason: str,
        explained: Iterable[Explained] = (),
    ) -> orjson.Fragment:
        """A list of n recommendations, best first; ``items`` as of :func:`label_members`, ``scores`` [n]."""
        n = len(items)
        ranks, reasons, texts = range(1, n + 1), [reason.encode()] * n, _texts(explained, n)
        rows = zip(ranks, items, *_columns(scores[None]), *_columns(outcomes), reasons, texts, strict=True)
        return _list([self._recommendation % row for row in rows])


def _places(names: Iterable[str]) -> bytes:
    """An object with a place for the number of each name; a part of a larger format."""
    members = (b"%b:%%b" % orjson.dumps(name).replace(b"%", b"%%") for name in names)
    return b"{%b}" % b",".join(members)


def _columns(numbers: NDArray[Any]) -> list[list[bytes]]:
    """Numbers [c, n] as JSON writes them: c lists of n."""
    if not numbers.size:
        return [[] for _ in numbers]
    written = orjson.dumps(np.ascontiguousarray(numbers), option=orjson.OPT_SERIALIZE_NUMPY)
    return [column.split(b",") for column in written[2:-2].split(b"],[")]


def _texts(explained: Iterable[Explained], n: int) -> list[bytes]:
    texts = [orjson.dumps(one, option=orjson.OPT_SERIALIZE_NUMPY) for one in explained]
    return texts + [b"null"] * (n - len(texts))


def _list(objects: Sequence[bytes]) -> orjson.Fragment:
    return orjson.Fragment(b"[%b]" % b",".join(objects))
