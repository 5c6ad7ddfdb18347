"""The catalogue: filters by hand, changes picked up, outages survived."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from bson import Decimal128, ObjectId

from app import catalogue as catalogue_module
from app import mongo as mongo_module
from app.catalogue import Catalogue, ItemContent
from app.columns import KEPT
from app.errors import HistoryUnavailable
from app.mongo import Mongo
from app.newcomers import Newcomers
from app.seats import Holder, Seating
from foretell.embedded import EmbeddedStores
from models.vocabulary import Vocabulary
from tests.integration.proxy import Proxy

VOCABULARY = Vocabulary(["shoe", "boot", "cup", "ghost"], {}, [[]])  # internal ids 2, 3, 4, 5


def item(name: str, *, age: timedelta = timedelta(hours=1), **fields: Any) -> dict[str, Any]:
    return {"_id": name, "updated_at": datetime.now(UTC) - age, **fields}


@pytest.fixture
async def filled(mongo: Mongo) -> Mongo:
    await mongo.database.items.insert_many(
        [
            item("shoe", title="A shoe", categories=["wear", "shoes"], price=50.0, available=True),
            item("boot", title="A boot", categories=["wear", "shoes", "high"], price=80, available=True),
            item("cup", title=None, categories=["home"], price=None, available=True),
            item("new", title="Not in the vocabulary", categories=["wear"], price=1.5, available=False),
        ]
    )
    return mongo


class LeftOut(Counter[str]):
    """Counts what a catalogue leaves out."""

    def add(self, collection: str, count: int) -> None:
        self[collection] += count


@pytest.fixture
def left_out() -> LeftOut:
    return LeftOut()


@pytest.fixture
async def catalogue(filled: Mongo, left_out: LeftOut) -> Catalogue:
    catalogue = Catalogue(filled.database, VOCABULARY, seats(0), 3600, on_unreadable=left_out.add)
    assert await catalogue.refresh() == 4
    return catalogue


def seats(count: int) -> Newcomers:
    """Seats from 6 on; nothing is written anywhere when they are taken."""

    async def seat(seats: Sequence[int], contents: Sequence[ItemContent]) -> None:
        pass

    return Newcomers(count, Holder(Seating(len(VOCABULARY), count, seat)))


def title(catalogue: Catalogue, item: int) -> str | None:
    """As it is told, and as it is written."""
    name, told = catalogue.label(item)
    assert [orjson.loads(b"{%b}" % one) for one in catalogue.written([item, item])] == 2 * [
        {"item_id": name, "title": told}
    ]
    return told


def on_offer(catalogue: Catalogue, **filters: Any) -> list[int]:
    selection = catalogue.allowed(**filters)
    assert len(selection.mask) >= 6
    assert selection.count == len(selection.ids)
    return [int(item) for item in selection.ids]


async def test_an_empty_catalogue_rules_nothing_out(mongo: Mongo) -> None:
    catalogue = Catalogue(mongo.database, VOCABULARY, seats(0), 3600)
    await catalogue.refresh()
    assert on_offer(catalogue) == [2, 3, 4, 5]
    assert on_offer(catalogue, max_price=50.0) == []


async def test_a_first_catalogue_that_is_read_in_part_rules_nothing_out(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is filled while the service runs, and MongoDB is away after the first items."""
    catalogue = Catalogue(mongo.database, VOCABULARY, seats(0), 3600)
    await catalogue.refresh()
    await mongo.database.items.insert_many([item("shoe"), item("boot")])
    monkeypatch.setattr(catalogue_module, "BATCH", 1)
    read, times = catalogue._reader.read, itertools.count()

    def cut(rows: Any) -> Any:
        if next(times):
            raise HistoryUnavailable("away")
        return read(rows)

    with monkeypatch.context() as patched:
        patched.setattr(catalogue._reader, "read", cut)
        with pytest.raises(HistoryUnavailable):
            await catalogue.refresh()
    assert on_offer(catalogue) == [2, 3, 4, 5]
    await catalogue.refresh()
    assert on_offer(catalogue) == [2, 3]


def test_an_item_that_the_catalogue_lacks_is_not_on_offer(catalogue: Catalogue) -> None:
    """ "ghost" (5) is in the vocabulary alone."""
    assert on_offer(catalogue) == [2, 3, 4]


