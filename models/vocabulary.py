"""The frozen map between external names (strings) and the model's internal ids (int32)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.contract import FIRST, PAD, UNKNOWN

Ids = NDArray[np.int32]


class Vocabulary:
    """Names and ids of items, context field values and category levels.

    An id is ``FIRST`` + the name's place in its list. A name that is absent is ``UNKNOWN``; no name at all (None or an
    empty string) is ``PAD``.

    Args:
        items: external item ids; the first has the internal id FIRST.
        fields: for each categorical context field, its known values.
        categories: for each level of the category path, its known names.
    """

    def __init__(
        self, items: Sequence[str], fields: Mapping[str, Sequence[str]], categories: Sequence[Sequence[str]]
    ) -> None:
        self.items = tuple(items)
        self.fields = {name: tuple(values) for name, values in fields.items()}
        self.categories = tuple(tuple(level) for level in categories)
        self._item_ids = _index(self.items)
        self._field_ids = {name: _index(values) for name, values in self.fields.items()}
        self._category_ids = tuple(_index(level) for level in self.categories)

    def __len__(self) -> int:
        """The number of item ids, PAD and UNKNOWN included."""
        return FIRST + len(self.items)

    def item_id(self, name: str) -> int:
        """The internal id of an item, UNKNOWN where the vocabulary has none."""
        return self._item_ids.get(name, UNKNOWN)

    def item_ids(self, names: Iterable[str]) -> Ids:
        """Internal ids, shape [n], of n external item ids."""
        get = self._item_ids.get
        return np.fromiter((get(name, UNKNOWN) for name in names), np.int32)

    def item_name(self, item_id: int) -> str:
        """The external id of an internal one. Raises IndexError for PAD, UNKNOWN and ids beyond the vocabulary."""
        if item_id < FIRST:
            raise IndexError(f"Item id {item_id} stands for no item.")
        return self.items[item_id - FIRST]

    def field_id(self, field: str, value: object) -> int:
        """The id of a context value; PAD where there is none."""
        if value is None or value == "":
            return PAD
        return self._field_ids[field].get(_text(value), UNKNOWN)

    def category_ids(self, path: Sequence[str]) -> list[int]:
        """Ids of a category path (coarse to fine), one for each level the vocabulary has; PAD where the path ends."""
        return [
            ids.get(path[level], UNKNOWN) if level < len(path) and path[level] else PAD
            for level, ids in enumerate(self._category_ids)
        ]

    def save(self, path: Path) -> None:
        """Write one JSON file."""
        data = {"items": self.items, "fields": self.fields, "categories": self.categories}
        path.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what :meth:`save` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(data["items"], data["fields"], data["categories"])


def _index(names: Iterable[str]) -> dict[str, int]:
    return {name: FIRST + place for place, name in enumerate(names)}


def _text(value: object) -> str:
    """How a context value is spelt in the vocabulary: ``true``/``false`` for booleans, no ``.0`` on whole numbers."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
