"""``foretell erased``: the list of erased users, for the next training set to be built without them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foretell.console import errors, fail


def erased(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the list.")],
    mongo: Annotated[str, typer.Option(envvar="FORETELL_MONGO_URL", help="URL of the MongoDB.")],
    database: Annotated[str, typer.Option(envvar="FORETELL_MONGO_DATABASE", help="Its database.")] = "foretell",
) -> None:
    """Write who was erased, as hashes, for `foretell import --erased FILE`."""
    import pymongo
    from pymongo.errors import PyMongoError

    from app.mongo import Document
    from models.erasure import Erased

    try:
        with pymongo.MongoClient[Document](mongo, serverSelectionTimeoutMS=5000, tz_aware=True) as client:
            meta = client[database]["meta"].find_one({"_id": "erasures"})
            times = {line["_id"]: line["at"] for line in client[database]["erased"].find()}
    except PyMongoError as error:
        fail(f"MongoDB does not answer ({type(error).__name__}); check FORETELL_MONGO_URL.")
    if meta is None:
        fail(f"The database {database} has no list of erased users; the service makes it at its first start.")
    lines = Erased(bytes(meta["salt"]), times).lines()
    out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    errors.print(f"{len(times)} erased ids are listed in {out}.", soft_wrap=True)