async def test_requests_share_a_selection_until_the_catalogue_changes(catalogue: Catalogue, filled: Mongo) -> None:
    every, few = catalogue.allowed(), catalogue.allowed({"shoes", "home"}, max_price=60.0)
    assert catalogue.allowed() is every
    assert catalogue.allowed(["home", "shoes"], max_price=60.0) is few
    await filled.database.items.insert_one(item("ghost", age=timedelta(0)))
    await catalogue.refresh()
    assert on_offer(catalogue) == [2, 3, 4, 5]


def test_the_selections_that_are_kept_do_not_grow_without_end(catalogue: Catalogue) -> None:
    first = catalogue.allowed(max_price=0.0)
    for price in range(1, KEPT + 1):
        catalogue.allowed(max_price=float(price))
    assert catalogue.allowed(max_price=float(KEPT)) is catalogue.allowed(max_price=float(KEPT))
    assert catalogue.allowed(max_price=0.0) is not first


@pytest.mark.parametrize(
    ("filters", "internal_ids"),
    [
        ({"categories": {"shoes"}}, [2, 3]),
        ({"categories": {"high", "home"}}, [3, 4]),
        ({"categories": {"unheard of"}}, []),
        ({"categories": {"home", "unheard of"}}, [4]),
        ({"max_price": 50.0}, [2]),
        ({"min_price": 50.0}, [2, 3]),
        ({"min_price": 60, "max_price": 70}, []),
        ({"categories": {"wear"}, "max_price": 60}, [2]),
    ],
)
def test_filters(catalogue: Catalogue, filters: dict[str, Any], internal_ids: list[int]) -> None:
    """An item without a price ("cup", 4) is in no price range."""
    assert on_offer(catalogue, **filters) == internal_ids


def test_nobody_writes_to_what_all_share(catalogue: Catalogue) -> None:
    with pytest.raises(ValueError, match="read-only"):
        catalogue.allowed().mask[:] = False


def test_titles_go_by_internal_id(catalogue: Catalogue) -> None:
    assert [title(catalogue, n) for n in (2, 4, 5)] == ["A shoe", None, None]


async def test_find_gives_contents_of_any_item(catalogue: Catalogue) -> None:
    assert await catalogue.find(["new", "boot", "unheard of", "new"]) == {
        "new": ItemContent("Not in the vocabulary", ("wear",), 1.5, False),
        "boot": ItemContent("A boot", ("wear", "shoes", "high"), 80.0, True),
    }
    assert await catalogue.find([]) == {}


async def test_an_unavailable_item_is_never_allowed_and_comes_back(catalogue: Catalogue, filled: Mongo) -> None:
    async def update(**fields: Any) -> None:
        await filled.database.items.update_one({"_id": "shoe"}, {"$set": {"updated_at": datetime.now(UTC), **fields}})
        assert await catalogue.refresh() == 1  # the others have not changed, and are not read again

    await update(available=False)
    assert on_offer(catalogue) == [3, 4]
    await update(available=True, categories=["home"])
    assert on_offer(catalogue) == [2, 3, 4]
    assert on_offer(catalogue, categories={"home"}) == [2, 4]


