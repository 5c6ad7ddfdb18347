"""``explain: true``: over fakes what the answer says and what it does without, over a real model that it adds up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from app.agreement import verify_signatures
from app.catalogue import ItemContent
from app.errors import DeadlineExceeded, Overloaded, StartupError
from app.loading import load
from app.metrics import Metrics
from app.replies import PredictResponse
from app.runtime import Runtime
from app.settings import Settings
from models.datasets.storefront import simulate
from models.encode import Moment, encode_history
from models.export import export
from models.log import Log, build_contract, build_log, build_vocabulary, split_by_time
from models.run import TrainConfig, build_network, build_variables
from models.scoring import Scorer
from tests.app.conftest import House

FOREVER = float("inf")

# Over fakes: the event in slot s of 4 moves every target by s, a field by its id, and the base is minus the item's id.


async def test_an_explanation_names_what_moved_the_prediction_and_adds_up(house: House) -> None:
    """Two events are in slots 3 and 4; mobile is id 2, 12 o'clock id 14, and nothing is known of the country."""
    house.did("u", ("click", "shoe"), ("cart", "hat"))
    answer = await house.predict(user_id="u", items=["boot"], context={"device": "mobile"}, k=1, explain=True)
    PredictResponse.model_validate(answer, strict=False, extra="forbid")
    [prediction] = answer["predictions"]
    assert list(prediction["explanation"]) == ["click", "purchase"]
    assert prediction["explanation"]["click"] == {
        "base": -3.0,
        "log_odds": -3.0 + 3 + 4 + 2 + 14,
        "events": [
            {
                "item_id": "hat",
                "title": "Felt hat",
                "type": "cart",
                "at": "2026-01-31T11:59:00+00:00",
                "contribution": 4,
            },
            {
                "item_id": "shoe",
                "title": "Red shoe",
                "type": "click",
                "at": "2026-01-31T11:58:00+00:00",
                "contribution": 3,
            },
        ],
        "other_events": 0.0,
        "context": [
            {"field": "hour", "value": "12:00", "contribution": 14},
            {"field": "device", "value": "mobile", "contribution": 2},
        ],
        "attributes": [
            {"attribute": name, "contribution": 0}
            for name in ("item", "category 1", "category 2", "price", "popularity")
        ],
    }
    [recommendation] = answer["recommendations"]
    assert recommendation["explanation"]["purchase"]["base"] == -2.0


async def test_nothing_is_explained_unasked(house: House) -> None:
    answer = await house.predict(user_id="u", items=["hat"], k=1)
    assert answer["predictions"][0]["explanation"] is None
    assert answer["recommendations"][0]["explanation"] is None
    assert not house.model.explained


async def test_the_first_ten_predictions_are_explained(house: House) -> None:
    answer = await house.predict(user_id="u", items=["hat", "cap"] * 6, k=1, explain=True)
    told = [prediction["explanation"] is not None for prediction in answer["predictions"]]
    assert told == [True] * 10 + [False] * 2


async def test_a_cached_user_is_read_once_more_for_their_events(house: House) -> None:
    house.did("u", ("click", "shoe"))
    assert (await house.predict(user_id="u"))["provenance"]["state"] == "computed"
    answer = await house.predict(user_id="u", k=1, explain=True)
    assert answer["provenance"]["state"] == "computed"
    assert answer["recommendations"][0]["explanation"]["click"]["events"][0]["item_id"] == "shoe"
    assert house.history.reads == 2


async def test_without_mongodb_a_cached_user_gets_predictions_without_explanation(house: House) -> None:
    house.did("u", ("click", "shoe"))
    await house.predict(user_id="u")
    house.history.lost = True
    answer = await house.predict(user_id="u", items=["hat"], k=1, explain=True)
    assert answer["provenance"]["state"] == "cached"
    assert answer["provenance"]["degraded"] == ["explanation"]
    assert answer["predictions"][0]["explanation"] is None
    assert answer["predictions"][0]["probabilities"]["click"] > 0
    assert house.sample("foretell_degraded_total", part="explanation") == 1


async def test_without_mongodb_and_cache_the_answer_lacks_history_and_explanation(house: House) -> None:
    house.history.lost = True
    answer = await house.predict(user_id="u", k=1, explain=True)
    assert answer["provenance"]["degraded"] == ["history", "explanation"]
    assert answer["recommendations"][0]["explanation"] is None


