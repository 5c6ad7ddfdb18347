"""The runtime over real TensorFlow and the shipped model: what it verifies, and that batches change nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from app.agreement import verify_reach, verify_signatures, verify_tables
from app.catalogue import ItemContent
from app.errors import StartupError
from app.loading import load
from app.metrics import Metrics
from app.runtime import Runtime, choose_device
from app.runtime.functions import Functions
from app.selection import Allowed, Selection
from app.settings import Settings
from models.artifact import Artifact, open_artifact, publish
from models.contract import FIRST
from models.datasets.storefront import simulate
from models.encode import Arrays, Event, Moment, encode_history, to_history
from tests.app.fakes import CONTRACT
from tests.models.untrained import publish_untrained

SAVED = Path(__file__).parents[2] / "models" / "saved"
FOREVER = float("inf")


@pytest.fixture(scope="module", params=[False, True], ids=["as saved", "compiled"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    runtime = load(Settings(model_root=SAVED, xla=request.param, max_batch=4), Metrics())
    yield runtime
    runtime.close()


def scene(runtime: Runtime, items: list[int]) -> dict[str, np.ndarray]:
    """The encoder's inputs for clicks on some items, a minute apart."""
    artifact = runtime.artifact
    names = [artifact.vocabulary.item_name(item) for item in items]
    events = [Event(name, "click", 1e9 + 60 * i) for i, name in enumerate(names)]
    return encode_history(to_history(events, artifact.vocabulary, artifact.contract), artifact.contract)


def in_vocabulary(runtime: Runtime) -> np.ndarray:
    """A mask of the vocabulary, over all that the model has rows for."""
    ids = np.arange(runtime.places)
    return (ids >= FIRST) & (ids < runtime.artifact.contract.items)


def every(runtime: Runtime) -> Allowed:
    """All items of the vocabulary."""
    return Allowed(Selection(in_vocabulary(runtime)))


async def outcomes(runtime: Runtime, items: list[int], candidates: list[int]) -> dict[str, np.ndarray]:
    state = await runtime.encode(scene(runtime, items), deadline=FOREVER)
    moment = Moment(np.zeros(len(runtime.artifact.contract.fields), np.int32), 1.0)
    return await runtime.score(state, len(items), moment, np.array(candidates, np.int32), deadline=FOREVER)


async def test_requests_computed_together_get_what_they_get_alone(runtime: Runtime) -> None:
    asked = [([], [5]), ([7, 8, 9], [10, 11, 12, 13]), ([20] * 50, [20, 21])]
    together = await asyncio.gather(*(outcomes(runtime, *one) for one in asked))
    for one, found in zip(asked, together, strict=True):
        alone = await outcomes(runtime, *one)
        for name, values in alone.items():
            assert found[name].shape == (len(one[1]),)
            np.testing.assert_allclose(found[name], values, atol=1e-5)


async def test_retrieval_keeps_to_what_is_allowed_also_beside_a_request_that_allows_all(runtime: Runtime) -> None:
    state = await runtime.encode(scene(runtime, [7, 8]), deadline=FOREVER)
    moment = Moment(np.zeros(len(runtime.artifact.contract.fields), np.int32), 1.0)
    mask = np.zeros(runtime.places, bool)
    mask[[30, 40]] = True
    (few, _), (all_of_them, outcomes) = await asyncio.gather(
        runtime.recommend(state, 2, moment, Allowed(Selection(mask)), 100, deadline=FOREVER),
        runtime.recommend(state, 2, moment, every(runtime), 100, deadline=FOREVER),
    )
    assert set(few.tolist()) == {30, 40}
    assert (all_of_them >= FIRST).all()
    assert len(set(all_of_them.tolist())) == len(all_of_them) == len(outcomes["click"]) == 100


async def test_a_mask_that_a_batch_shares_is_not_taken_for_the_next_ones(runtime: Runtime) -> None:
    """Masks are kept from batch to batch of one size."""
    state = await runtime.encode(scene(runtime, [7, 8]), deadline=FOREVER)
    moment = Moment(np.zeros(len(runtime.artifact.contract.fields), np.int32), 1.0)
    first, second = np.zeros(runtime.places, bool), np.zeros(runtime.places, bool)
    first[[30, 40]] = second[[50, 60, 70]] = True
    selections = [Selection(first), Selection(second)]
    for chosen in (0, 1, 0, 1, 1):
        for without in ([], [30, 50]):
            allowed = Allowed(selections[chosen], np.array(without, np.int32))
            asked = (runtime.recommend(state, 2, moment, allowed, 100, deadline=FOREVER) for _ in range(5))
            for items, _ in await asyncio.gather(*asked):
                assert set(items.tolist()) == ({30, 40}, {50, 60, 70})[chosen] - set(without)


