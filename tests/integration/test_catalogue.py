"""The catalogue: filters by hand, changes picked up, outages survived."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from app import mongo as mongo_module
from app.catalogue import Catalogue, ItemContent
from app.errors import HistoryUnavailable
from app.mongo import Mongo
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


@pytest.fixture
async def catalogue(filled: Mongo) -> Catalogue:
    catalogue = Catalogue(filled.database, VOCABULARY, 3600)
    assert await catalogue.refresh() == 4
    return catalogue


async def test_nothing_excluded_needs_no_mask(catalogue: Catalogue) -> None:
    assert catalogue.allowed() is None
    assert catalogue.allowed(exclude=["unheard of"]) is None


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
        ({"exclude": ["shoe", "unheard of"]}, [3, 4, 5]),
        ({"categories": {"wear"}, "max_price": 100, "exclude": ["boot"]}, [2]),
    ],
)
def test_filters(catalogue: Catalogue, filters: dict[str, Any], internal_ids: list[int]) -> None:
    """An item without a price is in no price range; one the catalogue does not know ("ghost", 5) has no category."""
    mask = catalogue.allowed(**filters)
    assert mask is not None
    assert mask.shape == (6,)
    assert mask.nonzero()[0].tolist() == internal_ids


def test_titles_go_by_internal_id(catalogue: Catalogue) -> None:
    assert [catalogue.title(n) for n in (2, 4, 5)] == ["A shoe", None, None]


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
    mask = catalogue.allowed()
    assert mask is not None
    assert mask.nonzero()[0].tolist() == [3, 4, 5]
    await update(available=True, categories=["home"])
    assert catalogue.allowed() is None
    moved = catalogue.allowed(categories={"home"})
    assert moved is not None
    assert moved.nonzero()[0].tolist() == [2, 4]


async def test_a_document_written_wrongly_is_left_out(catalogue: Catalogue, filled: Mongo) -> None:
    change = {"$set": {"price": "cheap", "updated_at": datetime.now(UTC)}}
    await filled.database.items.update_one({"_id": "shoe"}, change)
    await catalogue.refresh()
    assert catalogue.title(2) == "A shoe"
    assert await catalogue.find(["shoe"]) == {}


async def test_an_outage_keeps_what_is_known_and_is_counted(stores: EmbeddedStores, filled: Mongo) -> None:
    failed = asyncio.Event()
    async with Proxy(urlsplit(stores.mongo_url).port or 0) as proxy:
        url = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
        behind = await mongo_module.connect(url, filled.database.name, 1000)
        async with Catalogue(behind.database, VOCABULARY, 0.01, on_failure=failed.set) as catalogue:
            proxy.cut()
            await asyncio.wait_for(failed.wait(), 30)
            assert catalogue.failures >= 1
            assert catalogue.title(2) == "A shoe"
            with pytest.raises(HistoryUnavailable):
                await catalogue.find(["shoe"])
        await behind.close()


async def test_the_background_picks_up_a_change(filled: Mongo) -> None:
    async with Catalogue(filled.database, VOCABULARY, 0.01) as catalogue:
        change = {"$set": {"title": "A better shoe", "updated_at": datetime.now(UTC)}}
        await filled.database.items.update_one({"_id": "shoe"}, change)
        async with asyncio.timeout(30):
            while catalogue.title(2) != "A better shoe":
                await filled.ping()
