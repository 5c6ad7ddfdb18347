"""Files of every format become the same data set; what cannot be read is said in one sentence."""

from __future__ import annotations

import gzip
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.datasets.dataset import Dataset
from models.datasets.files import Extras, NothingLeft, build, choose
from models.datasets.mapping import Columns
from models.datasets.rejected import Written, write_rejected
from models.datasets.schema import DatasetError
from models.datasets.source import Source, aligned, read, stem_of
from models.domain import load_domain
from tests.models.real_data import real_file

NOW = datetime(2025, 3, 10, tzinfo=UTC)
SHOP = load_domain("ecommerce")
CSV = """user_id,item_id,type,timestamp,amount
007,a,click,2025-03-01T10:00:00Z,
007,a,purchase,2025-03-01T10:01:00Z,9.5
8,b,purchase,yesterday,1
8,"b, c",click,1740825600,
"""


def sample(tmp_path: Path, ending: str) -> Path:
    """The four rows of CSV in a file with this ending."""
    path = tmp_path / f"log{ending}"
    frame = pl.read_csv(CSV.encode(), infer_schema=False)
    if ending == ".parquet":
        frame.write_parquet(path)
        return path
    text = CSV if "csv" in ending else frame.write_ndjson()
    text = frame.write_csv(separator="\t") if "tsv" in ending else text
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith(".gz") else text.encode())
    return path


def load(path: Path, given: Columns | None = None) -> Dataset:
    source = read(path)
    columns, _ = choose(source.frame.columns, given or Columns())
    return build([source], columns, SHOP, "toy", NOW).dataset


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".tsv", ".jsonl", ".ndjson", ".jsonl.gz", ".parquet"])
def test_every_format_gives_the_same_events(tmp_path: Path, ending: str) -> None:
    dataset = load(sample(tmp_path, ending))
    rows = dataset.events.select("event_id", "user_id", "item_id", "type", "value").rows()
    assert rows == [
        ("toy-0", "007", "a", "click", None),
        ("toy-1", "007", "a", "purchase", 9.5),
        ("toy-3", "8", "b, c", "click", None),
    ]
    assert dataset.info["report"]["rejected"] == {"time unreadable": 1}
    (source,) = dataset.info["source"]
    assert (source["file"], source["rows"], len(source["sha256"])) == (f"log{ending}", 4, 64)


