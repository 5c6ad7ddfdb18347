"""Data sets: built, written, read back, moved in time, refused."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from models.datasets.dataset import Dataset, DatasetError, rebase, shift
from models.domain import load_domain

AT = datetime(2025, 3, 3, 12, tzinfo=UTC)


def events(**changes: list[object]) -> pl.DataFrame:
    """Three events of two users, newest first, so that sorting shows."""
    columns: dict[str, list[object]] = {
        "event_id": ["e2", "e1", "e0"],
        "user_id": ["b", "a", "a"],
        "item_id": ["i2", "i1", "i1"],
        "type": ["click", "purchase", "click"],
        "at": [AT + timedelta(hours=2), AT + timedelta(hours=1), AT],
        "value": [None, 9.5, None],
    }
    return pl.DataFrame({**columns, **changes}, strict=False)


def build(frame: pl.DataFrame | None = None, **parts: pl.DataFrame) -> Dataset:
    return Dataset.build("toy", load_domain("ecommerce"), events=events() if frame is None else frame, **parts)  # type: ignore[arg-type]


def shown() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "event_id": ["x0"],
            "request_id": ["r0"],
            "user_id": ["c"],
            "item_id": ["i9"],
            "at": [AT + timedelta(days=3)],
            "position": [1],
            "true_click": [0.25],
        }
    )


def test_build_sorts_events_and_adds_items_and_users_that_only_events_know() -> None:
    dataset = build(items=pl.DataFrame({"item_id": ["i3", "i1"], "title": ["Three", "One"]}), exposures=shown())
    assert dataset.events["event_id"].to_list() == ["e0", "e1", "e2"]
    assert dataset.items["item_id"].to_list() == ["i1", "i2", "i3", "i9"]
    assert dataset.items["title"].to_list() == ["One", None, "Three", None]
    assert dataset.items["categories"].to_list() == [[], [], [], []]
    assert dataset.items["available"].to_list() == [True] * 4
    assert dataset.users["user_id"].to_list() == ["a", "b", "c"]
    assert dataset.info["counts"] == {"events": 3, "users": 3, "items": 4, "exposures": 1}
    assert (dataset.info["from"], dataset.info["to"]) == ("2025-03-03T12:00:00+00:00", "2025-03-03T14:00:00+00:00")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    dataset = build(exposures=shown())
    dataset.write(tmp_path / "deep" / "toy")
    again = Dataset.read(tmp_path / "deep" / "toy")
    assert again.info == dataset.info
    for name in ("events", "items", "users", "exposures"):
        assert getattr(again, name).equals(getattr(dataset, name)), name
    assert again.fingerprint() == dataset.fingerprint()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["toy"], "no draft is left behind"


def test_the_fingerprint_changes_with_a_single_cell() -> None:
    assert build().fingerprint() != build(events(value=[None, 9.6, None])).fingerprint()


def test_writing_replaces_an_older_data_set_whole(tmp_path: Path) -> None:
    build(exposures=shown()).write(tmp_path / "toy")
    build().write(tmp_path / "toy")
    assert Dataset.read(tmp_path / "toy").exposures is None


@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt()])
def test_the_older_data_set_stays_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    build(exposures=shown()).write(tmp_path / "toy")
    rename = os.rename

    def fail_on_the_draft(source: Path, target: Path) -> None:
        if target == tmp_path / "toy" and not source.name.endswith("-old"):
            raise error
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail_on_the_draft)
        with pytest.raises((DatasetError, KeyboardInterrupt)):
            build().write(tmp_path / "toy")
    assert Dataset.read(tmp_path / "toy").exposures is not None
    assert [p.name for p in tmp_path.iterdir()] == ["toy"], "nothing else is left behind"


def test_writing_spares_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("dear diary", encoding="utf-8")
    with pytest.raises(DatasetError, match="holds no data set"):
        build().write(tmp_path)
    assert (tmp_path / "diary.txt").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"event_id": ["e0", "e0", "e1"]}, "the same event_id twice"),
        ({"type": ["click", "buy", "click"]}, "type 'buy'"),
        ({"item_id": ["i1", None, "i2"]}, "1 nulls in 'item_id'"),
        ({"value": [None, float("inf"), None]}, "not a finite number"),
        ({"value": [None, "much", None]}, "wrong type"),
        ({"colour": ["red", "red", "red"]}, "column 'colour'"),
    ],
)
def test_frames_that_break_a_rule_are_refused(changes: dict[str, list[object]], says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        build(events(**changes))


def test_a_missing_column_is_named_with_those_found() -> None:
    with pytest.raises(DatasetError, match="lack a column 'at'; found are event_id, user_id"):
        build(events().drop("at"))


def test_reading_says_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is no data set"):
        Dataset.read(tmp_path)
    folder = tmp_path / "toy"
    build().write(folder)
    unsorted = build().events.reverse()
    unsorted.write_parquet(folder / "events.parquet")
    with pytest.raises(DatasetError, match="not sorted by user_id, at, event_id"):
        Dataset.read(folder)
    (folder / "events.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DatasetError, match="cannot be read"):
        Dataset.read(folder)
    info = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    (folder / "dataset.json").write_text(json.dumps({**info, "format": 99}), encoding="utf-8")
    with pytest.raises(DatasetError, match="another format"):
        Dataset.read(folder)
    (folder / "dataset.json").write_text("{", encoding="utf-8")
    with pytest.raises(DatasetError, match="cannot be read"):
        Dataset.read(folder)


def test_an_event_may_not_name_an_item_without_a_row(tmp_path: Path) -> None:
    build().write(tmp_path / "toy")
    build().items.head(1).write_parquet(tmp_path / "toy" / "items.parquet")
    with pytest.raises(DatasetError, match="name 1 item_ids that have no row, 'i2' for one"):
        Dataset.read(tmp_path / "toy")


def test_shift_moves_events_and_exposures_by_whole_weeks() -> None:
    moved = shift(build(exposures=shown()), -2)
    assert moved.events["at"].to_list()[0] == AT - timedelta(weeks=2)
    assert moved.exposures is not None
    assert moved.exposures["at"].to_list() == [AT + timedelta(days=3) - timedelta(weeks=2)]
    assert moved.info["from"] == "2025-02-17T12:00:00+00:00"


@pytest.mark.parametrize("days", [0, 1, 6, 7, 8, 400, -1, -8])
def test_rebase_ends_at_most_a_week_before_now_on_the_same_weekday(days: int) -> None:
    dataset = build(exposures=shown())
    newest = AT + timedelta(days=3)
    now = newest + timedelta(days=days)
    moved = rebase(dataset, now)
    assert moved.exposures is not None
    end = moved.exposures["at"].to_list()[0]
    assert timedelta(0) <= now - end < timedelta(weeks=1)
    assert (end - newest) % timedelta(weeks=1) == timedelta(0)
