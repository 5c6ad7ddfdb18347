"""The table of a click file: one row of categorical fields a decision."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from models.contract import FIRST, Behaviour, Contract, Field

PARTS = ("train", "valid", "test")
ITEM = "item"
#: Names under which the item may stand in a file.
ITEM_NAMES = (ITEM, "item_id")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of ids by part: items [N], context [N, F], labels [N]; and the sizes of the ids."""

    items: dict[str, NDArray[np.int32]]
    context: dict[str, NDArray[np.int32]]
    labels: dict[str, NDArray[np.float32]]
    fields: tuple[Field, ...]
    size: int

    @classmethod
    def read(cls, path: Path) -> Table:
        """Raises ValueError, in one sentence, for a file that lacks a part or whose parts do not fit together."""
        arrays = load(path)
        wanted = [f"{part}_{half}" for part in PARTS for half in "Xy"] + ["fields"]
        if missing := [name for name in wanted if name not in arrays]:
            raise ValueError(f"{path} lacks {missing[0]}; a click file holds {', '.join(wanted)}.")
        names = [n.decode() if isinstance(n, bytes) else str(n) for n in np.atleast_1d(arrays["fields"]).tolist()]
        item = next((names.index(name) for name in ITEM_NAMES if name in names), None)
        if item is None:
            raise ValueError(
                f"{path}: no field is called {ITEM!r}, so nothing says what is clicked; "
                f"name it so in its array fields, which holds {', '.join(names)}."
            )
        for part in PARTS:
            rows, labels = arrays[f"{part}_X"], arrays[f"{part}_y"]
            if rows.ndim != 2 or rows.shape[1] != len(names) or labels.shape != rows.shape[:1] or not len(rows):
                raise ValueError(f"{path}: {part}_X and {part}_y do not have one row of {len(names)} fields a label.")
            if not set(np.unique(labels)) <= {0, 1}:
                raise ValueError(f"{path}: {part}_y holds something else than 0 and 1.")
            if part != "test" and len(np.unique(labels)) < 2:
                raise ValueError(f"{path}: {part}_y holds only {labels[0]:.0f}, so that it tells nothing apart.")
        known = [vocabulary(arrays["train_X"][:, place]) for place in range(len(names))]
        ids = {part: encode(arrays[f"{part}_X"], known) for part in PARTS}
        others = [place for place in range(len(names)) if place != item]
        return cls(
            items={part: rows[:, item] for part, rows in ids.items()},
            context={part: rows[:, others] for part, rows in ids.items()},
            labels={part: arrays[f"{part}_y"].astype(np.float32) for part in PARTS},
            fields=tuple(Field(names[place], "request", FIRST + len(known[place])) for place in others),
            size=FIRST + len(known[item]),
        )

    def scarcer(self, part: str) -> int:
        """How often the rarer of click and none occurs."""
        yes = int(self.labels[part].sum())
        return min(yes, len(self.labels[part]) - yes)

    def beside_item(self) -> Table:
        """The same rows with the item as one more field of the context: what knows no items then knows this one."""
        context = {part: np.column_stack([rows, self.items[part]]) for part, rows in self.context.items()}
        return replace(self, context=context, fields=(*self.fields, Field(ITEM, "request", self.size)))

    def contract(self, history_length: int) -> Contract:
        """The contract of decisions without any history."""
        return Contract(
            behaviours=(Behaviour("click", target=True, weight=1.0),),
            fields=self.fields,
            category_sizes=(),
            history_length=history_length,
            state_shape=(history_length, 0),
            state_dtype="float16",
            items=self.size,
            retrieval_size=1,
            value_scales={},
            repeats=False,
        )


def load(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name. Raises ValueError, in one sentence, where it cannot be read."""
    try:
        with path.open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if not isinstance(file, NpzFile):
                raise ValueError("it holds a single array")
            return {name: file[name] for name in file.files}
    # What numpy, zipfile and zlib raise for a file that is cut short, damaged or empty.
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as .npz ({error or 'it is empty'}).") from error


def vocabulary(column: NDArray[Any]) -> NDArray[Any]:
    """The values of a training column, sorted."""
    return np.unique(column)


def encode(rows: NDArray[Any], known: list[NDArray[Any]]) -> NDArray[np.int32]:
    """Ids [N, F] from FIRST up; UNKNOWN for what training has not seen."""
    columns = []
    for place, values in enumerate(known):
        found = np.minimum(np.searchsorted(values, rows[:, place]), len(values) - 1)
        columns.append(np.where(values[found] == rows[:, place], FIRST + found, 1))
    return np.stack(columns, axis=1).astype(np.int32)