HEADER = b"user_id,item_id,type,timestamp\n"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("log.jsonl", b'[\n{"a": 1},\n]\n', "not one of its lines is a JSON object"),
        ("log.jsonl", HEADER, "not one of its lines is a JSON object"),
        ("log.csv", b'{"user_id": 1, "item_id": 2}\n', r"JSON, not a header; name it \.jsonl"),
        ("log.csv", b"PAR1....", r"it is a Parquet file; name it \.parquet"),
        ("log.csv", gzip.compress(HEADER, mtime=0), r"compressed with gzip; add \.gz"),
        ("log.csv", b"PK\x03\x04...", "ZIP archive or a spreadsheet"),
        ("log.csv", "user_id,item_id".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        ("log.csv", b"us\xe9r,item\n1,2\n", "its first line is no header: not UTF-8"),
        ("log.csv", b'"user,item\n1,2\n', "its first line is no header"),
        ("log.csv", b"user,item,user\n1,2,3\n", "its header names 'user' twice"),
        ("log.csv", b"", "it is empty"),
        ("log.csv.gz", b"", "it is empty"),
        ("log.jsonl", b"\r\n \n", "it is empty"),
        ("log.parquet", b"no parquet", "must contain a header and footer"),
        ("log.csv.gz", b"no gzip", "Not a gzipped file"),
        ("log.csv.gz", gzip.compress(HEADER * 99, mtime=0)[:-9], "Compressed file ended before"),
        ("log.csv.gz", gzip.compress(HEADER, mtime=0)[:10] + b"\xff" * 40, "Error -3 while decompressing"),
        ("log.xlsx", b"", "its name ends in none of .csv, .csv.gz"),
        ("log.rejected.parquet", b"", "it holds rows that an earlier import rejected"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_the_reason_said(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=f"{name} cannot be read: .*{says}") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "logs.csv").mkdir()
    with pytest.raises(DatasetError, match=r"There is no file .*none\.csv\."):
        read(tmp_path / "none.csv")
    with pytest.raises(DatasetError, match=r"logs\.csv is a folder; name the files in it\."):
        read(tmp_path / "logs.csv")


def test_a_file_that_may_not_be_read_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system is asked as root too, which may read everything; so the refusal is played."""
    (tmp_path / "log.csv").write_bytes(HEADER)

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DatasetError, match=r"^log\.csv cannot be read: Permission denied\.$"):
        read(tmp_path / "log.csv")


def test_a_header_without_rows_is_nothing_to_import_but_may_stand_beside_other_files(tmp_path: Path) -> None:
    (tmp_path / "monday.csv").write_bytes(HEADER)
    (tmp_path / "tuesday.csv").write_bytes(HEADER + b"1,2,click,2025-03-01\n")
    sources = [read(tmp_path / "monday.csv"), read(tmp_path / "tuesday.csv")]
    columns, _ = choose(sources[0].frame.columns, Columns())
    assert len(build(sources, columns, SHOP, "toy", NOW).dataset.events) == 1
    with pytest.raises(DatasetError, match=r"monday\.csv has a header and no row under it"):
        build(sources[:1], columns, SHOP, "toy", NOW)


def test_malformed_lines_are_rejected_rows_with_their_line_and_number(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(HEADER + b"1,2,click,2025-03-01\n1,2\n\n1,2,wave,2025-03-01\n\xff\n")
    source = read(tmp_path / "log.csv")
    columns, _ = choose(source.frame.columns, Columns())
    made = build([source], columns, SHOP, "toy", NOW)
    assert made.dataset.info["report"] == {
        "read": 4,
        "kept": 1,
        "rejected": {"malformed": 2, "unknown type": 1},
        "ignored_values": 0,
    }
    assert made.dataset.info["source"][0]["rows"] == 4
    ((_, rejected),) = made.rejected
    assert rejected.select("line_number", "reason", "type", "problem", "line").rows() == [
        (3, "malformed", None, "2 cells where the header has 4", "1,2"),
        (5, "unknown type", "wave", None, None),
        (6, "malformed", None, "not UTF-8", "\\xff"),
    ]


GOOD_LINES = {
    "log.csv": '"u{n}",i,click,2025-03-01',
    "log.jsonl": '{{"user_id": "u{n}", "item_id": 7, "type": "click", "timestamp": 1740825600}}',
}
garbage = st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))


@pytest.mark.parametrize("name", GOOD_LINES)
@settings(deadline=None, max_examples=50)
@given(mixed=st.lists(st.one_of(st.none(), garbage), max_size=20))
def test_whatever_stands_between_good_lines_kept_and_rejected_add_up(name: str, mixed: list[bytes | None]) -> None:
    """None stands for a good line; each of them has a user of its own and becomes an event."""
    lines = [GOOD_LINES[name].format(n=n).encode() if line is None else line for n, line in enumerate([None, *mixed])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes((HEADER if name.endswith(".csv") else b"") + b"\n".join(lines))
        source = read(path)
    columns = Columns(user="user_id", item="item_id", type="type", time="timestamp")
    made = build([source], columns, SHOP, "toy", NOW)
    report, ((_, rejected),) = made.dataset.info["report"], made.rejected
    assert report["read"] == report["kept"] + sum(report["rejected"].values()) == report["kept"] + len(rejected)
    assert {f"u{n}" for n, line in enumerate([None, *mixed]) if line is None} <= {*made.dataset.events["user_id"]}
    if name.endswith(".jsonl"):  # in CSV a quoted cell may run over several lines
        assert report["read"] == sum(bool(line.strip()) for line in lines)


def test_json_lines_files_may_lack_keys_that_others_have_and_tables_may_not(tmp_path: Path) -> None:
    row = '{"user": 1, "item": 2, "type": "purchase", "ts": 1740825600'
    (tmp_path / "a.jsonl").write_text(row + ', "amount": 5}\n', encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(row.replace("1,", "2,", 1) + "}\n", encoding="utf-8")
    (tmp_path / "c.csv").write_bytes(HEADER)
    sources = aligned([read(tmp_path / name) for name in ("b.jsonl", "a.jsonl", "c.csv")])
    assert sources[2].frame.columns == ["user_id", "item_id", "type", "timestamp"]
    columns, _ = choose(sources[0].frame.columns[:5], Columns())
    events = build(sources[:2], columns, SHOP, "toy", NOW).dataset.events
    assert events.select("user_id", "value").rows() == [("1", 5.0), ("2", None)]


def test_objects_within_parquet_rows_are_columns_too(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"user": ["u"], "item": ["i"], "type": ["click"], "ts": [1740825600], "context": [{"os": "x"}]}
    )
    frame.write_parquet(tmp_path / "log.parquet")
    assert load(tmp_path / "log.parquet").events["context_os"].to_list() == ["x"]


def test_a_file_of_which_nothing_is_left_says_why(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,type,ts\n1,2,wave,2025-03-01\n", encoding="utf-8")
    with pytest.raises(NothingLeft) as caught:
        load(tmp_path / "log.csv")
    assert caught.value.report["rejected"] == {"unknown type": 1}


def test_items_and_users_files_go_over_what_events_say(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title,price\na,Apple,2\nz,Zebra,bad\n", encoding="utf-8")
    (tmp_path / "users.jsonl").write_text('{"user_id": "8", "age": 40}\n', encoding="utf-8")
    source = read(sample(tmp_path, ".csv"))
    columns, how = choose(source.frame.columns, Columns())
    assert how == "Columns: user = user_id, item = item_id, type = type, time = timestamp, value = amount."
    extras = Extras(read(tmp_path / "items.csv"), read(tmp_path / "users.jsonl"))
    made = build([source], columns, SHOP, "toy", NOW, extras)
    assert made.dataset.items.select("item_id", "title", "price").rows() == [("a", "Apple", 2.0), ("b, c", None, None)]
    assert made.dataset.users.rows() == [("007", None), ("8", "40")]
    assert made.dataset.info["report"]["items"] == {"read": 2, "kept": 1, "rejected": {"price unreadable": 1}}
    assert [len(rows) for _, rows in made.rejected] == [1, 1, 0]


def test_rejected_rows_are_written_beside_their_input_without_overwriting_each_other(tmp_path: Path) -> None:
    rows = pl.DataFrame({"row": [0], "reason": ["duplicate"]})
    sources = [Source(tmp_path / name, pl.DataFrame(), "") for name in ("2025.01.csv.gz", "2025.01.jsonl", "ok.csv")]
    written = write_rejected(
        [(sources[0], rows), (sources[1], rows), (sources[2], rows.clear())], None, tmp_path / "out"
    )
    assert [file.path.name for file in written] == ["2025.01.rejected.parquet", "2025.01.rejected-2.parquet"]
    assert pl.read_parquet(written[1].path).equals(rows)


def test_rejected_rows_go_elsewhere_when_the_folder_cannot_be_written_and_it_is_said(tmp_path: Path) -> None:
    """A file where the folder should be stands for a folder that refuses: root may write everywhere."""
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    source = Source(tmp_path / "log.csv", pl.DataFrame(), "")
    rows = pl.DataFrame({"row": [0]})
    (written,) = write_rejected([(source, rows)], tmp_path / "file", tmp_path / "out")
    assert written == Written(
        tmp_path / "out" / "log.rejected.parquet", f"{tmp_path / 'file'} cannot be written (File exists)"
    )
    with pytest.raises(DatasetError, match=r"have no place: .*file cannot be written .* give a folder with --rejected"):
        write_rejected([(source, rows)], tmp_path / "file", tmp_path / "file" / "deeper")


def test_the_stem_is_the_name_without_its_ending() -> None:
    assert [stem_of(Path(name)) for name in ("a.csv", "a.b.csv.gz", "A.PARQUET")] == ["a", "a.b", "A"]


RETAIL = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536365,85123A,HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536366,DCGS0003,BOX,2,2010-12-01 08:28:00,1.5,17850.0,France
536367,POST,POSTAGE,1,2010-12-01 09:00:00,18,12583.0,France
C536379,D,Discount,-1,2010-12-01 09:41:00,27.5,14527.0,United Kingdom
536380,22961,JAM,0,2010-12-01 09:41:00,1.45,17809.0,United Kingdom
536381,22962,JAR,1,2010-12-01 09:41:00,0,17809.0,United Kingdom
536382,22963,LID,1,2010-12-01 09:41:00,5,,United Kingdom
"""


@pytest.mark.parametrize("names", ["", "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country"])
def test_online_retail_by_hand(tmp_path: Path, names: str) -> None:
    """Eight lines: two purchases stay, and six are rejected for six reasons; by the names of Online Retail II too."""
    header, rows = RETAIL.split("\n", 1)
    (tmp_path / "retail.csv").write_text(f"{names or header}\n{rows}", encoding="utf-8")
    dataset = load(tmp_path / "retail.csv")
    assert dataset.events.select("user_id", "item_id", "type", "value").rows() == [
        ("17850.0", "85123A", "purchase", pytest.approx(15.3)),
        ("17850.0", "DCGS0003", "purchase", pytest.approx(3.0)),
    ]
    assert dataset.info["report"]["rejected"] == {
        "duplicate": 1,
        "not a product": 1,
        "cancelled invoice": 1,
        "quantity not positive": 1,
        "price not positive": 1,
        "user missing": 1,
    }
    assert dataset.users["profile_country"].to_list() == ["France"]
    assert dataset.items.select("item_id", "title", "price").rows()[0] == ("85123A", "HEART", 2.55)


def test_taobao_imports_whole() -> None:
    """84,440 events of 815 users, as ../shared/data/README.md counts them by type."""
    dataset = load(real_file("taobao_userbehavior_815users.parquet"))
    counts = dict(dataset.events["type"].value_counts().iter_rows())
    assert counts == {"click": 75_837, "cart": 4_497, "favourite": 2_356, "purchase": 1_750}
    assert dataset.info["counts"] == {"events": 84_440, "users": 815, "items": 55_344, "exposures": 0}
    assert dataset.items["categories"].list.len().to_numpy().min() == 1


def test_online_retail_imports_with_every_rejected_line_accounted_for() -> None:
    dataset = load(real_file("online_retail_cc0.parquet"))
    report = dataset.info["report"]
    assert report["read"] == 541_909
    assert report["kept"] + sum(report["rejected"].values()) == 541_909
    assert report["rejected"]["user missing"] == 135_080
    assert report["rejected"]["cancelled invoice"] == 8_905
    assert "17850" in dataset.users["user_id"]
    assert (dataset.events["value"] > 0).all()