async def test_session_events_explain_too(house: House) -> None:
    answer = await house.predict(session=[{"type": "click", "item_id": "sock"}], k=1, explain=True)
    [event] = answer["recommendations"][0]["explanation"]["click"]["events"]
    assert (event["item_id"], event["contribution"]) == ("sock", 4)


async def test_who_has_done_nothing_is_explained_by_moment_and_item(house: House) -> None:
    answer = await house.predict(user_id="nobody", k=1, explain=True)
    explanation = answer["recommendations"][0]["explanation"]["click"]
    assert explanation["events"] == []
    assert [part["field"] for part in explanation["context"]] == ["hour"]


async def test_too_many_explanations_cost_no_prediction(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: Any, **__: Any) -> Any:
        raise Overloaded("The model has more requests than it can answer in time.")

    monkeypatch.setattr(house.model, "explain", full)
    answer = await house.predict(user_id="u", k=1, explain=True)
    assert answer["provenance"]["degraded"] == ["explanation"]
    assert len(answer["recommendations"]) == 1


async def test_a_model_that_cannot_explain_says_so(house: House) -> None:
    house.model.explains = False
    response = await house.client.post("/predict", json={"user_id": "u", "explain": True})
    assert response.status_code == 422
    assert response.json()["fields"][0]["field"] == "explain"


# Over a real model.


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Runtime, Log]]:
    """A behaviour model of a small shop that nobody trained, and the shop."""
    shop = simulate(seed=3, users=40, items=60, events=3_000)
    split = split_by_time(shop)
    vocabulary = build_vocabulary(shop, split.validation)
    contract = build_contract(shop, vocabulary, shop.domain, split.validation, history_length=8, negatives=2)
    log = build_log(shop, vocabulary, contract, split.validation)
    tf.random.set_seed(0)
    network = build_network(contract, log.content, TrainConfig())
    build_variables(network)
    root = tmp_path_factory.mktemp("explained")
    export(network, root, "storefront", kind="behaviour", vocabulary=vocabulary, golden=[], metrics={}, facts={})
    runtime = load(Settings(model_root=root, candidates=20, max_batch=2, xla=False), Metrics())
    yield runtime, log
    runtime.close()


async def test_contributions_add_up_to_the_log_odds_that_are_served_of_newcomers_too(real: tuple[Runtime, Log]) -> None:
    runtime, log = real
    arrays = encode_history(Scorer(log, {}).history(0, 6), log.contract)
    moment = Moment(np.full(len(log.contract.fields), 2), 5.0)
    contents = [ItemContent(None, (), 5.0), ItemContent(None, (), 9.0)]
    ids = np.array([2, 7, runtime.places, runtime.places + 1], np.int32)
    state = await runtime.encode(arrays, deadline=FOREVER)
    parts, scored = await asyncio.gather(
        runtime.explain(arrays, 6, moment, ids, contents, deadline=FOREVER),
        runtime.score(state, 6, moment, ids, contents, deadline=FOREVER),
    )
    total = parts["base"] + sum(parts[name].sum(axis=-1) for name in ("events", "context", "attributes"))
    for i, name in enumerate(runtime.artifact.contract.targets):
        np.testing.assert_allclose(1 / (1 + np.exp(-total[:, i])), scored[name], atol=1e-5)


async def test_an_explanation_that_comes_too_late_is_not_begun(real: tuple[Runtime, Log]) -> None:
    runtime, _ = real
    nothing = np.zeros(0, np.int32)
    with pytest.raises(DeadlineExceeded):
        await runtime.explain({}, 0, Moment(nothing, 0.0), nothing, deadline=0.0)


def test_a_model_of_before_explanations_still_serves(real: tuple[Runtime, Log]) -> None:
    runtime, _ = real
    less = {name: function for name, function in runtime._functions._module.signatures.items() if name != "explain"}
    verify_signatures(SimpleNamespace(signatures=less), runtime.artifact.contract)
    with pytest.raises(StartupError, match="'score'"):
        verify_signatures(
            SimpleNamespace(signatures={k: less[k] for k in less if k != "score"}), runtime.artifact.contract
        )