async def test_as_many_items_are_retrieved_as_are_wanted_and_an_older_model_finds_the_same(tmp_path: Path) -> None:
    """The shipped model is older: it has no ``relevance``, finds as many as it can, and keeps those that are wanted."""
    shop = simulate(seed=3, users=40, items=150, events=3_000)
    artifact = publish_untrained(shop, tmp_path, "fresh", "behaviour")
    runtime = Runtime.load(artifact, Settings(candidates=20, max_k=20, max_batch=1), Metrics())
    functions = runtime._functions
    assert "relevance" in functions
    state = await runtime.encode(scene(runtime, [7, 8, 9]), deadline=FOREVER)
    moment = Moment(np.zeros(len(artifact.contract.fields), np.int32), 1.0)
    items, outcomes = await runtime.recommend(state, 3, moment, every(runtime), 20, deadline=FOREVER)
    asked = {
        "state": state[None],
        "lengths": np.array([3]),
        "context": moment.fields[None],
        "since": np.array([moment.since]),
        "allowed": every(runtime).mask()[None],
    }
    known = functions("retrieve", asked)
    assert items.tolist() == known["items"][0, :20].tolist()
    assert len(known["items"][0]) > 20
    functions._signatures = {name: s for name, s in functions._signatures.items() if name != "relevance"}
    found = functions._recommend(
        20, **{name: tf.constant(array) for name, array in functions._cast("retrieve", asked).items()}
    )
    assert found["items"][0].numpy().tolist() == items.tolist()
    np.testing.assert_allclose(found["click"][0], outcomes["click"], rtol=1e-4, atol=1e-6)
    runtime.close()


async def test_what_is_recommended_has_the_outcomes_of_being_scored_and_more_begins_with_the_same(
    runtime: Runtime,
) -> None:
    """Compiled in one for up to 100 items, as it was saved for more, and scored by name: the same numbers."""
    state = await runtime.encode(scene(runtime, [7, 8, 9]), deadline=FOREVER)
    moment = Moment(np.zeros(len(runtime.artifact.contract.fields), np.int32), 1.0)
    few, outcomes = await runtime.recommend(state, 3, moment, every(runtime), 100, deadline=FOREVER)
    many, more = await runtime.recommend(state, 3, moment, every(runtime), 200, deadline=FOREVER)
    scored = await runtime.score(state, 3, moment, few, deadline=FOREVER)
    assert (len(few), len(many)) == (100, 200)
    assert len(set(few.tolist()) - set(many[:102].tolist())) == 0  # equal scores may change places
    for name, column in scored.items():
        np.testing.assert_allclose(outcomes[name], column, rtol=1e-4, atol=1e-6)
    by_item = dict(zip(many.tolist(), more["click"].tolist(), strict=True))
    np.testing.assert_allclose([by_item[item] for item in few.tolist()], outcomes["click"], rtol=1e-4)


async def test_no_size_of_a_batch_is_traced_under_traffic(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs were made when the model was loaded: whatever runs now runs no Python of theirs."""

    def traced(*_: Any, **__: Any) -> None:
        raise AssertionError("a graph is traced anew")

    monkeypatch.setattr(runtime._functions, "_signatures", dict.fromkeys(("retrieve", "relevance", "score"), traced))
    contract = runtime.artifact.contract
    state = np.zeros(contract.state_shape, contract.state_dtype)
    moment = Moment(np.zeros(len(contract.fields), np.int32), 0.0)
    for together in (1, 2, 3, 5, 7):
        wanted = (
            runtime.recommend(state, 0, moment, every(runtime), n, deadline=FOREVER) for n in (10, 200) * together
        )
        assert all(len(items) >= 10 for items, _ in await asyncio.gather(*wanted))


def newcomer(runtime: Runtime, place: int) -> ItemContent:
    """Content that differs from place to place: a category and a price."""
    names = runtime.artifact.vocabulary.categories[0]
    return ItemContent(None, (names[place % len(names)],), 1.0 + place, True)


async def ask(runtime: Runtime, request: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Outcomes for a request: of the items from a first one on, then of newcomers."""
    first, items, newcomers = request
    contract = runtime.artifact.contract
    state = np.zeros(contract.state_shape, contract.state_dtype)
    candidates = [*range(first, first + items), *range(runtime.places, runtime.places + newcomers)]
    contents = [newcomer(runtime, first + i) for i in range(newcomers)]
    moment = Moment(np.zeros(len(contract.fields), np.int32), 1.0)
    return await runtime.score(state, 0, moment, np.array(candidates, np.int32), contents, deadline=FOREVER)


@settings(deadline=None, max_examples=15)
@given(
    st.lists(
        st.tuples(st.integers(FIRST, 900), st.sampled_from([1, 20, 100, 1500]), st.sampled_from([0, 0, 1, 50, 1100])),
        min_size=2,
        max_size=12,
    )
)
def test_no_request_ever_gets_what_was_computed_for_another(
    runtime: Runtime, requests: list[tuple[int, int, int]]
) -> None:
    """Long lists, short ones and newcomers at the same time: each gets what it gets alone."""

    async def together() -> list[dict[str, np.ndarray]]:
        return await asyncio.gather(*(ask(runtime, request) for request in requests))

    for request, found in zip(requests, asyncio.run(together()), strict=True):
        alone = asyncio.run(ask(runtime, request))
        for name, values in alone.items():
            assert found[name].shape == (request[1] + request[2],)
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6)


