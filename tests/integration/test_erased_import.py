"""From DELETE /users/{id} to the next data set: the list leaves the service and is obeyed."""

from __future__ import annotations

from pathlib import Path

import pymongo
from typer.testing import CliRunner

from app.erasures import Erasures
from app.mongo import Mongo
from app.pseudonyms import aliased
from foretell.cli import app as cli
from foretell.embedded import EmbeddedStores
from models.datasets.dataset import Dataset

LOG = "user_id,item_id,type,timestamp\n" + "".join(
    f"{user},item-{n},click,2025-01-0{n}\n" for user in ("stays", "user-7f3a-gone") for n in (1, 2, 3)
)


async def test_a_data_set_built_with_the_list_of_the_service_has_no_erased_user_in_any_file(
    mongo: Mongo, stores: EmbeddedStores, tmp_path: Path
) -> None:
    erasures = await Erasures.open(mongo.database)
    await erasures.add(["user-7f3a-gone", "somebody-else"])
    _import(tmp_path, stores.mongo_url, mongo.database.name)


def _import(folder: Path, url: str, database: str) -> None:
    (folder / "log.csv").write_text(LOG + "user-7f3a-gone,item-9,wave,2025-01-04\n")
    listed = CliRunner().invoke(cli, ["erased", str(folder / "erased"), "--mongo", url, "--database", database])
    assert listed.exit_code == 0, listed.output
    options = ["--erased", str(folder / "erased"), "--out", str(folder / "set"), "--name", "toy"]
    made = CliRunner().invoke(cli, ["import", str(folder / "log.csv"), *options])
    assert made.exit_code == 0, made.output
    dataset = Dataset.read(folder / "set")
    assert dataset.users["user_id"].to_list() == ["stays"]
    assert len(dataset.events) == 3
    assert dataset.info["report"]["rejected"] == {"user erased": 4}
    for file in folder.rglob("*"):
        if file.is_file() and file.name != "log.csv":
            assert b"user-7f3a-gone" not in file.read_bytes(), file


def test_a_load_into_mongodb_uses_the_ids_that_the_service_stores(stores: EmbeddedStores, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    database, key = f"load_{tmp_path.name}"[:60], "0123456789abcdef"
    options = ["--out", str(tmp_path / "set"), "--mongo", stores.mongo_url, "--database", database]
    made = CliRunner().invoke(cli, ["import", str(tmp_path / "log.csv"), *options], env={"FORETELL_PSEUDONYM_KEY": key})
    assert made.exit_code == 0, made.output
    with pymongo.MongoClient[dict[str, object]](stores.mongo_url) as client:
        names = {"stays", "user-7f3a-gone"}
        assert set(client[database]["events"].distinct("user_id")) == set(map(aliased(key), names))
        assert set(client[database]["users"].distinct("_id")) == set(map(aliased(key), names))
        client.drop_database(database)


def test_without_a_list_the_command_says_so(stores: EmbeddedStores, tmp_path: Path) -> None:
    options = ["--mongo", stores.mongo_url, "--database", "never_served"]
    done = CliRunner().invoke(cli, ["erased", str(tmp_path / "erased"), *options])
    assert done.exit_code == 1
    assert "has no list of erased users" in done.stderr
