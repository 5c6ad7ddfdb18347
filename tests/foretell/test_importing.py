"""The ``foretell import`` command: what it writes, what it says, and its exit codes."""

from __future__ import annotations

import shlex
from pathlib import Path

import polars as pl
import pymongo
import pytest
import typer
from typer.testing import CliRunner, Result

from foretell.commands.importing import import_, import_files
from foretell.embedded import EmbeddedStores
from models.datasets.dataset import Dataset

LOG = """who,what,did,when,paid,dev
1,a,pv,2025-03-01 10:00,,mobile
1,a,buy,2025-03-01 10:01,9.5,mobile
1,a,buy,2025-03-01 10:01,9.5,mobile
2,b,wave,2025-03-01 10:02,,desktop
"""
FLAGS = ["--user", "who", "--item", "what", "--type", "did", "--time", "when", "--value", "paid"]
RENAME = ["--rename", "pv=click", "--rename", "buy=purchase"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with one log in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    Path("log.csv").write_text(LOG, encoding="utf-8")
    return tmp_path


def run(*words: str) -> Result:
    app = typer.Typer()
    app.command()(import_)
    return CliRunner().invoke(app, list(words))


def test_a_log_becomes_a_data_set_and_its_bad_rows_a_file_beside_it() -> None:
    result = run("log.csv", *FLAGS, *RENAME, "--context", "device=dev")
    assert result.exit_code == 0, result.output
    dataset = Dataset.read(Path("data/log"))
    assert dataset.events.select("user_id", "item_id", "type", "value", "context_device").rows() == [
        ("1", "a", "click", None, "mobile"),
        ("1", "a", "purchase", 9.5, "mobile"),
    ]
    rejected = pl.read_parquet("log.rejected.parquet")
    assert rejected.select("line_number", "reason", "did").rows() == [
        (4, "duplicate", "buy"),
        (5, "unknown type", "wave"),
    ]
    for words in ("events read", "rejected: duplicate", "log.rejected.parquet", "foretell train data/log"):
        assert words in result.output


def test_malformed_lines_are_counted_and_written_with_the_other_rejected_rows() -> None:
    Path("log.csv").write_bytes(LOG.encode() + b"1,a\n\xff,b,buy,2025-03-01 10:03,1,tv\n2,c,pv,2025-03-01 10:04,,tv\n")
    result = run("log.csv", *FLAGS, *RENAME)
    assert result.exit_code == 0, result.output
    report = Dataset.read(Path("data/log")).info["report"]
    assert (report["read"], report["kept"], report["rejected"]["malformed"]) == (7, 3, 2)
    assert "rejected: malformed" in result.output
    rejected = pl.read_parquet("log.rejected.parquet").filter(reason="malformed")
    assert rejected["line_number"].to_list() == [6, 7]
    assert rejected["line"].to_list() == ["1,a", "\\xff,b,buy,2025-03-01 10:03,1,tv"]


def test_beside_an_input_that_cannot_be_written_to_rejected_rows_go_into_out_and_it_is_said() -> None:
    """A folder of the name that the file would have stands for a folder that refuses: root may write everywhere."""
    Path("log.rejected.parquet").mkdir()
    result = run("log.csv", *FLAGS, *RENAME, "--out", "sets/x")
    assert result.exit_code == 0, result.output
    assert "so the rejected rows lie elsewhere" in result.output
    assert "Rejected rows: sets/x/log.rejected.parquet" in result.output
    assert len(pl.read_parquet("sets/x/log.rejected.parquet")) == 2
    assert Dataset.read(Path("sets/x")).info["counts"]["events"] == 2


def test_a_mapping_file_does_what_flags_do() -> None:
    Path("own.toml").write_text(
        'name = "own"\nuser = "who"\nitem = "what"\ntype = "did"\ntime = "when"\nvalue = "paid"\n'
        '[types]\npv = "click"\nbuy = "purchase"\n',
        encoding="utf-8",
    )
    assert run("log.csv", "--mapping", "own.toml", "--rejected", "bad", "--out", "sets/x").exit_code == 0
    assert Dataset.read(Path("sets/x")).name == "own"
    assert Path("bad/log.rejected.parquet").exists()


def test_a_shipped_mapping_is_recognised_and_said() -> None:
    Path("t.csv").write_text("user_id,item_id,category_id,behavior,ts\n1,2,3,pv,1511544070\n", encoding="utf-8")
    result = run("t.csv")
    assert result.exit_code == 0, result.output
    assert "The columns are those of taobao" in result.output
    assert Dataset.read(Path("data/taobao")).items["categories"].to_list() == [["3"]]


def test_the_licence_is_kept_for_the_model_card() -> None:
    run("log.csv", *FLAGS, *RENAME, "--licence", "ours alone", "--out", "set")
    assert Dataset.read(Path("set")).info["licence"] == "ours alone"


def test_commands_whose_result_is_json_import_without_a_word_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    rows = "user_id,item_id,category_id,behavior,ts\n1,2,3,pv,1512000000\n"
    Path("taobao.csv").write_text(rows, encoding="utf-8")
    assert len(import_files(["taobao.csv"], Path("set"), Path("rejected")).events) == 1
    assert capsys.readouterr().out == ""


def test_a_log_of_ratings_uses_its_own_domain() -> None:
    Path("r.jsonl").write_text('{"user": 1, "item": 2, "at": 1511544070, "rating": 4.5}\n', encoding="utf-8")
    result = run("r.jsonl", "--constant-type", "rate", "--domain", "ratings", "--name", "films")
    assert result.exit_code == 0, result.output
    dataset = Dataset.read(Path("data/films"))
    assert dataset.events.row(0)[:4] == ("films-0", "1", "2", "rate")
    assert dataset.events["value"].to_list() == [4.5]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["log.csv"], 2, "known as the user"),
        (["log.csv", *FLAGS[2:], "--user", "nobody"], 2, "no column 'nobody'"),
        (["log.csv", *FLAGS, "--domain", "nonsense"], 2, "No domain 'nonsense'"),
        (["log.csv", "--mapping", "nonsense"], 2, "No mapping 'nonsense'"),
        (["log.csv", *FLAGS, "--rename", "pv=wave"], 2, "makes 'wave' of a type"),
        (["completejourney", "log.csv"], 2, "on their own"),
        (["none.csv"], 1, "There is no file"),
        (["."], 1, "is a folder"),
        (["empty.csv"], 1, "empty.csv cannot be read: it is empty."),
        (["header.csv"], 1, "header.csv has a header and no row under it"),
        (["parquet.csv"], 1, "it is a Parquet file; name it .parquet"),
        (["log.csv", "--items", "header.xlsx"], 1, "There is no file"),
        (["log.csv", *FLAGS], 1, "No event is left"),
        (["log.csv", *FLAGS, *RENAME, "--out", "."], 1, "holds no data set"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_an_exit_code(words: list[str], code: int, says: str) -> None:
    Path("empty.csv").touch()
    Path("header.csv").write_text("user,item,type,time\n", encoding="utf-8")
    Path("parquet.csv").write_bytes(b"PAR1")
    result = run(*words)
    assert result.exit_code == code, result.output
    assert says in result.stderr
    assert "Traceback" not in result.output


def test_rejected_rows_are_written_even_when_nothing_is_left() -> None:
    run("log.csv", *FLAGS)
    assert pl.read_parquet("log.rejected.parquet")["reason"].to_list() == ["unknown type"] * 4


def test_a_mongodb_that_does_not_answer_is_one_sentence_and_the_data_set_stays(unused_tcp_port: int) -> None:
    url = f"mongodb://127.0.0.1:{unused_tcp_port}/?serverSelectionTimeoutMS=200"
    result = run("log.csv", *FLAGS, *RENAME, "--mongo", url)
    assert result.exit_code == 1
    assert "Connection refused" in result.stderr
    assert "Traceback" not in result.output
    assert Dataset.read(Path("data/log")).info["counts"]["events"] == 2


def test_the_walk_through_of_the_docs_works_as_printed() -> None:
    block = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8").split("```sh\n")[1]
    log, rest = block.split("<<'CSV'\n")[1].split("CSV\n", 1)
    Path("log.csv").write_text(log, encoding="utf-8")
    command = shlex.split(rest.split("foretell train")[0].replace("\\\n", " "))
    result = run(*command[2:])
    assert result.exit_code == 0, result.output
    assert Dataset.read(Path("data/myshop")).events["type"].to_list() == ["click", "purchase", "click"]


def test_a_data_set_is_loaded_into_mongodb_once(stores: EmbeddedStores) -> None:
    words = ["log.csv", *FLAGS, *RENAME, "--mongo", stores.mongo_url, "--database", "importing"]
    first, again = run(*words), run(*words)
    assert (first.exit_code, again.exit_code) == (0, 0), first.output + again.output
    assert "loaded in" in first.output
    assert "holds it already" in again.output
    with pymongo.MongoClient[dict[str, object]](stores.mongo_url) as client:
        assert client["importing"]["events"].count_documents({}) == 2
        client.drop_database("importing")