async def test_now_and_then_everything_is_read_and_a_deleted_item_noticed(
    catalogue: Catalogue, filled: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled.database.items.delete_one({"_id": "shoe"})
    await filled.database.items.insert_one({"_id": "ghost", "title": "Without updated_at"})
    assert await catalogue.refresh() == 0
    assert (on_offer(catalogue), title(catalogue, 2)) == ([2, 3, 4], "A shoe")
    monkeypatch.setattr(catalogue_module, "WHOLE_EVERY", 2)
    assert await catalogue.refresh() == 4
    assert (on_offer(catalogue), title(catalogue, 2), title(catalogue, 5)) == ([3, 4, 5], None, "Without updated_at")


WRONG: list[dict[str, Any]] = [
    {"categories": [["Dairy"]]},
    {"categories": "Shoes"},
    {"title": ObjectId("0" * 24)},
    {"title": Decimal128("1.5")},
    {"price": "cheap"},
    {"price": float("inf")},
    {"available": "perhaps"},
]


@pytest.mark.parametrize("fields", WRONG, ids=str)
async def test_a_document_written_wrongly_is_left_out_and_counted(
    catalogue: Catalogue, filled: Mongo, left_out: LeftOut, fields: dict[str, Any]
) -> None:
    await filled.database.items.update_one({"_id": "shoe"}, {"$set": {"updated_at": datetime.now(UTC), **fields}})
    await filled.database.items.insert_one(item("ghost", age=timedelta(0), title="After it"))
    await catalogue.refresh()
    assert (title(catalogue, 2), title(catalogue, 5)) == ("A shoe", "After it")
    assert left_out == {"items": 1}
    assert set(await catalogue.find(["shoe", "boot"])) == {"boot"}
    assert left_out == {"items": 2}


@pytest.mark.parametrize("name", [7, {"a": 1}], ids=str)
async def test_an_id_that_is_no_text_is_left_out_from_the_start(filled: Mongo, left_out: LeftOut, name: Any) -> None:
    await filled.database.items.insert_one({"_id": name})
    catalogue = Catalogue(filled.database, VOCABULARY, seats(0), 3600, on_unreadable=left_out.add)
    await catalogue.refresh()
    assert (on_offer(catalogue), left_out) == ([2, 3, 4], {"items": 1})


async def test_a_null_counts_as_missing(catalogue: Catalogue, filled: Mongo) -> None:
    await filled.database.items.insert_one(item("ghost", title=None, categories=None, price=None, available=None))
    assert await catalogue.find(["ghost"]) == {"ghost": ItemContent(None, (), None, True)}


async def test_an_error_nobody_expected_does_not_end_the_looks(filled: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, looked = asyncio.Event(), asyncio.Event()
    async with Catalogue(filled.database, VOCABULARY, seats(0), 0.001, on_failure=failed.set) as catalogue:

        async def refresh() -> int:
            if not failed.is_set():
                raise ZeroDivisionError
            looked.set()
            return 0

        monkeypatch.setattr(catalogue, "refresh", refresh)
        await asyncio.wait_for(looked.wait(), 30)
        assert catalogue.failures == 1


async def test_an_outage_keeps_what_is_known_and_is_counted(stores: EmbeddedStores, filled: Mongo) -> None:
    failed = asyncio.Event()
    async with Proxy(urlsplit(stores.mongo_url).port or 0) as proxy:
        url = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
        behind = await mongo_module.connect(url, filled.database.name, 1000)
        async with Catalogue(behind.database, VOCABULARY, seats(0), 0.01, on_failure=failed.set) as catalogue:
            proxy.cut()
            await asyncio.wait_for(failed.wait(), 30)
            assert catalogue.failures >= 1
            assert title(catalogue, 2) == "A shoe"
            with pytest.raises(HistoryUnavailable):
                await catalogue.find(["shoe"])
        await behind.close()


async def test_the_background_picks_up_a_change(filled: Mongo) -> None:
    async with Catalogue(filled.database, VOCABULARY, seats(0), 0.01) as catalogue:
        change = {"$set": {"title": "A better shoe", "updated_at": datetime.now(UTC)}}
        await filled.database.items.update_one({"_id": "shoe"}, change)
        async with asyncio.timeout(30):
            while title(catalogue, 2) != "A better shoe":
                await filled.ping()


async def test_a_newcomer_is_on_offer_from_the_next_look_on_and_gone_with_it(filled: Mongo) -> None:
    """ "new" is not available yet; "hat" comes later. Both are beyond the vocabulary, whose ids end at 5."""
    catalogue = Catalogue(filled.database, VOCABULARY, seats(2), 3600)
    await catalogue.refresh()
    assert on_offer(catalogue) == [2, 3, 4]
    await filled.database.items.insert_one(item("hat", age=timedelta(0), title="A hat", categories=["wear"], price=9.0))
    await catalogue.refresh()
    assert on_offer(catalogue, categories={"wear"}, max_price=50.0) == [2, 6]
    assert (catalogue.label(6), catalogue.item_id("hat"), catalogue.item_id("shoe")) == (("hat", "A hat"), 6, 2)
    change = {"$set": {"available": False, "updated_at": datetime.now(UTC)}}
    await filled.database.items.update_one({"_id": "hat"}, change)
    await catalogue.refresh()
    assert on_offer(catalogue) == [2, 3, 4]
    assert title(catalogue, 6) == "A hat"  # whoever was answered a moment ago may still ask