async def test_a_long_list_makes_no_batch_larger(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven short requests beside 5,000 candidates; all padded to the longest would be 40,000 rows."""
    rows: list[int] = []
    call = Functions.__call__

    def recorded(functions: Functions, name: str, arrays: Arrays) -> Arrays:
        if name == "score":
            rows.append(arrays["candidates"].size)
        return call(functions, name, arrays)

    monkeypatch.setattr(Functions, "__call__", recorded)
    await asyncio.gather(ask(runtime, (FIRST, 4900, 0)), *(ask(runtime, (FIRST, 100, 0)) for _ in range(7)))
    assert max(rows) <= 32 * 100
    assert sum(rows) >= 4900 + 7 * 100


async def test_a_request_beside_a_long_list_waits_for_a_turn_of_it_only(runtime: Runtime) -> None:
    answered: list[str] = []

    async def named(name: str, request: tuple[int, int, int]) -> None:
        await ask(runtime, request)
        answered.append(name)

    await asyncio.gather(named("long", (FIRST, 4900, 0)), named("short", (FIRST, 10, 0)))
    assert answered == ["short", "long"]


async def newcomers_scored(runtime: Runtime, contents: list[ItemContent]) -> dict[str, np.ndarray]:
    """Outcomes for items that only the catalogue knows, for somebody without a history."""
    contract = runtime.artifact.contract
    ids = runtime.places + np.arange(len(contents), dtype=np.int32)
    state = np.zeros(contract.state_shape, contract.state_dtype)
    moment = Moment(np.zeros(len(contract.fields), np.int32), 1.0)
    return await runtime.score(state, 0, moment, ids, contents, deadline=FOREVER)


async def test_an_item_beyond_the_vocabulary_is_scored_by_its_content_of_this_moment(runtime: Runtime) -> None:
    path = tuple(level[0] for level in runtime.artifact.vocabulary.categories)
    first = await newcomers_scored(runtime, [ItemContent("New", path, 3.0, True)])
    dearer = await newcomers_scored(runtime, [ItemContent("New", path, 300.0, True)])
    bare = await newcomers_scored(runtime, [ItemContent(None, (), None, True)])
    again = await newcomers_scored(runtime, [ItemContent("Renamed", path, 3.0, True)])
    for name in runtime.artifact.contract.targets:
        assert 0 < first[name][0] < 1
        assert len({float(one[name][0]) for one in (first, dearer, bare)}) == 3
        assert again[name][0] == first[name][0]


async def test_there_is_no_end_to_items_beyond_the_vocabulary(runtime: Runtime) -> None:
    """12,000 at once; the last one gets what it gets alone, and the vocabulary's own items are as before."""
    contents = [newcomer(runtime, place) for place in range(12_000)]
    before = await ask(runtime, (FIRST, 50, 0))
    found = await newcomers_scored(runtime, contents)
    alone = await newcomers_scored(runtime, contents[-1:])
    after = await ask(runtime, (FIRST, 50, 0))
    for name, values in found.items():
        np.testing.assert_allclose(values[-1], alone[name][0], rtol=1e-4)
        np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_and_auto_takes_the_cpu() -> None:
    with pytest.raises(StartupError, match="FORETELL_DEVICE is gpu, but TensorFlow finds no GPU"):
        choose_device("gpu")
    assert choose_device("auto") == choose_device("cpu") == "cpu"


def test_a_gpu_computes_with_all_the_bits_of_its_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    """The golden examples come from a CPU. There is no GPU here: TensorFlow is made to think so."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, enable: None)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"device_name": "NVIDIA H100"})
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(True)
    try:
        assert choose_device("gpu") == "gpu:0 NVIDIA H100"
        assert not tf.config.experimental.tensor_float_32_execution_enabled()
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def test_no_table_is_of_a_kind_that_stays_on_the_host(runtime: Runtime) -> None:
    """Nor in the shipped model: XLA on a GPU reads only what is on the GPU."""
    shipped = tf.saved_model.load(str(open_artifact(SAVED, "storefront").saved_model))
    for categories in (shipped.categories, runtime._functions._tables["categories"]):
        assert categories.dtype == tf.int64


@pytest.mark.parametrize(
    ("device", "xla", "dtype", "refused"),
    [
        ("gpu:0 NVIDIA H200", True, tf.int32, True),
        ("gpu:0 NVIDIA H200", True, tf.int64, False),
        ("gpu:0 NVIDIA H200", False, tf.int32, False),
        ("cpu", True, tf.int32, False),
    ],
)
def test_an_older_model_that_a_gpu_cannot_read_stops_the_start(
    device: str, xla: bool, dtype: Any, refused: bool
) -> None:
    module = SimpleNamespace(categories=tf.zeros([2, 1], dtype))
    with pytest.raises(StartupError, match="export it again") if refused else nullcontext():
        verify_tables(module, device, xla)


@pytest.mark.parametrize("name", ["max_k", "candidates"])
def test_a_setting_beyond_what_the_model_retrieves_stops_the_start(name: str) -> None:
    beyond = Settings(model_root=SAVED).model_copy(update={name: 201})
    with pytest.raises(StartupError, match=f"FORETELL_{name.upper()} is 201, but the model retrieves 200 items"):
        load(beyond, Metrics())


def test_a_catalogue_smaller_than_the_settings_is_retrieved_whole_and_fine() -> None:
    """The fakes' model has six items and retrieves six; the defaults ask for 200."""
    verify_reach(Settings(), CONTRACT)
    with pytest.raises(StartupError, match="retrieves 5 items"):
        verify_reach(Settings(), replace(CONTRACT, retrieval_size=5))


def republish(root: Path, golden: list[dict[str, Any]]) -> Artifact:
    """The shipped model with other golden examples, every checksum right."""
    shipped = open_artifact(SAVED, "storefront")
    known = {"format", "name", "version", "kind", "fingerprint", "contract", "files", "digest"}

    def copy(folder: Path) -> None:
        shutil.copytree(shipped.saved_model, folder)

    return publish(
        root,
        "storefront",
        kind="behaviour",
        contract=shipped.contract,
        vocabulary=shipped.vocabulary,
        golden=golden,
        metrics=shipped.metrics(),
        facts={key: value for key, value in shipped.manifest.items() if key not in known},
        save_model=copy,
    )


def test_a_golden_example_that_comes_out_differently_stops_the_start(tmp_path: Path) -> None:
    golden = json.loads(json.dumps(open_artifact(SAVED, "storefront").golden()))
    golden[2]["expected"]["purchase"][0] += 0.001
    republish(tmp_path, golden)
    with pytest.raises(StartupError, match="Golden example 2 gives another purchase than was recorded"):
        load(Settings(model_root=tmp_path, xla=False), Metrics())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"state_dtype": "float32"}, "has state as float16"),
        ({"retrieval_size": 7}, "has items as int32"),
        ({"value_scales": {}}, "has the outputs"),
    ],
)
def test_signatures_that_are_not_the_contracts_are_told(
    runtime: Runtime, change: dict[str, Any], sentence: str
) -> None:
    contract = replace(runtime.artifact.contract, **change)
    with pytest.raises(StartupError, match=sentence):
        verify_signatures(runtime._functions._module, contract)


def test_a_saved_model_tensorflow_cannot_read_is_one_sentence(tmp_path: Path) -> None:
    shipped = open_artifact(SAVED, "storefront")

    def nonsense(folder: Path) -> None:
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(b"nonsense")

    publish(
        tmp_path,
        "storefront",
        kind="behaviour",
        contract=shipped.contract,
        vocabulary=shipped.vocabulary,
        golden=[],
        metrics={},
        facts={},
        save_model=nonsense,
    )
    with pytest.raises(StartupError, match="TensorFlow cannot load"):
        load(Settings(model_root=tmp_path, xla=False), Metrics())
