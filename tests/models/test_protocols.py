"""The published protocols on small files: what they read, how they rank, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.contract import FIRST
from models.protocols import click, click_table, click_yardsticks, next_item
from models.protocols.next_item import Sequences, rank_of_last


def test_a_rank_counts_the_better_items_that_are_not_in_the_history() -> None:
    # ids 2..6; the history is 2, 3; the answer 4
    scores = np.array([[9, 9, 5.0, 1.0, 2.0, 3.0, 2.0]], np.float32)
    ranks = rank_of_last(scores, [np.array([2, 3, 4], np.int32)], left=1)
    assert ranks.tolist() == [3]  # 5 is better, 6 is as good, 2 is better but was had before


def test_what_is_no_number_ranks_last() -> None:
    """A network that has diverged must not look like one that is always right."""
    ranks = rank_of_last(np.full((1, 7), np.nan, np.float32), [np.array([2, 3, 4], np.int32)], left=1)
    assert ranks[0] >= 7


def test_the_log_of_sequences_leaves_out_the_last_two_items(tmp_path: Path) -> None:
    file = tmp_path / "sequences.txt"
    file.write_text("u1 a b c d\nu2 b c d\n", encoding="utf-8")
    sequences = Sequences.read(file)
    log = next_item.sequence_log(sequences, 50)
    assert [sequences.names[i - FIRST] for i in log.items] == ["a", "b", "b"]
    assert log.offsets.tolist() == [0, 2, 3]
    assert not log.contract.repeats


def test_users_of_too_few_items_are_left_out_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "sequences.txt"
    file.write_text("u1 a b c d\nu2 x y\nu3\nu4 a b c\n", encoding="utf-8")
    sequences = Sequences.read(file)
    assert sequences.names == ["a", "b", "c", "d"]
    assert [len(items) for items in sequences.items] == [4, 3]
    assert sequences.left_out == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no sequence"),
        ("u1 a b\n", "nobody has more than 3 items"),
        ("u1 a b c\nu2 b c a\n", "nobody has more than 3 items"),
    ],
)
def test_a_file_without_enough_to_learn_is_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "sequences.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        Sequences.read(file)


def test_a_pattern_in_sequences_is_learned(tmp_path: Path) -> None:
    """Users walk round a circle of 30 items, so the next item is certain and popularity knows nothing."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 30, 200)
    lines = [f"u{i} " + " ".join(f"i{(start + step) % 30}" for step in range(9)) for i, start in enumerate(starts)]
    file = tmp_path / "sequences.txt"
    file.write_text("\n".join(lines), encoding="utf-8")
    config = replace(next_item.DEFAULTS, size="tiny", epochs=12, learning_rate=1e-2, dropout=0.1, xla=False, batch=16)
    found = next_item.run_next_item(file, config)
    assert found["test"]["HR@5"] > 0.9
    assert found["test"]["NDCG@10"] > 3 * found["yardsticks"]["popularity"]["test"]["NDCG@10"]
    assert found["yardsticks"]["markov"]["test"]["HR@5"] == 1.0
    assert found["parameters"] > 0


def table(path: Path, rng: np.random.Generator) -> Path:
    """Clicks that depend on user and item together, not on either alone."""
    parts: dict[str, np.ndarray] = {}
    for part, rows in (("train", 6000), ("valid", 1000), ("test", 1000)):
        x = np.stack([rng.integers(0, 20, rows), rng.integers(0, 30, rows), rng.integers(0, 3, rows)], axis=1)
        parts |= {f"{part}_X": x.astype(np.int16), f"{part}_y": ((x[:, 0] + x[:, 1]) % 2).astype(np.int8)}
    np.savez(path, fields=np.array(["user", "item", "hour"]), **parts)  # type: ignore[arg-type]
    return path


def test_clicks_that_need_an_interaction_are_learned(tmp_path: Path) -> None:
    file = table(tmp_path / "clicks.npz", np.random.default_rng(0))
    config = replace(
        click.DEFAULTS, size="tiny", epochs=12, batch=64, learning_rate=1e-2, table_l2=0.0, input_dropout=0.0, xla=False
    )
    found = click.run_click(file, config)
    assert found["test"]["click"]["auc"] > 0.95
    assert set(found["test"]["click"]) == {"auc", "logloss", "ece"}
    assert {"auc", "logloss", "ece", "cross-fitted"} == set(found["valid"]["click"])


def test_values_that_training_has_not_seen_are_unknown() -> None:
    known = [np.array([3, 7])]
    assert click_table.encode(np.array([[3], [7], [5], [9]]), known).ravel().tolist() == [2, 3, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_y": None}, "lacks test_y"),
        ({"fields": np.array(["user", "thing", "hour"])}, "no field is called 'item'.*user, thing, hour"),
        ({"fields": np.array("item")}, "do not have one row"),
        ({"train_y": np.ones(6000)}, "train_y holds only 1"),
        ({"valid_y": np.zeros(1000)}, "valid_y holds only 0"),
        ({"valid_y": np.full(1000, 2)}, "something else than 0 and 1"),
        ({"train_X": np.zeros((5, 2), int)}, "do not have one row"),
    ],
)
def test_a_click_file_that_does_not_fit_is_refused_in_one_sentence(
    tmp_path: Path, change: dict[str, np.ndarray | None], message: str
) -> None:
    file = table(tmp_path / "clicks.npz", np.random.default_rng(0))
    with np.load(file) as arrays:
        changed = {**arrays, **change}
    np.savez(file, **{name: array for name, array in changed.items() if array is not None})
    with pytest.raises(ValueError, match=message):
        click_table.Table.read(file)


@pytest.mark.parametrize("names", [["user_id", "item_id", "tag_id"], [b"user", b"item", b"hour"]])
def test_a_click_file_may_name_its_item_as_others_do(tmp_path: Path, names: list[str] | list[bytes]) -> None:
    file = table(tmp_path / "clicks.npz", np.random.default_rng(0))
    with np.load(file) as arrays:
        changed = {**arrays, "fields": np.array(names)}
    np.savez(file, **changed)
    read = click_table.Table.read(file)
    assert len(read.fields) == 2
    assert read.size == 30 + FIRST


def test_a_damaged_click_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    file = table(tmp_path / "clicks.npz", np.random.default_rng(0))
    whole = file.read_bytes()
    flipped = whole[:1000] + bytes([whole[1000] ^ 255]) + whole[1001:]
    np.save(tmp_path / "array.npy", np.zeros(3))
    for content in (whole[: len(whole) // 2], flipped, b"", (tmp_path / "array.npy").read_bytes()):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be read as \.npz"):
            click_table.Table.read(file)


def test_trees_are_left_out_where_clicks_are_too_few_to_grow_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = table(tmp_path / "clicks.npz", rng)
    with np.load(file) as arrays:
        few = {**arrays, "train_y": (np.arange(6000) < 3).astype(np.int8)}
    np.savez(file, **few)
    config = replace(click.DEFAULTS, size="tiny", epochs=1, xla=False)
    found = click_yardsticks.yardsticks_of(click_table.Table.read(file), config, lambda *_: None)
    assert set(found) == {"popularity", "logistic", "svm", "dnn"}


def test_only_a_model_that_retrieves_is_asked_for_the_next_item(tmp_path: Path) -> None:
    (tmp_path / "sequences.txt").write_text("u1 a b c d\nu2 b c d\n", encoding="utf-8")
    with pytest.raises(ValueError, match="The model dnn does not learn which item comes next"):
        next_item.run_next_item(tmp_path / "sequences.txt", replace(next_item.DEFAULTS, model="dnn"))
