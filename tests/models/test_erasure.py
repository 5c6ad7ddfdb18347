"""The next data set is built without the users that were erased, and no file beside it names them either."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from models.datasets.mapping import Columns
from models.datasets.tables import read_users
from models.domain import load_domain
from models.erasure import Erased, ErasureError, erasure_hash
from models.preprocess import clean

SALT = bytes(range(32))
GONE_AT = datetime(2025, 3, 1, 12, tzinfo=UTC)
ERASED = Erased(SALT, {erasure_hash(SALT, "gone"): GONE_AT})
COLUMNS = Columns(user="u", item="i", time="at", type="t")


def test_the_hash_is_hmac_sha256() -> None:
    """By hand: printf gone | openssl dgst -sha256 -mac hmac -macopt hexkey:000102...1f."""
    assert erasure_hash(SALT, "gone") == "7015449710e64d26a666c2d31a9db74563192dae5db8247a1a58666d0349113a"


def test_rows_up_to_the_erasure_are_left_out_and_told_nowhere_and_later_ones_stay() -> None:
    rows = [
        ("gone", "2025-02-01", "click"),
        ("gone", "2025-03-01 12:00:00", "click"),
        ("gone", "2025-03-01 12:00:01", "click"),  # came back
        (" gone ", "2025-02-02", "click"),
        ("gone", "2025-02-03", "wave"),  # its type is unknown as well
        ("gone", "soon", "click"),  # nobody knows when
        ("other", "2025-02-01", "click"),
        ("other", "2025-02-01", "wave"),
        (None, "2025-02-01", "click"),
    ]
    frame = pl.DataFrame(rows, schema=["u", "at", "t"], orient="row").with_columns(i=pl.lit("x"))
    result = clean([frame], COLUMNS, load_domain("ecommerce"), "toy", datetime(2025, 3, 10, tzinfo=UTC), ERASED)
    kept = result.events.select("user_id", pl.col("at").dt.to_string("%d %H:%M:%S")).rows()
    assert sorted(kept) == [("gone", "01 12:00:01"), ("other", "01 00:00:00")]
    assert result.reasons == {"user erased": 5, "unknown type": 1, "user missing": 1}
    assert (result.read, result.kept) == (9, 2)
    (rejected,) = result.rejected
    assert rejected["u"].to_list() == ["other", None]
    assert rejected["row"].to_list() == [7, 8]


def test_a_list_of_nobody_changes_nothing() -> None:
    frame = pl.DataFrame({"u": ["gone"], "at": ["2025-02-01"], "t": ["click"], "i": ["x"]})
    result = clean(
        [frame], COLUMNS, load_domain("ecommerce"), "toy", datetime(2025, 3, 10, tzinfo=UTC), Erased(SALT, {})
    )
    assert result.kept == 1


def test_a_table_of_users_loses_the_erased_ones_and_tells_of_them_nowhere() -> None:
    raw = pl.DataFrame({"user_id": ["gone", "other", " gone", "other"], "country": ["DE", "FR", "DE", "IT"]})
    table = read_users(raw, ERASED)
    assert table.kept.rows() == [("other", "IT")]
    assert table.reasons == {"user erased": 2, "duplicate": 1}
    assert table.rejected["user_id"].to_list() == ["other"]


def test_a_list_survives_its_file(tmp_path: Path) -> None:
    file = tmp_path / "erased.jsonl"
    file.write_text("".join(f"{line}\n" for line in ERASED.lines()))
    assert Erased.read(file) == ERASED
    assert "gone" not in file.read_text()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"salt": "xyz"}',
        '{"salt": "00"}\n{"user": "a"}',
        '{"salt": "00"}\n{"user": "a", "at": "2025-01-01"}',
    ],
)
def test_what_is_no_list_is_refused_in_a_sentence(tmp_path: Path, content: str) -> None:
    file = tmp_path / "erased.jsonl"
    file.write_text(content)
    with pytest.raises(ErasureError, match="is no list of erased users"):
        Erased.read(file)
