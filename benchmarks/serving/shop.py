"""What is served in the benchmark: an untrained model of the storefront's contract, and a shop of users with histories.

Speed does not depend on what the weights say, so nothing is trained; sizes can then be anything.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pymongo

from app.mongo import EVENT_INDEX
from models.artifact import Artifact, open_artifact, versions
from models.contract import FIRST, Contract
from models.encode import encode_items
from models.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
#: Items that histories are about: in every catalogue that is measured.
TOUCHED = 5_000
BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Shop:
    """Sizes of a benchmark.

    Attributes:
        items: of the catalogue.
        history: events a state looks back on; every user has ten more.
        users: with a history.
        described: whether the collection ``items`` holds the catalogue; without it everything is on offer.
    """

    items: int = 20_000
    history: int = 50
    users: int = 2_000
    described: bool = True

    @property
    def model(self) -> str:
        """The name of its artifact: another one whenever the code of the model changes."""
        return f"bench-{self.items}-{self.history}-{_code()}"

    @property
    def database(self) -> str:
        """The name of its database."""
        return f"bench_{self.items if self.described else 0}_{self.history}_{self.users}"


def user_name(number: int) -> str:
    """External id of a user; users.lua writes the same."""
    return f"u{number}"


def item_name(number: int) -> str:
    """External id of an item."""
    return f"i{number}"


def publish_model(shop: Shop, root: Path) -> Artifact:
    """The artifact of a shop below ``root``; made where it is missing (importing TensorFlow then)."""
    if versions(root, shop.model):
        return open_artifact(root, shop.model)
    for old in root.glob(f"bench-{shop.items}-{shop.history}-*"):
        shutil.rmtree(old)
    from models.export import export
    from models.run import TrainConfig, build_network, build_variables

    shipped = open_artifact(ROOT / "models" / "saved", "storefront")
    vocabulary = Vocabulary(
        [item_name(number) for number in range(shop.items)], shipped.vocabulary.fields, shipped.vocabulary.categories
    )
    contract = replace(shipped.contract, items=len(vocabulary), history_length=shop.history, state_shape=(0, 0))
    network = build_network(contract, _content(vocabulary, contract), TrainConfig(size="small"))  # 64 wide
    build_variables(network)
    facts = {"dataset": {"name": "storefront", "synthetic": True}, "training": {"model": "behaviour", "epochs": 0}}
    return export(
        network, root, shop.model, kind="behaviour", vocabulary=vocabulary, golden=[], metrics={}, facts=facts
    )


def load_shop(shop: Shop, mongo_url: str) -> None:
    """Put users, their events and the catalogue into MongoDB; nothing happens where they are there already."""
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongo_url, serverSelectionTimeoutMS=5000)
    with client:
        store = client[shop.database]
        if store["meta"].find_one({"_id": "bench"}) is not None:
            return
        client.drop_database(shop.database)
        now = datetime.now(UTC).replace(microsecond=0)
        documents = {"users": _users(shop), "events": _events(shop, now)}
        if shop.described:
            documents["items"] = _items(shop, now)
        for name, rows in documents.items():
            for start in range(0, len(rows), BATCH):
                store[name].insert_many(rows[start : start + BATCH], ordered=False)
        store["events"].create_index(EVENT_INDEX)
        store["meta"].insert_one({"_id": "bench"})


def write_titles(shop: Shop, path: Path) -> None:
    """Titles by place in the vocabulary, for those who do not read the catalogue."""
    titles = [f"Item {number}" if shop.described else None for number in range(shop.items)]
    path.write_text(json.dumps(titles), encoding="utf-8")


def _code() -> str:
    """Eight digits that tell one state of the model's code from another."""
    sources = sorted((ROOT / "models").glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:8]


def _content(vocabulary: Vocabulary, contract: Contract) -> dict[str, Any]:
    """Prices, paths and popularities drawn at random, with rows for PAD and UNKNOWN."""
    rng, count = np.random.default_rng(1), len(vocabulary.items)
    drawn = [rng.integers(0, len(level), count) for level in vocabulary.categories]
    levels = [np.array(level)[row] for level, row in zip(vocabulary.categories, drawn, strict=True)]
    paths = np.stack(levels, axis=1).tolist()
    prices, popular = rng.lognormal(1, 0.5, count).tolist(), rng.integers(5, 5_000, count).astype(np.float64)
    rows = encode_items(paths, prices, popular, vocabulary, contract)
    return {name: np.concatenate([np.zeros((FIRST, *r.shape[1:]), r.dtype), r]) for name, r in rows.items()}


def _users(shop: Shop) -> list[dict[str, Any]]:
    profile = {"age": "30-44", "household": "2", "country": "DE"}
    return [{"_id": user_name(number), "profile": profile} for number in range(shop.users)]


def _items(shop: Shop, now: datetime) -> list[dict[str, Any]]:
    prices = np.random.default_rng(2).lognormal(1, 0.5, shop.items).round(2).tolist()
    return [
        {
            "_id": item_name(number),
            "title": f"Item {number}",
            "categories": [f"department {number % 14}", f"aisle {number % 185}"],
            "price": price,
            "available": True,
            "updated_at": now,
        }
        for number, price in enumerate(prices)
    ]


def _events(shop: Shop, now: datetime) -> list[dict[str, Any]]:
    rng, count = np.random.default_rng(3), shop.history + 10
    touched = rng.integers(0, min(TOUCHED, shop.items), (shop.users, count)).tolist()
    kinds = rng.choice(["click", "cart", "purchase"], (shop.users, count), p=[0.8, 0.1, 0.1]).tolist()
    return [
        {
            "_id": f"{user_name(user)}-{place}",
            "user_id": user_name(user),
            "item_id": item_name(touched[user][place]),
            "type": kinds[user][place],
            "at": now - timedelta(hours=count - place),
        }
        | ({"value": 9.9} if kinds[user][place] == "purchase" else {})
        for user in range(shop.users)
        for place in range(count)
    ]
