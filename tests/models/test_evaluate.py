"""Evaluation: lists with several relevant items, groups, yardsticks and rivals on the same rows, all by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.contract import FIRST, Contract
from models.datasets.dataset import Dataset
from models.decisions import Decisions
from models.encode import Arrays
from models.evaluate import Rival, Scored, Scorer, evaluate, gather
from models.intervals import Resamples
from models.log import Log, Split, split_by_time
from models.measure import Ruler
from models.metrics import auc, list_ndcg_and_hits
from models.questions import Questions, ask, group_names, group_of
from models.yardsticks import Answers, item_mean, popularity, user_mean


def test_a_list_with_several_relevant_items_is_measured_against_its_best_possible_order() -> None:
    """List 7 has relevant items at ranks 1 and 3; list 4 one at rank 2; list 9 two beyond the tenth place."""
    ranks, lists = np.array([1, 2, 3, 11, 50]), np.array([7, 4, 7, 9, 9])
    ndcg, hits, rows = list_ndcg_and_hits(ranks, lists)
    assert rows.tolist() == [1, 0, 3]  # lists 4, 7, 9
    second = 1 / np.log2(3)
    np.testing.assert_allclose(ndcg, [second, (1 + 0.5) / (1 + second), 0])
    assert hits.tolist() == [1, 1, 0]


def test_the_best_possible_order_has_no_more_than_ten_places() -> None:
    ndcg, _, _ = list_ndcg_and_hits(np.arange(1, 13), np.zeros(12, int))
    assert ndcg == pytest.approx([1.0])


def test_groups_are_named_by_their_ends() -> None:
    assert group_names((0, 1, 5, 20, 50)) == ["0", "1-4", "5-19", "20-49", "50+"]
    assert group_of(np.array([0, 1, 4, 5, 49, 50, 900]), (0, 1, 5, 20, 50)).tolist() == [0, 1, 1, 2, 3, 4, 4]


class Clairvoyant:
    """Knows every label, and finds every item first."""

    def score(self, decisions: Decisions) -> Scored:
        return Scored(np.clip(decisions.labels, 0.01, 0.99), np.nan_to_num(decisions.values))

    def ranks(self, moves: Decisions) -> np.ndarray:
        return np.ones(len(moves), np.int64)


@pytest.fixture(scope="module")
def split(shop: Dataset) -> Split:
    return split_by_time(shop)


@pytest.fixture(scope="module")
def functions(log: Log) -> dict[str, object]:
    """A served model that likes items with high ids: retrieves them first, and orders purchases the other way round."""
    contract = log.contract

    def retrieve(arrays: Arrays) -> Arrays:
        best = contract.items - 1 - np.arange(contract.retrieval_size, dtype=np.int32)
        return {"items": np.repeat(best[None], len(arrays["lengths"]), axis=0)}

    def score(arrays: Arrays) -> Arrays:
        p = (arrays["candidates"] / contract.items / 2).astype(np.float32)
        return {"click": p, "purchase": 0.5 - p, "amount": 1 + p, "rating": 3 + p}

    def encode(arrays: Arrays) -> Arrays:
        return {"state": np.zeros((len(arrays["items"]), 1, 1), np.float16)}

    return {"retrieve": retrieve, "score": score, "encode": encode}


@pytest.fixture(scope="module")
def questions(shop: Dataset, log: Log, split: Split) -> Questions:
    return ask(shop, log, split, limit=3000)


def test_the_catalogue_is_ranked_as_retrieved_and_then_by_each_targets_probability(
    log: Log, functions: dict[str, object], questions: Questions
) -> None:
    moves, contract = questions.moves, log.contract
    ranks = Scorer(log, functions).ranks_by_target(moves)  # type: ignore[arg-type]
    assert ranks.shape == (len(moves), 3)
    from_the_end = contract.items - moves.items
    assert contract.retrieval_size == contract.items - FIRST  # so that every item is found
    np.testing.assert_array_equal(ranks[:, 0], from_the_end)
    np.testing.assert_array_equal(ranks[:, 1], from_the_end)  # clicks: the same order
    np.testing.assert_array_equal(ranks[:, 2], moves.items - FIRST + 1)  # purchases: the other way round
    np.testing.assert_array_equal(Scorer(log, functions).ranks(moves), from_the_end)  # type: ignore[arg-type]


def test_errors_of_values_are_as_counted_by_hand(log: Log, questions: Questions) -> None:
    """Every second known amount is 1 too high, every other 3 too low: 2 in the mean, the root of 5 in the square."""
    known = np.isfinite(questions.decisions.values[:, 0])
    off = np.zeros((len(known), len(log.contract.values)))
    off[known, 0] = np.resize([1.0, -3.0], known.sum())
    even = np.flatnonzero(known)[: known.sum() // 2 * 2]
    part = replace(questions, decisions=questions.decisions.take(even))
    ruler = Ruler(log.contract, part, Resamples(part.users(), 10))
    found = ruler.measure(Answers(values=(part.decisions.values + off[even])))["amount"]
    assert found["rows"] == len(even) > 0
    assert (found["mae"].value, found["rmse"].value) == pytest.approx((2.0, np.sqrt(5.0)))


def test_every_contender_answers_the_same_rows_and_differences_have_signs(
    shop: Dataset, log: Log, split: Split, functions: dict[str, object]
) -> None:
    """The clairvoyant rival is perfect, so the model is worse than it by all that it lacks, with certainty."""
    rivals = {"clairvoyant": Rival(Clairvoyant())}
    report = evaluate(shop, log, split, functions, np.ones(32, np.float32), limit=3000, rivals=rivals, samples=200)  # type: ignore[arg-type]
    assert set(report) == {
        *("model", "popularity", "user mean", "item mean", "clairvoyant", "oracle"),
        *("intervals", "differences", "breakdown"),
    }
    ours, theirs = report["model"], report["clairvoyant"]
    assert ours["click"]["rows"] == theirs["click"]["rows"] == report["oracle"]["click"]["rows"]
    assert (theirs["click"]["auc"], theirs["retrieval"]["ndcg@10"], theirs["amount"]["mae"]) == (1, 1, 0)
    assert theirs["click"]["page ndcg@10"] == 1 > ours["click"]["page ndcg@10"]
    assert theirs["click"]["logloss"] == pytest.approx(-np.log(0.99), rel=1e-3)
    difference, low, high = report["differences"]["clairvoyant"]["click"]["auc"]
    assert difference == pytest.approx(ours["click"]["auc"] - 1)
    assert low < difference < high < 0
    low, high = report["intervals"]["model"]["click"]["auc"]
    assert low < ours["click"]["auc"] < high
    assert "logloss" not in report["popularity"]["click"]  # counts are no probabilities
    assert set(report["item mean"]) == {"amount", "rating"}


@pytest.mark.parametrize("name", ["model", "popularity", "oracle", "breakdown"])
def test_no_rival_takes_the_place_of_something_else(
    shop: Dataset, log: Log, split: Split, functions: dict[str, object], name: str
) -> None:
    with pytest.raises(ValueError, match=f"Beside another, {name} cannot be the name of a model"):
        evaluate(shop, log, split, functions, np.ones(32, np.float32), rivals={name: Rival(Clairvoyant())})  # type: ignore[arg-type]


def test_the_share_of_what_can_be_known_is_one_for_the_true_probabilities(
    shop: Dataset, log: Log, split: Split, functions: dict[str, object]
) -> None:
    report = evaluate(shop, log, split, functions, np.ones(32, np.float32), limit=3000, samples=50)  # type: ignore[arg-type]
    assert report["oracle"]["click"]["auc_ratio"] == 1
    assert report["oracle"]["click"]["expected_auc_ratio"] == 1
    assert report["oracle"]["click"]["distance"] == 0
    expected = (report["model"]["click"]["auc"] - 0.5) / (report["oracle"]["click"]["auc"] - 0.5)
    assert report["model"]["click"]["auc_ratio"] == pytest.approx(expected, rel=1e-5)
    history = report["breakdown"]["history"]
    assert list(history) == ["0", "1-4", "5-19", "20-49", "50+", "20+"]
    assert history["20+"]["oracle"]["purchase"]["auc_ratio"] in (1, pytest.approx(float("nan"), nan_ok=True))


def test_groups_add_up_to_all_rows(shop: Dataset, log: Log, split: Split, functions: dict[str, object]) -> None:
    evidence = gather(shop, log, split, functions, np.ones(32, np.float32), limit=3000)  # type: ignore[arg-type]
    report = evidence.report(samples=20)
    for kind in ("history", "popularity"):
        parts = [part for name, part in report["breakdown"][kind].items() if name != "20+"]
        for subject, count in (("click", "rows"), ("purchase", "lists"), ("amount", "rows"), ("retrieval", "rows")):
            assert sum(part["model"][subject][count] for part in parts) == report["model"][subject][count]


def test_at_a_place_that_is_looked_at_half_the_time_probabilities_are_half(
    shop: Dataset, log: Log, split: Split, functions: dict[str, object]
) -> None:
    half = np.full(32, 0.5, np.float32)
    evidence = gather(shop, log, split, functions, half, limit=500)  # type: ignore[arg-type]
    scores, items = evidence.answers["model"].scores, evidence.questions.decisions.items
    assert scores is not None
    np.testing.assert_allclose(scores[:, 0], items / log.contract.items / 4, rtol=1e-5)


def test_rare_behaviours_get_lists_of_their_own_beside_the_sample_of_all(shop: Dataset, log: Log, split: Split) -> None:
    """2,500 decisions: 20 lists at random, and 10 purchases beside them, or all there are."""
    few = ask(shop, log, split, limit=2500)
    assert few.sampled.sum() == 2500 // 125
    buys = log.types[(log.at >= split.validation) & (log.at < split.test)] == log.contract.type_id("purchase")
    assert (few.moves.labels[:, 1] > 0).sum() >= min(10, buys.sum())
    assert (few.moves.labels[few.sampled, 1] > 0).sum() < min(10, buys.sum())
    assert 20 < len(few.moves) <= 40


def test_popularity_counts_the_target_and_means_fall_back_to_the_mean_of_all(log: Log, questions: Questions) -> None:
    contract, before = log.contract, 1e18  # all events count
    clicks = log.items[log.types == contract.type_id("click")]
    answers = popularity(log, questions, before)
    bought = (log.types == contract.type_id("purchase")) & np.isfinite(log.values)
    buyer = np.repeat(np.arange(len(log.users)), np.diff(log.offsets))
    asked = questions.decisions
    row = int(np.flatnonzero(np.isin(asked.items, log.items[bought]) & np.isin(asked.user, buyer[bought]))[0])
    item, user = int(asked.items[row]), int(asked.user[row])
    assert answers.scores is not None
    assert answers.scores[row, 0] == np.sum(clicks == item)
    place = contract.values.index("amount")
    by_item, by_user = (mean(log, questions, before).values for mean in (item_mean, user_mean))
    assert by_item is not None
    assert by_user is not None
    assert by_item[row, place] == pytest.approx(log.values[bought & (log.items == item)].mean(dtype=np.float64))
    assert by_user[row, place] == pytest.approx(log.values[bought & (buyer == user)].mean(dtype=np.float64))
    nobody = item_mean(log, questions, before=0.0).values
    assert nobody is not None
    assert not nobody.any()  # nothing is known, and nothing is predicted


def test_what_was_shown_together_is_ranked_together(contract: Contract, questions: Questions) -> None:
    """Pages of three and of two items, in turns. By clicks the order is the first, the third, the second; of the other
    page both are equal, and stay as they stand. Clicked are the second and the third of the first page, and the second
    of the other one: places 3 and 2, and 2."""
    scores = np.array([[0.9], [0.5], [0.1], [0.5], [0.3]])
    pages = np.array([1, 0, 1, 0, 1])
    given = Answers(scores=scores).placed(pages)
    assert given.places is not None
    assert given.places.ravel().tolist() == [1, 1, 3, 2, 2]
    assert Answers().placed(pages).places is None

    rows = replace(
        questions.decisions.take(np.zeros(5, int)),
        at=np.array([7.0, 3.0, 7.0, 3.0, 7.0]),
        labels=np.array([[0, 0], [0, 0], [1, 0], [1, 0], [1, 0]], np.float32),
    )
    assert rows.pages.tolist() == pages.tolist()
    second, third = 1 / np.log2(3), 1 / 2
    for mask, expected in (
        (np.ones(5, bool), ((second + third) / (1 + second) + second) / 2),
        (np.arange(5) == 2, third),  # of a group alone: as it is placed among all
    ):
        asked = replace(questions, decisions=rows.take(mask))
        ruler = Ruler(replace(contract, behaviours=contract.behaviours[:1]), asked, Resamples(asked.users(), 10))
        found = ruler.measure(given.select(mask, slice(None), slice(None)))["click"]
        assert found["page ndcg@10"].value == pytest.approx(expected)


def test_pages_are_drawn_whole(shop: Dataset, log: Log, split: Split) -> None:
    every = ask(shop, log, split, limit=10**9).decisions
    some = ask(shop, log, split, limit=500).decisions
    sizes = np.bincount(every.pages)
    assert 500 - sizes.max() < len(some) <= 500
    for page in range(some.pages.max() + 1):
        rows = some.take(some.pages == page)
        assert len(rows) == np.sum((every.user == rows.user[0]) & (every.at == rows.at[0]))
    least = ask(shop, log, split, limit=1).decisions  # one page, however large
    assert len(least) > least.pages.max() + 1 == 1


def test_a_period_with_several_items_is_one_list(contract: Contract, questions: Questions) -> None:
    """Two rows of one list, found at ranks 1 and 3: one list, NDCG (1 + 1/2) / (1 + 1/log2 3), one hit."""
    moves = questions.moves.take(np.array([0, 0]))
    asked = replace(questions, moves=moves, lists=np.array([5, 5]), sampled=np.array([True, True]), matched=None)
    ruler = Ruler(contract, asked, Resamples(asked.users(), 10))
    found = ruler.measure(Answers(ranks=np.array([[1, 1, 1], [3, 3, 3]])))["retrieval"]
    assert found["rows"] == 1
    assert found["ndcg@10"].value == pytest.approx(1.5 / (1 + 1 / np.log2(3)))
    assert found["hr@10"].value == 1


def test_questions_about_periods_put_all_items_of_a_user_and_period_into_one_list(
    shop: Dataset, log: Log, split: Split
) -> None:
    log = replace(log, contract=replace(log.contract, negatives=4))
    asked = ask(shop, log, split, limit=2000, horizon_days=1.0)
    assert asked.matched is not None  # what was shown is not the question then
    sizes = np.bincount(asked.lists)
    assert sizes.max() > 1
    for name in np.unique(asked.lists):
        rows = asked.moves.take(asked.lists == name)
        assert len(np.unique(rows.user)) == len(np.unique(rows.at)) == 1
        assert len(np.unique(rows.items)) == len(rows)


def test_what_others_acted_on_at_the_time_takes_popularity_away(shop: Dataset, log: Log, split: Split) -> None:
    """Without exposures each event has uniform negatives, and once more negatives from the period's own items."""
    unseen = replace(shop, exposures=None)
    log = replace(log, contract=replace(log.contract, negatives=4))
    asked = ask(unseen, log, split, limit=400)
    assert asked.matched is not None
    assert len(asked.matched) == len(asked.decisions) == 400  # one of five rows is an event
    answers = popularity(log, asked, split.validation)
    assert answers.scores is not None
    assert answers.matched is not None
    uniform = auc(asked.decisions.labels[:, 0], answers.scores[:, 0])
    assert uniform > auc(asked.matched.labels[:, 0], answers.matched[:, 0])


def test_a_period_without_events_is_told(shop: Dataset, log: Log, functions: dict[str, object]) -> None:
    late = Split(log.at.max() + 1, log.at.max() + 2)
    with pytest.raises(ValueError, match="nothing to measure in the model's test time"):
        evaluate(shop, log, late, functions, np.ones(32, np.float32), part="test")  # type: ignore[arg-type]
